"""A formula is one thing: on ints, on numpy's columns, and written down and run as a program."""

import math

import numpy as np
import pytest
from expressions import MOST, NAMES, computed, points, real, small_parts, traced, whole
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archlab.algebra import floor_div, maximum, minimum, where
from archlab.columns.graph import Graph
from archlab.columns.program import Program
from archlab.columns.traced import column, tabled

numbers = st.integers(-3, 30) | st.integers(0, 4) | st.sampled_from([49, 98, 1000])


@st.composite
def spaces(draw, numbers=numbers):
    """Axes of one to three dimensions (a mesh, or linked columns), and what each name is along its axis."""
    n_axes = draw(st.integers(1, 3))
    axes = {key: draw(st.integers(0, n_axes - 1)) for key in NAMES}
    shape = tuple(draw(st.integers(1, 11 if n_axes == 1 else 5)) for _ in range(n_axes))
    values = {key: np.array([draw(numbers) for _ in range(shape[axis])], dtype=float) for key, axis in axes.items()}
    used = tuple(n if i in axes.values() else 1 for i, n in enumerate(shape))
    return axes, values, used


def sized(formulas, values):
    """Formulas that stay below 2**53 on the way."""
    sizes = {key: float(np.abs(v).max()) for key, v in values.items()}
    return all(f.size(sizes) < MOST for f in formulas)


@settings(max_examples=250, deadline=None)
@given(spaces(), st.lists(whole, min_size=1, max_size=4), st.booleans())
def test_whole_numbers_are_exact(space, formulas, parts):
    axes, values, shape = space
    assume(sized(formulas, values))
    if parts:
        with small_parts():
            found = computed(formulas, axes, values, len(shape))
    else:
        found = computed(formulas, axes, values, len(shape))
    for formula, array in zip(formulas, found, strict=True):
        expected = np.array([formula.of(v) for v in points(axes, values, shape)], dtype=float).reshape(shape)
        assert (np.broadcast_to(array, shape) == expected).all(), formula


@settings(max_examples=120, deadline=None)
@given(spaces(st.integers(0, 30)), st.lists(real, min_size=1, max_size=3), st.booleans())
def test_other_numbers_are_within_rounding(space, formulas, parts):
    axes, values, shape = space
    with small_parts() if parts else np.errstate():
        found = computed(formulas, axes, values, len(shape))
    for formula, array in zip(formulas, found, strict=True):
        expected = np.array([formula.of(v) for v in points(axes, values, shape)], dtype=float).reshape(shape)
        np.testing.assert_allclose(np.broadcast_to(array, shape), expected, rtol=1e-12, atol=0, err_msg=repr(formula))


@settings(max_examples=60, deadline=None)
@given(spaces(), st.lists(whole, min_size=1, max_size=3))
def test_numpys_columns_agree(space, formulas):
    axes, values, shape = space
    assume(sized(formulas, values))
    dims = {
        key: values[key].reshape([n if i == axis else 1 for i, n in enumerate(shape)]) for key, axis in axes.items()
    }
    for formula, array in zip(formulas, computed(formulas, axes, values, len(shape)), strict=True):
        assert (np.broadcast_to(array, shape) == np.broadcast_to(formula.of(dims), shape)).all(), formula


@settings(max_examples=60, deadline=None)
@given(spaces(), st.lists(whole, min_size=1, max_size=3), st.data())
def test_a_part_of_the_points_is_a_part_of_the_results(space, formulas, data):
    axes, values, shape = space
    assume(sized(formulas, values))
    placeholders = traced(axes, values, len(shape))
    graph = placeholders["x"].graph
    made = Program(graph, {str(i): f.of(placeholders) for i, f in enumerate(formulas)})
    piece = tuple(slice(start := data.draw(st.integers(0, n - 1)), data.draw(st.integers(start + 1, n))) for n in shape)
    some = {
        n: a[tuple(s if k > 1 else slice(None) for s, k in zip(piece, a.shape, strict=True))]
        for n, a in graph.arrays.items()
    }
    inside = tuple(s.stop - s.start for s in piece)
    for formula, array in zip(formulas, made.run(some).values(), strict=True):
        expected = np.array([formula.of(v) for v in points(axes, values, shape)], dtype=float).reshape(shape)[piece]
        assert (np.broadcast_to(array, inside) == expected).all()


