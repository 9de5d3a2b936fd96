"""Engines against what they printed: caches of llama.cpp, pools of vLLM. Each number with its source."""

from pathlib import Path

import pytest
import yaml

import archlab
from archlab.engines import load_engine
from archlab.engines.vllm import available, pool
from archlab.hardware import load_hardware
from archlab.ledger import ledger
from archlab.units import GB, GIB
from archlab.workload import Workload

LOGS = yaml.safe_load((Path(__file__).parent / "engine_logs.yaml").read_text())
UNITS = {"MiB": 2**20, "GiB": GIB, "GB": GB}


def printed(entry):
    """Bytes that the source says."""
    unit = next(u for u in UNITS if u in entry)
    return entry[unit] * UNITS[unit]


def named(entries):
    return [pytest.param(e, id=f"{e.get('model', 'pool')}-{i}") for i, e in enumerate(entries)]


def cache(entry, engine):
    found = archlab.kv_cache(
        archlab.load(entry["model"]), entry["context"], entry["batch"], entry.get("kv", "bf16"), engine,
        **entry.get("options", {}),
    )  # fmt: skip
    return found.total if entry["part"] == "total" else found.by_part[entry["part"]]


@pytest.mark.parametrize("entry", named(LOGS["llama_cpp"]))
def test_llama_cpp_cache(entry):
    assert cache(entry, "llama_cpp") == pytest.approx(printed(entry), rel=entry["tolerance"])


@pytest.mark.parametrize("entry", named(LOGS["llama_cpp_output"]))
def test_llama_cpp_output_buffer(entry):
    engine = load_engine("llama_cpp", {"n_seq": entry["n_seq"]})
    found = engine.output_bytes(ledger(archlab.load(entry["model"])), Workload(context=1))
    assert found == pytest.approx(printed(entry), rel=entry["tolerance"])


def test_llama_cpp_counts_n_ctx_over_sequences():
    """39 live configurations of unslothai/unsloth pull request 7530: pad(pad(n_ctx) / n_seq) cells a stream."""
    engine = load_engine("llama_cpp")
    for n_ctx in (1024, 2048, 4096, 5000, 8192):
        for n_seq in (1, 2, 3, 4):
            padded = -(-n_ctx // 256) * 256
            cells = -(-(padded // n_seq) // 256) * 256
            assert engine.cells(n_ctx // n_seq, n_seq) == cells * n_seq


def pool_of(entry):
    spec = archlab.load(entry["model"])
    options = entry.get("options", {})
    one = pool(spec, 0, entry["max_model_len"], **options)
    room = entry["blocks"] * one.block_bytes if "blocks" in entry else printed(entry)
    return pool(spec, room, entry["max_model_len"], **options)


@pytest.mark.parametrize("entry", named(LOGS["vllm"]))
def test_vllm_says(entry):
    found = pool_of(entry)
    for what, said in entry["says"].items():
        tolerance = 0.0015 if what == "padding_share" else entry["tolerance"]  # printed as 3.45 %
        assert getattr(found, what) == pytest.approx(said, rel=tolerance), what


@pytest.mark.parametrize("entry", named(LOGS["vllm_pool"]))
def test_vllm_pool(entry):
    found = available(
        entry["capacity"] * GIB, entry["peak_torch"] * GIB, entry["non_torch"] * GIB, entry["gpu_memory_utilization"]
    )
    assert found == pytest.approx(printed(entry), rel=entry["tolerance"])


@pytest.mark.parametrize("entry", named(LOGS["documented"]))
def test_documented(entry):
    """Numbers that fit with what their source leaves open."""
    if entry["what"] == "cache":
        assert cache(entry, entry["engine"]) == pytest.approx(printed(entry), rel=entry["tolerance"])
    elif entry["what"] == "logits":
        logits = entry["rows"] * archlab.load(entry["model"]).vocab_size * 4
        assert logits == pytest.approx(printed(entry), rel=entry["tolerance"])
    else:
        found = pool_of(entry)
        for what, said in entry["says"].items():
            assert getattr(found, what) == pytest.approx(said, rel=entry["tolerance"]), what


def test_a_known_shape_by_hand():
    """Gemma 4 31B in vLLM: 10 global layers of 4 x 512, 50 sliding ones of 16 x 256; blocks of 32 and 16 tokens."""
    found = pool(archlab.load("gemma-4-31b"), 50 * GB, 131072, max_num_batched_tokens=2048)
    page = 16 * 2 * 16 * 256 * 2
    assert (found.groups, found.layers_per_group, found.block_bytes) == (6, 10, 10 * page)
    assert found.num_blocks == 50 * GB // (10 * page)
    assert found.blocks_per_request == 131072 // 32 + 5 * (-(-(1023 + 2048) // 16) + 1)


def test_a_step_without_a_device_is_that_of_a_large_one():
    """A server's 8192 tokens; a pool is asked without a device."""
    spec = archlab.load("gemma-4-31b")
    assert pool(spec, 50 * GB, 131072) == pool(spec, 50 * GB, 131072, max_num_batched_tokens=8192)


def test_a_device_has_what_torch_says():
    """Total memory in logs of vLLM, of which it takes its share: RTX 3090 (vllm_pool), RTX PRO 6000."""
    for entry in LOGS["vllm_pool"]:
        assert load_hardware("rtx-3090").available_bytes / GIB == pytest.approx(entry["capacity"], abs=0.005)
    assert load_hardware("rtx-pro-6000-bw").available_bytes / GIB == pytest.approx(94.97, abs=0.005)


def test_async_scheduling_counts_two_steps():
    """vLLM pull request 47728: a request may have two steps' tokens in flight."""
    spec = archlab.load("gemma-4-31b")
    one = pool(spec, 50 * GB, 131072, max_num_batched_tokens=4096)
    two = pool(spec, 50 * GB, 131072, max_num_batched_tokens=2048, async_scheduling=True)
    assert one.blocks_per_request == two.blocks_per_request
