"""Which decoder is timed, what keeps it from being the fast one, and what is said of that."""

import pytest
import torch

import archlab
from archlab.errors import ArchlabError
from archlab.measure.backends import backend_for
from archlab.measure.bench import Bench
from archlab.measure.checks import checks_for
from archlab.measure.single import run
from archlab.measure.studies import FAMILIES
from archlab.nn.build import FAST, build
from archlab.nn.decoder import Decoder
from archlab.nn.fast.claims import as_reference, obstacle
from archlab.nn.step import Step

FULL, STEP = archlab.Workload(new=64, logits="last"), archlab.Workload(new=1, context=64)


@pytest.mark.parametrize("name", archlab.models())
def test_every_preset_has_a_reason_or_none(name):
    """An encoder, attention to a source, biases and two directions; nothing else."""
    spec = archlab.load(name)
    source = 64 if spec.encoder is not None else 0
    work = archlab.Workload(new=64, logits="last" if spec.decodes else "all", source=source)
    leaves = spec.family in ("t5gemma", "t5gemma2", "gpt2", "embeddinggemma")
    assert bool(obstacle(spec, work)) == bool(obstacle(spec, work.decode() if spec.decodes else work)) == leaves


@pytest.mark.parametrize(
    ("name", "work", "why"),
    [
        ("gemma-3-4b", archlab.Workload(new=512, images=1), "images among the new tokens need a mask"),
        ("gemma-3-4b", archlab.Workload(new=1, context=512, images=1), ""),
        ("paligemma-3b-224", archlab.Workload(new=512, prefix=300), "a prefix whose tokens all see each other needs a mask"),
        ("paligemma-3b-224", archlab.Workload(new=1, context=512, prefix=300), ""),
        ("gemma-3-1b", archlab.Workload(new=4, context=9), "new tokens that follow others, more than one at once, need a mask"),
        ("gemma-3-1b", archlab.Workload(new=9, train=True), "a training step has a backward pass"),
        ("gpt2-xl", STEP, "attention adds biases to queries, keys and values"),
        ("embeddinggemma-300m", archlab.Workload(new=9), "attention is bidirectional"),
        ("t5gemma-b-b", archlab.Workload(new=9, source=9), "encoder.attention is bidirectional"),
        ("t5gemma-b-b", archlab.Workload(new=1, context=9, source=9), "cross_attention attends to a source's keys and values"),
        ("t5gemma-2-270m-270m", archlab.Workload(new=1, context=9, source=9), "attention attends to a source's keys and values too"),
    ],
)  # fmt: skip
def test_reasons(name, work, why):
    assert obstacle(archlab.load(name), work) == why


@pytest.mark.parametrize(
    "name", ["gemma-3-1b", "gemma-2-2b", "gemma-4-26b-a4b", "recurrentgemma-2b", "paligemma-3b-224"]
)
@torch.inference_mode()
def test_where_there_is_no_obstacle_no_mask_is_made(name, monkeypatch):
    """Against the modules themselves: the reference's attention asks the step for its mask, the fast way never does."""
    spec = archlab.load(name, FAMILIES[name])
    model = build(spec, fast=True)
    monkeypatch.setattr(Step, "mask", lambda *_: pytest.fail("a mask was made"))
    ids = torch.ones(1, 5, dtype=torch.long)
    cache = model.init_cache(1, 6)
    assert not obstacle(spec, archlab.Workload(new=5))
    model(ids, cache)
    model(ids[:, :1], cache)
    pieces = archlab.Workload(new=2, context=4)
    assert obstacle(spec, pieces)
    cache.position = 2
    with pytest.raises(pytest.fail.Exception, match="a mask was made"):
        model(ids[:, :2], cache)


def test_blocks_that_stay_as_they_are_are_named():
    assert as_reference(archlab.load("gemma-3-1b")) == ()
    assert as_reference(archlab.load("gemma-4-26b-a4b")) == ("MoE",)
    assert as_reference(archlab.load("recurrentgemma-2b")) == ("RGLRU", "MLP")
    assert backend_for(archlab.load("gemma-4-26b-a4b"), STEP).reason == "MoE as in the reference"
    for name in ("gemma-4-26b-a4b", "recurrentgemma-2b"):
        model = build(archlab.load(name, FAMILIES[name]), fast=True)
        kinds = {type(m).__name__ for m in model.layers.modules() if type(m) not in FAST.values()}
        assert set(as_reference(model.spec)) <= kinds


def test_the_default_falls_back_and_says_why_and_a_wish_does_not():
    gpt, gemma = archlab.load("gpt2-xl"), archlab.load("gemma-3-1b")
    assert (backend_for(gemma, FULL).name, backend_for(gemma, FULL).reason) == ("fast", "")
    found = backend_for(gpt, FULL)
    assert (found.name, found.reason) == ("reference", "attention adds biases to queries, keys and values")
    assert (backend_for(gemma, FULL, "reference").name, backend_for(gemma, FULL, "reference").reason) == (
        "reference",
        "",
    )
    with pytest.raises(ArchlabError, match="backend=fast does not cover gpt2-xl here: attention adds biases"):
        backend_for(gpt, FULL, "fast")
    with pytest.raises(ArchlabError, match="backend='fats' must be fast or reference; did you mean 'fast'"):
        backend_for(gemma, FULL, "fats")


def test_a_bench_of_the_fast_decoder_refuses_what_leaves_it(rates):
    keys = {"d_model": 32, "n_layers": 2, "vocab_size": 64, "attention.n_heads": 2, "attention.n_kv_heads": 2,
            "attention.head_dim": 16, "mlp.d_ff": 48}  # fmt: skip
    spec = archlab.load("gpt2-xl", keys)
    refusal = pytest.raises(ArchlabError, match="backend=fast does not cover gpt2-xl here")
    with Bench(spec, "cpu", "fp32", rooflines=rates) as made, refusal:
        made.trial(STEP)
    record = run(spec, STEP, "cpu", seconds=0.02, rooflines=rates)
    assert (record.status, record.backend, record.runs) == ("ok", "reference", "Python")
    assert record.reason_backend == "attention adds biases to queries, keys and values"


def test_every_family_that_is_claimed_is_checked():
    """A preset of each family without an obstacle is among the checks, in both formats, on a GPU as on a CPU."""
    claimed = set()
    for name in archlab.models():
        spec = archlab.load(name)
        source = 64 if spec.encoder is not None else 0
        if not obstacle(spec, archlab.Workload(new=64, source=source)):
            claimed.add(spec.family)
    for device in ("cpu", "cuda"):
        checks = [c for c in checks_for(torch.device(device), "bf16") if c.name == "fast equals reference"]
        assert {c.spec.family for c in checks} == claimed
        assert all([c.dtype for c in checks if c.spec.name == name] == ["fp32", "bf16"] for name in FAMILIES)


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-3-1b"])
def test_a_fast_decoder_that_is_wrong_fails_its_check(name, monkeypatch):
    cpu = torch.device("cpu")
    check = next(c for c in checks_for(cpu, "fp32") if c.spec.name == name)
    assert check.run(cpu)["status"] == "ok"
    forward = Decoder.forward
    monkeypatch.setattr(
        Decoder, "forward", lambda self, *a, **k: forward(self, *a, **k) * (1.001 if hasattr(self, "plan") else 1)
    )
    assert check.run(cpu)["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_fast_decoder_is_right_on_this_cpu(dtype):
    cpu = torch.device("cpu")
    for check in checks_for(cpu, dtype):
        found = check.run(cpu)
        assert found["status"] == "ok", (check.name, check.spec.name, check.dtype, found["reason"])
