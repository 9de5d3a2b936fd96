"""Many points are what each of them is alone: numbers, refusals and their sentences, limits, budgets, parts."""

import itertools
from functools import cache

import numpy as np
import one_by_one
import pytest

import archlab
from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import load_hardware
from archlab.sweep import survey as module
from archlab.sweep.evaluate import positions, survey
from archlab.sweep.measures import Asked

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
AT = setting("h200-sxm", "bf16", "ideal")
H200 = {"hardware": "h200-sxm", "precision": "bf16", "engine": "ideal"}


# ---------------------------------------------------------------- places: engines, precisions, devices

MODELS = {
    "an encoder and a decoder": ("t5gemma-2b-2b", {"workload.source": [64, 600], "workload.context": [17, 5000]}),
    "a tower": ("gemma-3-4b", {"workload.images": [0, 2], "workload.context": [600, 5000], "vision.d_model": [576, 1152]}),
    "experts": ("gemma-4-26b-a4b", {"moe.top_k": [2, 8, 200], "workload.batch": [1, 9], "moe.experts": [64, 128]}),
    "a recurrence": ("recurrentgemma-2b", {"recurrent.width": [2560, 2565], "workload.context": [100, 3000]}),
    "streams": ("gemma-3n-e2b", {"altup.streams": [2, 4], "per_layer_embedding.width": [64, 256], "workload.context": [100, 40_000]}),
    "layers by position": ("gemma-3n-e2b", {"n_layers": [10, 20, 30], "workload.batch": [1, 3]}),
    "an encoder alone": ("embeddinggemma-300m", {"workload.context": [5, 700], "mlp.d_ff": [64, 1152]}),
    "a prefix": ("paligemma-3b-224", {"workload.prefix": [0, 9, 700], "workload.context": [64, 1024]}),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_every_sort_of_model(case):
    name, grid = MODELS[case]
    base = archlab.load(name)
    work = load_serving("short-512").work_for(base)
    found = archlab.evaluate(base, work, H200["hardware"], grid=grid, memory=True)
    assert found.ok.any()
    one_by_one.check(found, base, work, H200, positions(found))


@pytest.mark.parametrize(
    ("engine", "hardware"), [("hf", "m4-16"), ("vllm", "l4"), ("llama_cpp", "m4-16"), ("llama_cpp", "l4")]
)
def test_every_engine(engine, hardware):
    base = archlab.load("gemma-3-1b")
    work = load_serving("chat-8k").work_for(base)
    grid = {"attention.n_kv_heads": [1, 3, 4], "workload.context": [16, 8192, 2**21], "workload.batch": [1, 40]}
    place = {"hardware": hardware, "precision": "bf16", "engine": engine}
    found = archlab.evaluate(base, work, hardware, engine=engine, grid=grid, limits=True)
    one_by_one.check(
        found, base, work, place | {"timed": "bf16" in load_hardware(hardware).peak_flops}, positions(found), limits=4
    )


def test_precisions_by_position():
    base = archlab.load("gemma-3-1b")
    work = load_serving("chat-8k").work_for(base)
    grid = {"n_layers": [1, 6, 13, 26], "mlp.d_ff": [64, 6912]}
    found = archlab.evaluate(base, work, "rtx-4090", "q4_k_m", engine="llama_cpp", grid=grid, limits=True)
    one_by_one.check(
        found,
        base,
        work,
        {"hardware": "rtx-4090", "precision": "q4_k_m", "engine": "llama_cpp", "timed": True},
        positions(found),
        4,
    )
    assert len(found.survey.written) == 4


def test_odd_sizes_at_four_bits_are_whole_bytes():
    grid = {"d_model": [769, 770], "mlp.d_ff": [63, 64], "n_layers": [7, 8], "vocab_size": [999, 1001]}
    found = archlab.evaluate(BASE, WORK, "rtx-4090", "int4", grid=grid, memory=True)
    one_by_one.check(found, BASE, WORK, H200 | {"hardware": "rtx-4090", "precision": "int4"}, positions(found))


@pytest.mark.parametrize("by", ["columns", "grid"])
def test_places_and_patterns_are_grouped(by):
    """Linked or not, points of one structure go through the formulas together, and come back in their order."""
    base, work = archlab.load("gemma-3-1b"), load_serving("chat-8k").work_for(archlab.load("gemma-3-1b"))
    axes = {
        "pattern": [["global"], ["local", "global"], ["global"], ["local", "global"], ["local"]],
        "precision": ["bf16", "fp8", "int8", "q4_k_m", "bf16"],
        "hardware": ["h200-sxm", "t4", "rtx-4090", "h200-sxm", "h100-sxm"],
        "engine": ["ideal", "vllm", "ideal", "llama_cpp", "ideal"],
        "mlp.d_ff": [100, 200, 300, 400, 500],
        "n_layers": [3, 4, 5, 6, 7],
    }
    if by == "columns":
        found = archlab.evaluate(base, work, "h200-sxm", columns=axes, memory=True)
    else:
        cut = {"mlp.d_ff": [100, 200], "pattern": axes["pattern"][:2], "precision": axes["precision"][1:4]}
        found = archlab.evaluate(base, work, "h200-sxm", grid=cut | {"engine": ["llama_cpp", "ideal"]}, memory=True)
        assert len(found.survey.written) == 2 * 3 * 2
    ok = np.broadcast_to(found.ok, found.shape)
    assert ok.any() and not ok.all()
    one_by_one.check(found, base, work, H200, positions(found))


def test_a_device_may_be_numbers():
    grid = {
        "hardware.memory_bytes": ["16 GiB", 24 * 10**9, 192 * 2**30], "hardware.bandwidth_bytes_per_s": [1e11, 3e12],
        "hardware.peak_flops.bf16": [1e13, 1e15], "workload.context": [1000, 131072],
    }  # fmt: skip
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid, limits=True)
    assert len(found.survey.written) == 1 and len(np.unique(found["max_context"])) > 2
    one_by_one.check(found, BASE, WORK, H200, positions(found), limits=8)
    wrong = archlab.evaluate(BASE, WORK, "h200-sxm", grid={"hardware.bandwidth_bytes_per_s": [1e11, 0, -1]})
    assert wrong.ok.ravel().tolist() == [True, False, False]


