"""Effects agree with closed forms, with loops over every point, and do not touch what a view repeats."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import archlab
from archlab.errors import SpecError
from archlab.sweep import effects
from archlab.sweep.effects import axes_of, main_effects, variance_shares

AXES = {"a": [1, 2, 3], "b": [10, 20], "c": ["x", "y", "z", "w"]}
SHAPE = (3, 2, 4)

grids = arrays.arrays(float, SHAPE, elements=st.floats(0.125, 8, width=32))
masks = arrays.arrays(bool, SHAPE)


@pytest.fixture(params=["as it is", "tiny blocks"])
def blocks(request, monkeypatch):
    if request.param == "tiny blocks":
        monkeypatch.setattr(effects, "_BLOCK", 5)


def slow_effects(values, kept, base):
    """Rows by loops over all points: (axis, value, points, mean, min, max, ratio)."""
    for axis, name in enumerate(AXES):
        for i, value in enumerate(AXES[name]):
            here = [p for p in itertools.product(*map(range, SHAPE)) if p[axis] == i and kept[p]]
            found = [values[p] for p in here]
            partner = {p: (*p[:axis], base[axis], *p[axis + 1 :]) for p in here}
            logs = [math.log(values[p] / values[q]) for p, q in partner.items() if kept[q]]
            ratio = math.exp(sum(logs) / len(logs)) if logs else math.nan
            stats = (sum(found) / len(found), min(found), max(found)) if found else (math.nan,) * 3
            yield name, value, len(found), *stats, ratio


def slow_shares(values):
    """Shares by recursion on the definition: f_u = mean given x_u, less every f_v of v within u."""
    parts = {}
    for order in range(len(SHAPE) + 1):
        for term in itertools.combinations(range(len(SHAPE)), order):
            others = tuple(i for i in range(len(SHAPE)) if i not in term)
            part = values.mean(axis=others, keepdims=True) - sum(
                parts[inner] for n in range(order) for inner in itertools.combinations(term, n)
            )
            parts[term] = np.asarray(part)
    total = values.var()
    return {term: float(np.square(part).mean() / total) for term, part in parts.items() if term}


@pytest.mark.usefixtures("blocks")
@settings(max_examples=40, deadline=None)
@given(grids, masks, st.tuples(*(st.integers(0, n - 1) for n in SHAPE)))
def test_main_effects_are_the_loops(values, mask, base):
    found = main_effects(values, AXES, {name: AXES[name][i] for name, i in zip(AXES, base, strict=True)}, mask)
    for row, expected in zip(found.itertuples(index=False), slow_effects(values, mask, base), strict=True):
        assert tuple(row[:3]) == expected[:3]
        assert row[3:] == pytest.approx(expected[3:], rel=1e-12, nan_ok=True)


@pytest.mark.usefixtures("blocks")
@settings(max_examples=40, deadline=None)
@given(grids, st.booleans())
def test_shares_are_the_definition(values, negative):
    values = -values if negative else values
    found = variance_shares(values, AXES)
    basis = values if negative else np.log(values)
    if basis.std() < 1e-9:
        return
    assert (
        found.sentence == f"Shares of the variance of {'the value' if negative else 'log(value)'} over the whole grid."
    )
    expected, table = slow_shares(basis), found.table.set_index("term")["share"]
    names = dict(enumerate(AXES))
    for term, share in expected.items():
        if len(term) < 3:
            assert table[" x ".join(names[i] for i in term)] == pytest.approx(share, abs=1e-9)
    assert table["higher order"] == pytest.approx(expected[0, 1, 2], abs=1e-9)
    assert table.sum() == pytest.approx(1, abs=1e-9)


def test_a_product_has_main_effects_only():
    """log(a^2 b) is a sum: shares are 4 var(log a) and var(log b) over their sum, and ratios are the factors themselves."""
    a, b = np.array([1.0, 2, 4, 8]), np.array([1.0, 3])
    axes = {"a": a.tolist(), "b": b.tolist()}
    values = a[:, None] ** 2 * b
    table = variance_shares(values, axes).table.set_index("term")["share"]
    of_a, of_b = 4 * np.log(a).var(), np.log(b).var()
    assert table.to_dict() == pytest.approx(
        {"a": of_a / (of_a + of_b), "b": of_b / (of_a + of_b), "a x b": 0, "higher order": 0}, abs=1e-12
    )
    found = main_effects(values, axes, {"a": 2.0})
    assert found["ratio"].tolist() == pytest.approx([1 / 4, 1, 4, 16, 1, 3])
    assert found[found.axis == "b"]["mean"].tolist() == pytest.approx([85 / 4, 3 * 85 / 4])


def test_ishigami_on_a_grid():
    """Sobol's indices of a known function: sin x + 7 sin^2 y + 0.1 z^4 sin x on (-pi, pi)^3, midpoints of 200 intervals."""
    x = (np.arange(200) + 0.5) / 200 * 2 * np.pi - np.pi
    values = np.sin(x)[:, None, None] * (1 + 0.1 * x**4) + 7 * np.sin(x)[None, :, None] ** 2
    table = variance_shares(values, {name: x.tolist() for name in "xyz"}).table.set_index("term")["share"]
    total = 49 / 8 + 0.1 * np.pi**4 / 5 + 0.01 * np.pi**8 / 18 + 1 / 2
    assert table["x"] == pytest.approx(0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2 / total, rel=1e-3)
    assert table["y"] == pytest.approx(49 / 8 / total, rel=1e-3)
    assert table["x x z"] == pytest.approx(0.01 * np.pi**8 * (1 / 18 - 1 / 50) / total, rel=1e-3)
    assert table[["z", "x x y", "y x z", "higher order"]].abs().max() < 1e-12


