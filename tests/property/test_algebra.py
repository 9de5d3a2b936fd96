"""One formula for one model, for a million, and for symbols."""

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.algebra import column
from archlab.analyzers.latency import bound
from archlab.assemble import resolve
from archlab.blocks.masks import causal_pairs, keys_seen
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import load_hardware
from archlab.layers import repeat_pattern
from archlab.ledger import ledger
from archlab.precision import load_precision
from archlab.schema import override
from archlab.sweep.hold import budget

BASE = archlab.load("gemma-2-9b")

shapes = st.fixed_dictionaries(
    {
        "d_model": st.integers(1, 8192),
        "n_layers": st.integers(1, 100),
        "vocab_size": st.integers(1, 300_000),
        "attention.n_kv_heads": st.sampled_from([1, 2, 4, 8, 16]),
        "attention.head_dim": st.sampled_from([2, 64, 128, 256]),
        "local.window": st.integers(1, 10_000),
        "mlp.d_ff": st.integers(1, 40_000),
    }
)


def numbers(spec, context):
    """Everything that is counted, at one context."""
    work = archlab.Workload(2, new=context, context=context, logits="last")
    cache, prefill, decode = (
        archlab.kv_cache(spec, context, 2),
        archlab.flops(spec, work),
        archlab.flops(spec, work.decode()),
    )
    bounds = [archlab.latency(spec, w, "h200-sxm").bound_seconds for w in (work, work.decode())]
    return [
        archlab.params(spec).total,
        cache.total,
        prefill.total,
        prefill.dense,
        prefill.vector,
        decode.total,
        *bounds,
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(shapes, st.integers(1, 200_000)), min_size=1, max_size=5))
def test_columns_equal_scalars(points):
    linked = {key: column([shape[key] for shape, _ in points]) for key in points[0][0]}
    many = numbers(resolve(override(dict(BASE.data), linked)), column([context for _, context in points]))
    for i, (shape, context) in enumerate(points):
        one = numbers(archlab.load("gemma-2-9b", shape), context)
        for whole, exact in zip(many, one, strict=True):
            value = float(np.broadcast_to(whole, len(points))[i])
            assert (
                value == exact if exact < 2**53 and isinstance(exact, int) else value == pytest.approx(exact, rel=1e-12)
            )


@settings(max_examples=15, deadline=None)
@given(shapes, st.integers(1, 100_000))
def test_symbols_equal_ints(shape, context):
    letters = ["d_model", "vocab_size", "attention.n_kv_heads", "local.window", "mlp.d_ff"]
    given_sizes = {k: v for k, v in shape.items() if k in letters}
    spec = archlab.load("gemma-2-9b", given_sizes)
    names = dict(zip(letters, "DVKWF", strict=True))
    values = {names[k]: v for k, v in given_sizes.items()} | {"S": context, "B": 3}
    work = archlab.Workload(3, new=context, context=context, logits="last")
    expected = {
        "params": archlab.params(spec).total,
        "kv_cache": archlab.kv_cache(spec, context, 3).total,
        "flops_prefill": archlab.flops(spec, work).total,
        "flops_decode": archlab.flops(spec, work.decode()).total,
    }
    for metric, exact in expected.items():
        text = archlab.formula(metric, BASE, letters)
        assert text.subs({symbol: values[symbol.name] for symbol in text.free_symbols}) == exact
    assert archlab.formula("params", BASE, ["d_model"]).has(sympy.Symbol("D", integer=True, positive=True))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_pairs_and_keys_equal_an_explicit_mask(new, before, window):
    context = new + before - 1
    query = np.arange(context - new, context)[:, None]
    key = np.arange(context)[None, :]
    for w, mask in ((None, key <= query), (window, (key <= query) & (key > query - window))):
        assert causal_pairs(new, context, w) == mask.sum()
        assert keys_seen(new, context, w) == mask.any(axis=0).sum()


@given(st.lists(st.sampled_from(["local", "global", "other"]), min_size=1, max_size=8), st.integers(1, 80))
def test_a_pattern_is_repeated_and_cut(pattern, n_layers):
    walked = [pattern[i % len(pattern)] for i in range(n_layers)]
    counts = repeat_pattern(tuple(pattern), n_layers)
    assert {kind: n for kind, n in counts.items() if n} == {kind: walked.count(kind) for kind in walked}
    column_counts = repeat_pattern(tuple(pattern), column([n_layers, n_layers]))
    assert all((column_counts[kind] == counts[kind]).all() for kind in counts)


