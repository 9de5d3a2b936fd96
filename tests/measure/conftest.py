"""A tiny model, made-up rates of a device, and the two phases."""

import pytest
import torch

import archlab
from archlab.measure import bench
from archlab.measure.rooflines import Rooflines

TINY = {
    "d_model": 32, "n_layers": 3, "pattern": ["local", "global"], "vocab_size": 64, "attention.n_heads": 4, "attention.head_dim": 8,
    "mlp.d_ff": 48, "local.window": 8,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny operations on two threads wait for whatever else the machine runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def short_warmup(monkeypatch):
    monkeypatch.setitem(bench.WARMUP_S, "cpu", 0.01)


@pytest.fixture(scope="session")
def tiny():
    return archlab.load("gemma-3-270m", TINY)


@pytest.fixture(scope="session")
def rates():
    """10 GB/s and 100 GFLOP/s: bounds are then known, and no test waits for the device's own."""
    return Rooflines(
        device="a device", kind="cpu", dtype="fp32", memory_bytes=2**34, copy_bytes_per_s=8e9, read_bytes_per_s=1e10,
        matmul_flops_per_s=1e11, mode="quick", utc="2026-01-01T00:00:00+00:00", seconds=0.0,
    )  # fmt: skip


@pytest.fixture
def deep():
    """9 layers of a pattern of 2: one is left over."""
    return archlab.load("gemma-3-270m", {**TINY, "n_layers": 9})


@pytest.fixture
def prefill():
    return archlab.Workload(batch=2, new=24, context=24, logits="last")


@pytest.fixture
def decode(prefill):
    return prefill.decode()
