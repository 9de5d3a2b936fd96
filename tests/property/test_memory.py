"""What memory refuses, what it counts on devices of one memory, and how columns and points agree."""

import numpy as np
import pytest

import archlab
from archlab.analyzers.fit import fit_in, workload
from archlab.analyzers.memory import setting
from archlab.engines import load_engine
from archlab.errors import ArchlabError

SPEC = archlab.load("gemma-3-1b")
WORK = archlab.Workload(new=1024)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"capacity": 0}, "capacity=0 must be bytes"),
        ({"capacity": -1}, "must be bytes"),
        ({"capacity": True}, "must be bytes"),
        ({"capacity": float("nan")}, "must be bytes"),
        ({"capacity": 20}, "write it as 20 GiB"),
        ({"capacity": [1]}, "must be bytes"),
        ({"capacity": "20 gigs"}, "write it as"),
        ({"parallel": 5}, "parallel=5 must be keys"),
        ({"parallel": []}, "must be keys"),
        ({"parallel": {"tq": 2}}, "unknown key parallel.tq"),
        ({"parallel": {"ep": 2, "tp": 2}}, "has none"),
        ({"parallel": {"tp": np.array([2, 3, 8])}}, "columns have values that cannot be"),
        ({"training": True}, "training says how a step is trained"),
        ({"engine": ["vllm"]}, "engine"),
        ({"engine": "llama_cpp", "parallel": {"tp": 2}}, "splits a model by pp"),
        ({"engine": "vllm", "kv": "fp8", "kv_cache_dtype": "bfloat16"}, "both say the cache's format"),
        ({"engine": "vllm", "gpu_memory_utilization": 2}, "gpu_memory_utilization"),
        ({"precision": "q4_k_m", "engine": "vllm"}, "cannot run precision q4_k_m"),
        ({"kv": "fp9"}, "did you mean 'fp"),
    ],
    ids=str,
)
def test_what_cannot_be_is_a_sentence(asked, sentence):
    with pytest.raises(ArchlabError, match=r"^[^\n]*$") as problem:
        archlab.memory(SPEC, WORK, "l4", **asked)
    assert sentence in str(problem.value)


@pytest.mark.parametrize(
    ("training", "parallel", "sentence"),
    [
        (5, None, "training=5 must be keys"),
        ({"zero": 3}, None, "zero=3 divides over dp x cp ranks"),
        ({"lora_format": "bf16"}, None, "give lora_rank too"),
        ({"lora_rank": 8, "lora_targets": ["q", "q"]}, None, "a target twice"),
        ({"lora_rank": 8, "lora_targets": ["qq"]}, None, "lora_targets has 'qq'"),
        ({"optimizer": "adam"}, None, "did you mean 'adamw'"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(training, parallel, sentence):
    work = archlab.Workload(new=1024, train=True)
    with pytest.raises(ArchlabError, match=r"^[^\n]*$") as problem:
        archlab.memory(SPEC, work, "l4", training=training, parallel=parallel)
    assert sentence in str(problem.value)


@pytest.mark.parametrize("given", ["gemma-3-1b", None, 4096])
def test_a_model_and_a_workload_are_objects(given):
    with pytest.raises(ArchlabError):
        archlab.memory(given, WORK, "l4")
    with pytest.raises(ArchlabError):
        archlab.fit(given, "l4")
    with pytest.raises(ArchlabError):
        archlab.memory(SPEC, given, "l4")


@pytest.mark.parametrize(("device", "precision"), [("m1-16", "bf16"), ("jetson-orin-nano-8", "q8_0")])
def test_host_and_device_are_one_memory_where_there_is_one(device, precision):
    spec = archlab.load("gemma-4-e4b")
    found = archlab.fit(spec, device, precision, engine="llama_cpp")
    all_of_it = archlab.memory(spec, workload(spec, 1, max(found.max_context, 1)), device, precision, "llama_cpp")
    assert all_of_it.host > 0 and all_of_it.room is not None
    assert (found.max_context == 0) == (all_of_it.needed + all_of_it.host > all_of_it.room or not all_of_it.fits)
    apart = archlab.memory(spec, workload(spec, 1, 8192), "l4", precision, "llama_cpp")
    assert apart.room is None and apart.left == apart.budget - apart.needed


@pytest.mark.parametrize("engine", ["ideal", "hf", "vllm", "llama_cpp"])
def test_columns_are_points(engine):
    contexts, batches = [1, 100, 513, 4096, 70_000], [1, 7, 32]
    work = workload(SPEC, np.array(batches, dtype=float)[:, None], np.array(contexts, dtype=float)[None, :])
    found = archlab.memory(SPEC, work, "l4", engine=engine)
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            one = archlab.memory(SPEC, workload(SPEC, batch, context), "l4", engine=engine)
            assert np.broadcast_to(found.needed, (3, 5))[i, j] == one.needed
            assert bool(np.broadcast_to(found.fits, (3, 5))[i, j]) == one.fits
    with pytest.raises(ArchlabError, match="for one number"):
        _ = found.verdict


def test_a_tower_that_reads_nothing_gets_no_gradients():
    spec = archlab.load("gemma-3-4b")
    blind = archlab.memory(spec, archlab.Workload(new=1024, train=True)).by_part["gradients"]
    seeing = archlab.memory(spec, archlab.Workload(new=1024, train=True, images=1)).by_part["gradients"]
    towers = sum(archlab.params(spec).by_part[part] for part in ("vision", "projector"))
    assert seeing - blind == 2 * towers


def test_an_engine_object_takes_options_too():
    plain = archlab.memory(SPEC, WORK, "l4", engine=load_engine("llama_cpp"), swa_full=True)
    assert plain.needed == archlab.memory(SPEC, WORK, "l4", engine="llama_cpp", swa_full=True).needed


def test_numpy_sizes_are_sizes():
    asked = archlab.memory(SPEC, WORK, "h100-sxm", parallel={"tp": np.int64(2)}, engine="vllm", block_size=np.int64(32))
    assert (
        asked.needed == archlab.memory(SPEC, WORK, "h100-sxm", parallel={"tp": 2}, engine="vllm", block_size=32).needed
    )


def test_pictures_have_room_before_the_context_grows():
    spec = archlab.load("gemma-3-4b")
    work = archlab.Workload(new=4096, images=4, logits="last")
    found = fit_in(spec, work, setting("rtx-4090", "bf16", "ideal"))
    assert found.max_context > 4096