# ---------------------------------------------------------------- single facts


def one(values, formula):
    """A formula of one linked column."""
    graph = Graph()
    found = formula(column(graph, np.array(values, dtype=float), 0))
    return np.broadcast_to(Program(graph, {"it": found}).run()["it"], len(values)).tolist()


@pytest.mark.parametrize("n", [49, 98, 103, 107, 161])
def test_a_quotient_that_is_1_is_not_thought_to_be_0(n):
    """49 * (1 / 49) is less than 1."""
    assert n * (1 / n) <= 1
    assert one([n - 1, n], lambda x: maximum(floor_div(x, n), 0)) == [0, 1]
    assert one([n - 1, n], lambda x: where(floor_div(n * n, x) >= n, 1, 0)) == [1, 1]


def test_a_side_that_is_not_chosen_may_be_infinite():
    assert one([0, 2], lambda x: where(x > 0, 6 / x, 0)) == [0, 3]
    assert one([0, 2], lambda x: where(x > 0, 6 / x, -1)) == [-1, 3]


def test_truths_are_counted_not_joined():
    assert one([1, 2, 3], lambda x: (x > 1) + (x > 2)) == [0, 1, 2]
    assert one([1, 2, 3], lambda x: (x > 1) - (x > 2)) == [0, 1, 0]
    assert one([1, 2, 3], lambda x: minimum((x > 1) * (x > 2), x > 0) + (x == 3)) == [0, 0, 2]
    assert one([1, 2, 3], lambda x: ((x > 1) + (x > 0)) ** 0.5) == pytest.approx([1, math.sqrt(2), math.sqrt(2)])


def test_what_is_given_as_no_number_decides_nothing():
    def formula(x):
        table = tabled(x, lambda v: np.where(v > 1, v, np.nan))
        return where(x > 1, table, 0) + where(table > 5, 100, 0)

    assert one([1, 2, 6], formula) == [0, 2, 106]


def test_what_no_formula_may_do_is_refused():
    x = column(Graph(), np.arange(3.0), 0)
    for wrong in (lambda: bool(x), lambda: np.exp(x), lambda: np.sum(x), lambda: x + "a", lambda: np.add.reduce(x)):
        with pytest.raises(TypeError):
            wrong()


def test_equal_values_are_computed_once():
    graph = Graph()
    x, y = (column(graph, np.arange(1.0, 9.0), 0) for _ in range(2))
    made = Program(graph, {"a": (x + y) * (x + y), "b": x * x + 2 * x * y + y * y, "c": maximum(x, x - 1)})
    assert made.results["a"] == made.results["b"]
    assert made.lines[made.results["c"]].op == "input"


def test_a_sum_that_holds_another_is_that_and_the_rest():
    graph = Graph()
    x, y, z = (column(graph, np.arange(1.0, 9.0), 0) for _ in range(3))
    parts = {"a": x * y + x + 3 * y, "b": z * z + z}
    made = Program(graph, {**parts, "sum": parts["a"] + parts["b"]})
    assert made.passes == Program(graph, parts).passes + 1


def test_a_result_may_be_a_number_a_truth_or_what_was_given():
    graph = Graph()
    x = column(graph, np.arange(70_000.0), 0)
    found = Program(graph, {"one": 1, "no": False, "x": x, "same": x, "more": x + 1, "true": x >= 0}).run()
    assert found["one"] == 1.0 and found["no"].dtype == bool and found["true"]
    assert (found["x"] == found["same"]).all() and (found["more"] == found["x"] + 1).all()