def test_costs_of_a_character():
    grid = {"vocab_size": [256_000, 50_000, 1_000], "workload.context": [8192, 100], "workload.batch": [1, 3]}
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid, per_character=True)
    for position in positions(found):
        values = found.at(position)
        alone = one_by_one.numbers(BASE, WORK, H200 | {"memory": False}, values)
        if values["vocab_size"] == 1_000:  # beyond what was measured
            assert np.isnan(found["flops_prefill_per_character"][position])
            continue
        expected = one_by_one.of_a_character(one_by_one.shaped(BASE, values), one_by_one.sized(WORK, values), alone)
        assert not one_by_one.differences({n: found[n][position] for n in expected}, expected), values


@pytest.mark.parametrize("limits", ["context", "batch"])
def test_one_limit_alone(limits):
    grid = {"workload.context": [1000, 131072], "workload.batch": [1, 9]}
    found = archlab.evaluate(BASE, WORK, "rtx-4090", "int4", grid=grid, limits=limits)
    both = archlab.evaluate(BASE, WORK, "rtx-4090", "int4", grid=grid, limits=True)
    assert set(both.columns) - set(found.columns) == {"max_context", "max_batch"} - {f"max_{limits}"}
    assert (found[f"max_{limits}"] == both[f"max_{limits}"]).all()
    with pytest.raises(SpecError, match="did you mean 'context'"):
        archlab.evaluate(BASE, WORK, "rtx-4090", grid=grid, limits="contxt")


# ---------------------------------------------------------------- parts, structures, sentences


def same_where(ok, own, theirs):
    """Whether two arrays of points agree wherever those stand; what is absent in both agrees."""
    equal = (own == theirs) | ((own != own) & (theirs != theirs))
    return bool((equal | ~ok).all())


def test_parts_are_pieces_of_the_whole():
    grid = {
        "pattern": [["global"], ["local", "global"]], "attention.n_kv_heads": [1, 3, 16], "workload.context": [5, 9000],
        "mlp.d_ff": list(range(64, 64 * 8, 64)),
    }  # fmt: skip
    asked = Asked(setting("h200-sxm", "bf16", "ideal"), memory=True, limits=True)
    whole = survey(BASE, WORK, asked, grid).points()
    for most, reuse in itertools.product((1, 9, 10**6), (False, True)):
        some = survey(BASE, WORK, asked, grid)
        some.reuse = reuse
        seen = np.zeros(whole.shape, dtype=int)
        for part in some.parts(most):
            points = some.points(part)
            assert len(points) <= max(most, 1) and points.start == tuple(p.start for p in part)
            seen[part] += 1
            assert (np.broadcast_to(points.ok, points.shape) == np.broadcast_to(whole.ok, whole.shape)[part]).all()
            for name in whole.columns:  # a part may have no structure that has it: then it is absent in the whole
                own = points[name] if name in points.columns else np.full(points.shape, np.nan)
                assert same_where(points.ok, own, whole[name][part]), name
        assert (seen == 1).all()


