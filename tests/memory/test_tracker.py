"""A few layers tell the peak of all: extrapolated against the whole module traced, and against sizes known otherwise."""

import dataclasses
import json

import pytest
import torch

import archlab
from archlab.errors import SpecError
from archlab.nn import attention as attention_module
from archlab.nn.peaks import check_memory, works
from archlab.nn.tracker import CATEGORIES, peak, runs_of, shortened
from archlab.workload import Workload

CLOSE = 0.01


def steps(spec, context, batch=1):
    return dict(zip(("prefill", "decode", "training"), works(spec, context, batch), strict=True))


def agree(spec, work):
    few, whole = peak(spec, work, whole=False), peak(spec, work, whole=True)
    assert whole.traced == whole.layers and few.layers == whole.layers
    assert abs(few.total / whole.total - 1) < CLOSE
    for category in CATEGORIES:
        assert abs(few.by_category[category] - whole.by_category[category]) < CLOSE * whole.total
    assert few.at.split(".")[0] == whole.at.split(".")[0]
    return few, whole


@pytest.mark.parametrize("step", ["prefill", "decode", "training"])
@pytest.mark.parametrize(
    ("preset", "layers"), [("gemma-2-2b", 12), ("gemma-3-1b", 20), ("recurrentgemma-2b", 14), ("gemma-2b", 7)]
)
def test_a_few_layers_tell_of_all(preset, layers, step):
    """Remainders of no, two, two and no layers; a context that the windows cut, logits that are not the peak."""
    spec = archlab.load(preset, {"n_layers": layers, "vocab_size": 2048})
    few, _ = agree(spec, steps(spec, 512)[step])
    assert few.traced < layers or preset == "gemma-3-1b"


@pytest.mark.parametrize("step", ["prefill", "training"])
def test_the_peak_may_lie_elsewhere_at_full_depth(step):
    """With two layers the logits are the fullest moment; with forty the gradients at the end of the backward pass."""
    spec = archlab.load("gemma-2b", {"n_layers": 40, "vocab_size": 16384})
    work = Workload(1, 64, 64, train=step == "training")
    agree(spec, work)


RELEASED = [
    *((name, n) for name in ("gemma-2-2b", "gemma-3-1b", "gemma-3-270m", "recurrentgemma-2b") for n in (512, 4096)),
    *((name, 512) for name in ("gemma-3n-e2b", "gemma-4-e2b", "t5gemma-2b-2b", "llama-3.1-8b")),
]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["prefill", "decode", "training"])
@pytest.mark.parametrize(("preset", "context"), RELEASED)
def test_released_models(preset, step, context):
    spec = archlab.load(preset)
    agree(spec, steps(spec, context)[step])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_a_mixture_of_experts(step):
    spec = archlab.load("gemma-4-26b-a4b")
    agree(spec, steps(spec, 512)[step])


def test_layers_that_share_keys_and_values_are_a_run_of_their_own():
    spec = archlab.load("gemma-3n-e2b")
    runs = [*runs_of(spec.decoder)]
    assert [(run.start, run.end, run.period) for run in runs] == [(0, 10, 5), (10, 20, 5), (20, 30, 5)]
    small = shortened(spec, dict.fromkeys(runs, 1))
    assert small.n_layers == 15 and [layer.name for layer in small.decoder.in_order()][4::5] == [
        "global, sparse", "global", "global, shared",
    ]  # fmt: skip
    assert dict(small.decoder.before)["per_layer_embedding"].n_layers == 15


def test_parameters_cache_gradients_and_states_are_what_they_are_known_to_be():
    spec = archlab.load("gemma-3-270m", {"vocab_size": 2048})
    weights = 2 * archlab.params(spec).total
    inference = peak(spec, Workload(2, 1, 600))
    assert inference.by_category["parameters"] == weights
    assert inference.by_category["cache"] == archlab.kv_cache(spec, 600, 2).total
    training = peak(spec, Workload(2, 32, 32, train=True), optimizer="adam")
    assert training.by_category["optimizer"] == 2 * weights and training.by_category["cache"] == 0
    assert 0 < training.by_category["gradients"] <= weights


@pytest.mark.slow
def test_logits_of_a_large_vocabulary_are_the_peak():
    """512 x 262144 logits in bf16, and of the loss three copies in fp32."""
    spec = archlab.load("gemma-3-270m", {"n_layers": 6})
    logits = 512 * 262144
    prefill = peak(spec, Workload(1, 512, 512))
    assert prefill.at == "forward head" and 0 < prefill.by_category["activations"] - 2 * logits < 4e6
    training = peak(spec, Workload(1, 512, 512, train=True))
    assert training.at == "backward loss" and training.by_category["activations"] > 12 * logits


def test_a_copy_too_many_is_seen(monkeypatch):
    """What the module wastes, the tracker counts."""
    spec, real = archlab.load("gemma-2b", {"n_layers": 3, "vocab_size": 512}), attention_module.attend

    def wasteful(q, k, v, mask, scale, cap):
        copies = [q.new_zeros(q.shape[0], q.shape[2], q.shape[1], k.shape[1]) for _ in range(4)]
        return real(q, k, v, mask, scale, cap) + 0 * copies[0].sum()

    work = Workload(1, 1024, 1024, logits="last")
    before = peak(spec, work).total
    monkeypatch.setattr(attention_module, "attend", wasteful)
    assert peak(spec, work).total - before > 8 * 1024 * 1024 * 2


@pytest.mark.slow
def test_nothing_is_allocated():
    """A 27B model in bf16 would take 54 GB."""
    found = peak(archlab.load("gemma-3-27b-text"), Workload(1, 1, 131072))
    assert found.total > 54e9 and found.traced < found.layers == 62


def test_as_json():
    found = check_memory(archlab.load("gemma-3-270m", {"n_layers": 6}), 64)
    document = json.loads(json.dumps(found.as_dict()))
    assert document["ok"] is True and [s["step"] for s in document["steps"]] == ["prefill", "decode", "training"]
    assert document["steps"][0]["rows"]["total"] == sum(document["steps"][0]["rows"]["by_category"].values())


def test_an_encoder_alone_has_no_decode_step():
    spec = archlab.load("embeddinggemma-300m", {"n_layers": 6})
    assert [step.tracked.step for step in check_memory(spec, 64).steps] == ["prefill", "training"]


def test_bad_input_is_a_sentence():
    spec = archlab.load("gemma-3-270m", {"n_layers": 6})
    with pytest.raises(SpecError, match="optimizer='adan' must be one of none, adam; did you mean 'adam'"):
        peak(spec, Workload(1, 8, 8, train=True), optimizer="adan")
    with pytest.raises(SpecError, match="source=8 cannot be"):
        peak(spec, Workload(1, 8, 8, source=8))


@pytest.mark.slow
def test_fp32_takes_twice_the_weights():
    spec = archlab.load("gemma-3-270m", {"n_layers": 6})
    work = Workload(1, 1, 64)
    narrow, wide = peak(spec, work), peak(spec, work, dtype=torch.float32)
    assert wide.by_category["parameters"] == 2 * narrow.by_category["parameters"]
    assert dataclasses.asdict(wide)["traced"] == 6
