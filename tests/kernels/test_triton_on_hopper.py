"""The kernels compile for an H100, which no interpreter shows: their registers, their shared memory, how they load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: pip install --no-deps triton, beside torch for the CPU")
pytestmark = pytest.mark.slow

SHARED = 227 * 1024
"""Bytes of shared memory that a program may take on an H100. CUDA C programming guide, table of compute capabilities."""


@pytest.fixture(scope="module", params=["", "overlap"])
def kernels(request):
    """What became of each kernel; one after the other, and with programmatic dependent launch."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, Path(__file__).with_name("hopper.py"), request.param]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines()]
    return [kernel | {"overlap": request.param == "overlap"} for kernel in made]


def named(kernels, name, **known):
    return [k for k in kernels if k["kernel"] == name and known.items() <= k["known"].items()]


def test_every_kernel_fits(kernels):
    assert {k["kernel"] for k in kernels} == {"_one", "_few", "_row", "_read", "_add", "_split", "_causal"}
    for kernel in kernels:
        assert kernel["shared"] <= SHARED, kernel


def test_decode_spills_nothing(kernels):
    for kernel in kernels:
        assert kernel["kernel"] == "_causal" or kernel["stack"] == 0, kernel


def test_prefill_spills_little(kernels):
    for kernel in named(kernels, "_causal"):
        assert kernel["stack"] <= 256, kernel


def test_weights_and_caches_are_read_16_bytes_at_a_time(kernels):
    for kernel in named(kernels, "_one"):
        assert kernel["instructions"][r"ld.global\S*v4"] >= 4, kernel
    for kernel in [*named(kernels, "_few"), *named(kernels, "_read")]:
        assert kernel["instructions"]["cp.async.cg"] >= 16, kernel


def test_one_row_leaves_room_for_four_programs_a_processor(kernels):
    """Registers of 4 warps, or of 8, times 4: within a processor's 65536."""
    for kernel in named(kernels, "_one"):
        rows = kernel["known"]["ROWS"] * (2 if kernel["known"]["ACT"] else 1)
        warps = 4 if rows >= 4 else 8
        assert 4 * 32 * warps * kernel["registers"] <= 65536, kernel


def test_prefill_runs_on_the_wide_tensor_cores(kernels):
    for kernel in named(kernels, "_causal", QUERIES=128):
        assert kernel["instructions"]["wgmma.mma_async"], kernel


def test_what_starts_early_waits(kernels):
    for kernel in kernels:
        waits = kernel["overlap"] and kernel["kernel"] != "_causal"
        assert kernel["instructions"]["griddepcontrol.wait"] == waits, kernel