def test_programs_keep_no_more_memory_than_they_may(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 0)
    grid = {"pattern": [["global"], ["local"], ["local", "global"]], "mlp.d_ff": np.arange(1, 70_001)}
    space = survey(BASE, WORK, Asked(AT), grid)
    space.reuse = True
    for part in space.parts(70_000):
        points = space.points(part)
        assert (points["params_mlp"] == 3 * 3584 * 42 * np.arange(1, 70_001)).all()
        kept = [written.program.kept_bytes for written in space.written.values()]
        assert kept[-1] > 0 and not any(kept[:-1])


def test_a_frame_of_some_places_is_rows_of_the_whole():
    found = archlab.evaluate(
        BASE, WORK, "h200-sxm", grid={"attention.n_kv_heads": [1, 3, 16], "workload.context": [5, 5000]}
    )
    frame, some = found.frame(), found.frame(np.array([5, 2, 2]))
    assert frame.iloc[[5, 2, 2]].reset_index(drop=True).equals(some)
    assert frame["status"].tolist() == ["ok", "ok", "refused", "refused", "ok", "ok"]
    assert frame["params"].isna().tolist() == [False, False, True, True, False, False]


REFUSED = {
    "heads": ({"attention.n_kv_heads": [3, 8, 0, 2.5]}, [0, 1, 0, 0]),
    "sizes": ({"mlp.d_ff": [0, -1, 64, 1.5, float("nan")]}, [0, 0, 1, 0, 0]),
    "a workload": ({"workload.context": [0, 1, 10], "workload.batch": [0, 1]}, [0, 0, 0, 1, 0, 1]),
    "images": ({"workload.images": [0, 1]}, [1, 0]),
    "activations": ({"mlp.activation": ["gelu_tanh", "geluu"]}, [1, 0]),
    "places": ({"precision": ["bf16", "q4_k_m"], "engine": ["ideal", "vllm"]}, [1, 1, 1, 0]),
    "rates": ({"hardware": ["h200-sxm", "t4"]}, [1, 0]),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("more", [{}, {"n_layers": [2, 42]}])
def test_refusals_are_those_of_one_point(case, more):
    grid, kept = REFUSED[case]
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid | more)
    ok = np.broadcast_to(found.ok, found.shape)
    assert ok.ravel().tolist() == [bool(k) for k in kept for _ in range(2 if more else 1)]
    one_by_one.check(found, BASE, WORK, H200 | {"memory": False}, positions(found))


def test_unknown_names_are_refused_at_once():
    for key, name in (("hardware", "h200"), ("precision", "bf17"), ("engine", "vlm")):
        with pytest.raises(ArchlabError, match=f"unknown .*{name}.*did you mean"):
            archlab.evaluate(BASE, WORK, "h200-sxm", grid={key: [name]})
        with pytest.raises(ArchlabError):
            archlab.evaluate(BASE, WORK, "h200-sxm", grid={key: [5, ["a"]]})


@cache
def large():
    return archlab.evaluate(
        BASE, WORK, "h200-sxm", grid={"workload.context": [1024, 10**6], "mlp.d_ff": [64, 14336]}, memory=True
    )


def test_numbers_beyond_2_to_the_53_are_flagged():
    found = large()
    beyond = {n for n, values in found.columns.items() if values.dtype.kind == "f" and (values >= 2**53).any()}
    assert found.inexact == beyond == {"flops_prefill", "flops_prefill_dense"}
    alone = archlab.evaluate(BASE, archlab.Workload(new=10**6))
    assert {"flops_prefill", "flops_prefill_dense"} <= alone.inexact
    assert not archlab.evaluate(BASE, WORK, grid={"workload.context": [1, 2]}).inexact


def test_a_point_without_axes_is_one_point():
    found = archlab.evaluate(BASE, WORK, "h200-sxm", limits=True)
    assert found.shape == () and len(found) == 1 and found.ok
    one_by_one.check(found, BASE, WORK, H200, [()], limits=1)
