"""Many points are what each of them is alone: numbers, refusals and their sentences, limits, budgets, parts."""

import itertools
from functools import cache

import numpy as np
import one_by_one
import pytest

import archlab
from archlab.analyzers.fit import MOST_CONTEXT, max_context
from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import load_hardware
from archlab.precision import load_precision
from archlab.sweep.axes import bare_key
from archlab.sweep.evaluate import positions, survey
from archlab.sweep.hold import HELD, budget, hold_budget
from archlab.sweep.measures import Asked
from archlab.sweep.study import load_study, studies

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
H200 = {"hardware": "h200-sxm", "precision": "bf16", "engine": "ideal"}


def value_at(points, name, position):
    """A column's value at a point, as Python's."""
    return (
        points[name][position].item()
        if points.columns[name].dtype != bool
        else bool(np.broadcast_to(points.columns[name], points.shape)[position])
    )


def check(points, base, work, place, places, limits=0):
    """Points against each of them alone; the last few with their limits too."""
    ok = np.broadcast_to(points.ok, points.shape)
    for n, position in enumerate(places):
        values, bare = points.at(position), {}
        said = one_by_one.refusal(base, work, place, values)
        if points.survey.hold is not None and said is None:
            bare = {points.survey.hold.by: int(points[points.survey.hold.short][position])} if ok[position] else {}
        assert bool(ok[position]) == (said is None and (points.survey.hold is None or bool(bare))), (values, said)
        if not ok[position]:
            assert points.reason(position) == (said or points.survey.hold.refusal), values
            continue
        values = {**values, **bare}
        expected = one_by_one.numbers(base, work, place, values)
        if n < limits:
            expected |= one_by_one.limits(base, work, place, values)
        assert set(expected) <= set(points.columns)
        found = {name: value_at(points, name, position) for name in expected}
        assert not one_by_one.differences(found, expected), (base.name, place, values)


# ---------------------------------------------------------------- the studies

DEFAULT = 20
FULL = 1000


def spread(key, values, generator, n):
    """n values of an axis: of numbers those between its ends too, whatever the rules make of them."""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return [values[i] for i in generator.integers(0, len(values), n)]
    within = generator.integers(max(1, int(min(values))), int(max(values)) + 1, n).tolist()
    return [
        v if pick else w
        for pick, v, w in zip(generator.random(n) < 0.6, generator.choice(values, n).tolist(), within, strict=True)
    ]


def study_points(name, rows, places, limits):
    """Random rows of a study, over a sample of its models, workloads and places."""
    _, study = load_study(name)
    generator = np.random.default_rng(len(name))
    combinations = [*itertools.product(study.base, study.workloads, study.hardware, study.precision, study.engine)]
    chosen = [combinations[i] for i in sorted(generator.permutation(len(combinations))[:places])]
    for model, workload, hardware, precision, engine in chosen:
        base, n = archlab.load(model), -(-rows // len(chosen))
        work = load_serving(workload).work_for(base)
        place = {"hardware": hardware, "precision": precision, "engine": engine}
        place["timed"] = load_precision(precision).compute in load_hardware(hardware).peak_flops
        columns = {bare_key(k): spread(k, v, generator, n) for k, v in study.grid.items()}
        asked = Asked(setting(hardware, precision, engine), memory=True, limits=True)
        hold = (
            budget(study.hold, base, work, study.multiple, study.hold_by or "mlp.d_ff", asked.at)
            if study.hold
            else None
        )
        yield survey(base, work, asked, columns=columns, hold=hold).points(), base, work, place, limits


@pytest.mark.parametrize("name", studies())
def test_a_study_is_what_its_points_are(name):
    for points, base, work, place, limits in study_points(name, DEFAULT, places=2, limits=1):
        check(points, base, work, place, positions(points), limits)


@pytest.mark.slow
@pytest.mark.parametrize("name", studies())
def test_a_study_is_what_its_points_are_at_length(name):
    for points, base, work, place, limits in study_points(name, FULL, places=25, limits=1):
        check(points, base, work, place, positions(points), limits)


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
    check(found, base, work, H200, positions(found))


@pytest.mark.parametrize(
    ("engine", "hardware"), [("hf", "m4-16"), ("vllm", "l4"), ("llama_cpp", "m4-16"), ("llama_cpp", "l4")]
)
def test_every_engine(engine, hardware):
    base = archlab.load("gemma-3-1b")
    work = load_serving("chat-8k").work_for(base)
    grid = {"attention.n_kv_heads": [1, 3, 4], "workload.context": [16, 8192, 2**21], "workload.batch": [1, 40]}
    place = {"hardware": hardware, "precision": "bf16", "engine": engine}
    found = archlab.evaluate(base, work, hardware, engine=engine, grid=grid, limits=True)
    check(
        found, base, work, place | {"timed": "bf16" in load_hardware(hardware).peak_flops}, positions(found), limits=4
    )


def test_precisions_by_position():
    base = archlab.load("gemma-3-1b")
    work = load_serving("chat-8k").work_for(base)
    grid = {"n_layers": [1, 6, 13, 26], "mlp.d_ff": [64, 6912]}
    found = archlab.evaluate(base, work, "rtx-4090", "q4_k_m", engine="llama_cpp", grid=grid, limits=True)
    check(
        found,
        base,
        work,
        {"hardware": "rtx-4090", "precision": "q4_k_m", "engine": "llama_cpp", "timed": True},
        positions(found),
        4,
    )
    assert len(found.survey.written) == 4


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
    check(found, base, work, H200, positions(found))


def test_a_device_may_be_numbers():
    grid = {
        "hardware.memory_bytes": ["16 GiB", 24 * 10**9, 192 * 2**30], "hardware.bandwidth_bytes_per_s": [1e11, 3e12],
        "hardware.peak_flops.bf16": [1e13, 1e15], "workload.context": [1000, 131072],
    }  # fmt: skip
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid, limits=True)
    assert len(found.survey.written) == 1 and len(np.unique(found["max_context"])) > 2
    check(found, BASE, WORK, H200, positions(found), limits=8)
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