@settings(max_examples=25, deadline=None)
@given(shapes)
def test_symmetries(shape):
    spec = archlab.load("gemma-2-9b", shape)
    context = 5000
    wide = archlab.load("gemma-2-9b", {**shape, "local.window": context})
    everywhere = archlab.load(
        "gemma-2-9b", {**{k: v for k, v in shape.items() if k != "local.window"}, "pattern": ["global"]}
    )
    assert archlab.kv_cache(wide, context).total == archlab.kv_cache(everywhere, context).total
    work = archlab.Workload(new=context)
    assert archlab.flops(wide, work).total == archlab.flops(everywhere, work).total
    assert (
        archlab.flops(spec, work).total
        <= archlab.flops(everywhere, work).total
        <= archlab.flops(everywhere, work).dense
    )
    deeper = archlab.load("gemma-2-9b", {**shape, "n_layers": shape["n_layers"] + 2})
    deepest = archlab.load("gemma-2-9b", {**shape, "n_layers": shape["n_layers"] + 4})
    totals = [archlab.params(s).total for s in (spec, deeper, deepest)]
    assert totals[2] - totals[1] == totals[1] - totals[0]  # additive over layers
    chunks = [archlab.Workload(new=2000, context=2000), archlab.Workload(new=3000, context=5000)]
    assert sum(archlab.flops(spec, w).total for w in chunks) == archlab.flops(spec, work).total  # prefill in two chunks


@pytest.mark.parametrize("name", ["params", "flops"])
def test_a_held_budget_stays_within_half_a_step(name):
    work = archlab.Workload(new=8192, logits="last")
    held = budget(name, BASE, work, multiple=64)
    points = archlab.evaluate(
        BASE, work, grid={"attention.n_kv_heads": [1, 2, 4, 8, 16], "n_layers": [30, 42, 50]}, hold=held
    )
    assert points.ok.all()
    step = {"params": archlab.params, "flops": lambda s: archlab.flops(s, work)}[name]
    for position in np.ndindex(points.shape):
        spec = archlab.load("gemma-2-9b", {**points.at(position), "mlp.d_ff": int(points["d_ff"][position])})
        wider = archlab.load("gemma-2-9b", {**points.at(position), "mlp.d_ff": int(points["d_ff"][position]) + 64})
        assert abs(step(spec).total - held.target) <= (step(wider).total - step(spec).total) / 2 * 1.000001
    same = archlab.evaluate(
        BASE, work, grid={"attention.n_kv_heads": [1, 2, 4, 8, 16], "n_layers": [30, 42, 50]}, hold=name
    )
    assert (same["d_ff"] == points["d_ff"]).all()
    assert points["d_ff"][3, 1] == 14336 and points["hold_residual"][3, 1] == 0


def test_a_budget_that_cannot_be_held_is_a_refused_point():
    held = budget("params", BASE, archlab.Workload(new=8))
    points = archlab.evaluate(BASE, archlab.Workload(new=8), grid={"vocab_size": [256000, 4_000_000]}, hold=held)
    assert points.ok.tolist() == [True, False]
    assert "no d_ff" in points.reason((1,))


def test_a_mesh_of_a_million_points_is_right_at_its_corners():
    grid = {
        "attention.n_kv_heads": [1, 2, 4, 8, 16],
        "local.window": list(range(256, 256 + 40 * 64, 64)),
        "workload.context": list(range(1024, 1024 * 101, 1024)),
        "mlp.d_ff": list(range(4096, 4096 + 50 * 128, 128)),
    }
    work = archlab.Workload(new=8192, logits="last")
    points = archlab.evaluate(BASE, work, "h200-sxm", grid=grid)
    assert len(points) == 1_000_000 and points["params"].shape == (5, 40, 100, 50)
    for position in [(0, 0, 0, 0), (4, 39, 99, 49), (2, 17, 60, 31)]:
        at = points.at(position)
        context = at.pop("workload.context")
        spec, one = archlab.load("gemma-2-9b", at), archlab.Workload(new=context, logits="last")
        assert points["flops_prefill"][position] == archlab.flops(spec, one).total
        assert points["kv_cache_bytes"][position] == archlab.kv_cache(spec, context).total
        seconds = archlab.latency(spec, one.decode(), "h200-sxm").bound_seconds
        assert points["decode_bound_s"][position] == pytest.approx(seconds, rel=1e-12, abs=0)