def test_a_parity_is_of_higher_order():
    sign = np.array([-1.0, 1.0])
    table = variance_shares(sign[:, None, None] * sign[:, None] * sign, {name: [0, 1] for name in "abc"}).table
    assert table["share"].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 1])
    assert table["order"].tolist() == [1, 1, 1, 2, 2, 2, 3]


def test_views_of_a_hundred_million_points_are_not_copied():
    shape = (10,) * 8
    axes = {f"k{i}": list(range(1, 11)) for i in range(8)}
    k = np.arange(1.0, 11)
    values = np.broadcast_to((k[:, None] * k).reshape(10, 1, 1, 10, 1, 1, 1, 1), shape)
    mask = np.broadcast_to((k > 3).reshape(1, 10, 1, 1, 1, 1, 1, 1), shape)
    start = time.perf_counter()
    found = main_effects(values, axes, mask=mask).set_index(["axis", "value"])
    shares = variance_shares(values, axes).table.set_index("term")["share"]
    assert time.perf_counter() - start < 5  # 0.05 here; as whole arrays it would be minutes
    assert found["points"].loc["k0"].tolist() == [7 * 10**6] * 10
    assert found["points"].loc["k1"].tolist() == [0] * 3 + [10**7] * 7
    assert found["ratio"].loc["k0"].tolist() == pytest.approx(k.tolist())
    assert found["ratio"].loc["k7"].tolist() == [1.0] * 10
    assert found["mean"].loc["k3"].tolist() == pytest.approx((5.5 * k).tolist())
    assert shares["k0"] == pytest.approx(0.5) and shares["k3"] == pytest.approx(0.5) and shares["k1 x k2"] == 0


def test_what_is_masked_has_no_shares_and_says_so():
    values, mask = np.ones(SHAPE) + np.arange(4), np.ones(SHAPE, dtype=bool)
    mask[0, 0, 0] = False
    assert variance_shares(values, AXES, mask).table is None
    assert "complete grid" in variance_shares(values, AXES, mask).sentence
    values[1, 1, 1] = np.nan
    assert variance_shares(values, AXES).table is None
    assert main_effects(values, AXES)["points"].tolist() == [8, 7, 8, 12, 11, 6, 5, 6, 6]
    assert "no variance" in variance_shares(np.full(SHAPE, 0.1), AXES).sentence


def test_values_from_nought_down_have_no_ratio():
    found = main_effects(np.arange(24.0).reshape(SHAPE), AXES)
    assert found["ratio"].isna().all() and found["mean"].notna().all()


def test_yes_and_no_are_shares():
    fits = np.zeros(SHAPE, dtype=bool)
    fits[0], fits[1, 1] = True, True
    assert main_effects(fits, AXES)["mean"].tolist()[:5] == pytest.approx([1, 0.5, 0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("call, says", [
    (lambda: main_effects(np.ones((2, 2, 2)), AXES), r"must broadcast to the axes' lengths \(3, 2, 4\)"),
    (lambda: main_effects(np.full(SHAPE, "a"), AXES), "effects are of numbers"),
    (lambda: main_effects(1.0, AXES, {"a": 7}), "a=7, which is not among its values"),
    (lambda: main_effects(1.0, AXES, {"aa": 1}), "base names the axis 'aa', which is none; did you mean 'a'"),
    (lambda: main_effects(1.0, {}), "one or more axes"),
    (lambda: variance_shares(np.ones(3), AXES), "must broadcast"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(call, says):
    with pytest.raises(SpecError, match=says):
        call()


def test_the_points_of_a_sweep():
    """Parameters of a grid of KV heads are linear in them: the mean is that of the heads' own points."""
    spec, work = archlab.load("gemma-2-9b"), archlab.Workload(1, new=4096, context=4096)
    grid = {"attention.n_kv_heads": [1, 2, 4, 8], "workload.context": [4096, 8192, 16384]}
    points = archlab.evaluate(spec, work, grid=grid)
    axes = axes_of(points)
    assert {name: list(map(int, options)) for name, options in axes.items()} == grid
    found = main_effects(points["params"], axes, {"attention.n_kv_heads": 8}, points.ok).set_index(["axis", "value"])
    for heads in grid["attention.n_kv_heads"]:
        total = archlab.params(archlab.load("gemma-2-9b", {"attention.n_kv_heads": heads})).total
        assert found.loc[("attention.n_kv_heads", heads), "mean"] == total
        assert found.loc[("attention.n_kv_heads", heads), "ratio"] == pytest.approx(total / archlab.params(spec).total)
    assert found["ratio"].loc["workload.context"].tolist() == [1.0] * 3
    shares = variance_shares(points["kv_cache_bytes"], axes, points.ok).table.set_index("term")["share"]
    assert shares["attention.n_kv_heads x workload.context"] == pytest.approx(0, abs=1e-9)


def test_linked_keys_are_one_axis():
    spec, work = archlab.load("gemma-2-9b"), archlab.Workload(1, new=4096, context=4096)
    points = archlab.evaluate(spec, work, columns={"mlp.d_ff": [1024, 2048], "n_layers": [20, 10]})
    axes = axes_of(points)
    assert axes == {"mlp.d_ff + n_layers": [(1024, 20), (2048, 10)]}
    assert main_effects(points["params"], axes)["value"].tolist() == [(1024, 20), (2048, 10)]