# ---------------------------------------------------------------- limits over many points


@pytest.mark.parametrize("hardware", ["h200-sxm", "l4", "rtx-3060-12"])
def test_the_longest_context_is_the_longest(hardware):
    """Beyond all windows, among them, and nowhere; what fits, and one token more, asked of memory itself."""
    generator = np.random.default_rng(5)
    n = 30_000
    columns = {
        "n_layers": generator.integers(1, 60, n), "attention.n_kv_heads": generator.choice([1, 2, 4, 8, 16], n),
        "local.window": generator.integers(1, 9000, n), "mlp.d_ff": generator.integers(64, 20_000, n),
        "d_model": generator.integers(64, 5000, n), "workload.batch": generator.integers(1, 300, n),
    }  # fmt: skip
    asked = Asked(setting(hardware, "bf16", "ideal"), memory=True, limits="context")
    found = survey(BASE, WORK, asked, columns=columns).points()
    most = found["max_context"]
    assert found.ok.all() and ((most > 0) & (most < columns["local.window"])).any()
    at = np.maximum(most, 1)
    for context, fits in ((at, most > 0), (at + 1, np.zeros(n, dtype=bool))):
        there = archlab.evaluate(BASE, WORK, hardware, columns=columns | {"workload.context": context}, memory=True)
        checked = slice(None) if context is at else (most > 0) & (most < MOST_CONTEXT)
        assert (there["fits"] == fits)[checked].all()
    assert (most == 0).any() == (hardware != "h200-sxm")
    for i in generator.integers(0, n, 3):
        values = {key: int(v[i]) for key, v in columns.items()}
        spec = one_by_one.shaped(BASE, values)
        assert max_context(spec, one_by_one.sized(WORK, values), asked.at) == most[i]


# ---------------------------------------------------------------- budgets


def held_pairs():
    return [
        (name, by)
        for name in HELD
        for by in ("mlp.d_ff", "n_layers", "d_model")
        if (name, by) != ("kv_cache", "mlp.d_ff")
    ]


@pytest.mark.parametrize(("name", "by"), [p for p in held_pairs() if p != ("kv_cache", "d_model")])
def test_a_held_budget_is_the_nearest_that_there_is(name, by):
    at = setting("h200-sxm", "bf16", "ideal")
    held = budget(name, BASE, WORK, by=by, at=at)
    grid = {
        "attention.n_kv_heads": [1, 8, 16],
        "attention.head_dim": [64, 256],
        "vocab_size": [1000, 256_000, 4_000_000],
    }
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid, hold=held, memory=True)
    ok = np.broadcast_to(found.ok, found.shape)
    assert ok.any()
    for position in positions(found):
        values = found.at(position)
        spec = archlab.load(BASE.name, values)
        alone, fits = hold_budget(spec, held)
        assert bool(ok[position]) == fits
        if not fits:
            assert found.reason(position) == held.refusal
            continue
        n = int(found[held.short][position])
        assert n == _entry(alone.data, by) and n % held.multiple == 0
        near = [m for m in range(n - 3 * held.multiple, n + 4 * held.multiple, held.multiple) if m > 0]
        gaps = {m: abs(held.metric(archlab.load(BASE.name, {**values, by: m})) - held.target) for m in near}
        assert gaps[n] == min(gaps.values()), (values, gaps)
        amount = held.metric(archlab.load(BASE.name, {**values, by: n}))
        assert found["hold_residual"][position] == pytest.approx(amount / held.target - 1, abs=1e-12)


def _entry(data, key):
    for word in key.split("."):
        data = data[word]
    return data


@pytest.mark.parametrize("by", ["mlp.d_ff", "d_model"])
def test_a_cache_that_a_width_does_not_change_cannot_be_held(by):
    with pytest.raises(SpecError, match="does not change it"):
        budget("kv_cache", BASE, WORK, by=by, at=setting("h200-sxm", "bf16", "ideal"))


def test_many_linked_points_hold_a_budget():
    """More than are computed at once: the few that cannot be solved are looked for together."""
    generator = np.random.default_rng(2)
    n = 70_000
    columns = {
        "attention.n_kv_heads": generator.choice([1, 2, 4, 8, 16], n), "vocab_size": generator.integers(1000, 9_000_000, n),
        "workload.context": generator.integers(16, 10_000, n), "workload.batch": generator.integers(1, 999, n),
    }  # fmt: skip
    held = budget("memory", BASE, WORK, at=setting("h200-sxm", "bf16", "ideal"))
    found = archlab.evaluate(BASE, WORK, "h200-sxm", columns=columns, hold=held, memory=True)
    assert 0.02 < found.ok.mean() < 0.999
    for i in [*generator.integers(0, n, 25), *np.flatnonzero(~found.ok)[:3]]:
        values = found.at((i,))
        alone, fits = hold_budget(one_by_one.shaped(BASE, values), held)
        assert bool(found.ok[i]) == fits, values
        assert not fits or _entry(alone.data, "mlp.d_ff") == found["d_ff"][i], values


# ---------------------------------------------------------------- parts, structures, sentences


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
            for name in points.columns:
                assert (points[name] == whole[name][part]).all(), name
        assert (seen == 1).all()


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
    check(found, BASE, WORK, H200 | {"memory": False}, positions(found))


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
    check(found, BASE, WORK, H200, [()], limits=1)