def test_linked_columns_and_structures():
    work = archlab.Workload(new=4096, logits="last")
    columns = {"attention.n_kv_heads": [1, 8, 3], "pattern": [["global"], ["local", "global"], ["global"]]}
    frame = archlab.evaluate(BASE, work, columns=columns).frame()
    assert frame["status"].tolist() == ["ok", "ok", "refused"]
    assert "multiple" in frame["reason"][2]
    one = archlab.load("gemma-2-9b", {"attention.n_kv_heads": 1, "pattern": ["global"]})
    assert frame["params"][0] == archlab.params(one).total
    assert np.isnan(frame["kv_local_bytes"][0])  # it has no local layers


def test_numbers_of_2_to_the_53_and_more_are_flagged():
    work = archlab.Workload(new=8192, logits="last")
    big = archlab.evaluate(BASE, work, grid={"workload.context": [1024, 1_000_000]})
    assert "flops_prefill" in big.inexact and "params" not in big.inexact


def test_numpys_values_are_read_as_pythons():
    assert archlab.load("gemma-2-9b", {"mlp.d_ff": np.int64(128)}).data["mlp"]["d_ff"] == 128
    for value in (np.int64(-5), np.float64(1.5), np.float64("nan")):
        with pytest.raises(SpecError, match="must be a whole number"):
            archlab.load("gemma-2-9b", {"mlp.d_ff": value})
    work = archlab.Workload(np.int64(4096), 131072, 131072, train=True)
    assert archlab.flops(BASE, work).total > 2**63  # exact, where int64 would have wrapped
    points = archlab.evaluate(BASE, archlab.Workload(new=64), grid={"local.window": np.array([16, 32])})
    assert points.ok.all() and points["flops_prefill"].dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"grid": {"mlp.activation": "gelu"}}, "must be a list of values"),
        ({"grid": {"local.window": 5}}, "must be a list of values"),
        ({"grid": {"local.window": []}}, "has no values"),
        ({"grid": {"local.window": [1], "model.local.window": [2]}}, "given as two axes"),
        ({"grid": {"local.windows": [1]}}, "did you mean 'local.window'"),
        ({"columns": {"local.window": [1, 2], "mlp.d_ff": [1]}}, "one length"),
        ({"grid": {"mlp.d_ff": [64]}, "hold": budget("params", BASE, archlab.Workload(new=8))}, "cannot be an axis"),
        ({"hardware": "t4"}, "t4 has no bf16 rate"),
    ],
)
def test_evaluate_refuses_what_it_cannot_mean(arguments, sentence):
    with pytest.raises(ArchlabError, match=sentence):
        archlab.evaluate(BASE, archlab.Workload(new=64), **arguments)
    for work in (archlab.Workload(new=8, train=True), archlab.Workload(new=7, context=8)):
        with pytest.raises(SpecError, match="evaluate"):
            archlab.evaluate(BASE, work)


@pytest.mark.parametrize("context", [0, -5, 1.5, float("nan"), "8k", True])
def test_a_cache_for_no_tokens_is_refused(context):
    with pytest.raises(SpecError, match="context"):
        archlab.kv_cache(BASE, context)


def test_a_bound_names_the_roof_that_takes_more_of_it():
    device, form = load_hardware("h200-sxm"), load_precision("bf16")
    works = archlab.Workload(new=1, context=2048), archlab.Workload(new=8192)
    decode, prefill = (bound(ledger(BASE, work), device, form) for work in works)
    assert (decode.bound, prefill.bound) == ("memory", "compute")
    for found in (decode, prefill):
        assert (
            found.compute + found.memory == pytest.approx(found.seconds) == pytest.approx(sum(found.by_part.values()))
        )
