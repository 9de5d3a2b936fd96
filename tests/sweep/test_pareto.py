"""Fronts agree with a comparison of every pair; a stream agrees with the whole; boxes stand for every row."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archlab.errors import SpecError
from archlab.sweep import pareto
from archlab.sweep.pareto import Front, Objective, epsilon_front, front, parse_objective


def beats(a, b) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def slow_front(rows) -> list[int]:
    """By the definition, in Python."""
    finite = [i for i, row in enumerate(rows) if all(np.isfinite(row))]
    return [i for i in finite if not any(beats(rows[j], rows[i]) for j in finite)]


def front_of_many(values) -> np.ndarray:
    """By the definition, a row at a time against all of them: no sorting, no sample."""
    columns = np.ascontiguousarray(values.T)
    return np.array([i for i in range(len(values)) if not beaten(columns, columns[:, i])])


def beaten(columns, row) -> bool:
    reach = [column <= own for column, own in zip(columns, row, strict=True)]
    below = [column < own for column, own in zip(columns, row, strict=True)]
    return bool((np.logical_and.reduce(reach) & np.logical_or.reduce(below)).any())


coarse = st.sampled_from([0.0, 1.0, 2.0, 3.0, -0.0, -1.0])
odd = st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf, -np.inf])
any_float = st.floats(allow_nan=True, allow_infinity=True)
tables = st.integers(1, 5).flatmap(
    lambda k: st.lists(st.lists(st.one_of(coarse, odd, any_float), min_size=k, max_size=k), min_size=0, max_size=40)
    .map(lambda rows: np.array(rows, dtype=float).reshape(-1, k))
)  # fmt: skip


@pytest.fixture(params=["as it is", "tiny blocks"])
def sizes(request, monkeypatch):
    """Small limits make small cases go through every branch."""
    if request.param == "tiny blocks":
        for name, value in {"_SAMPLE": 4, "_FEW": 4, "_LEAF": 2, "_PAIRS": 2, "_GUIDES": 2}.items():
            monkeypatch.setattr(pareto, name, value)


@pytest.mark.usefixtures("sizes")
class TestAgainstTheDefinition:
    @settings(max_examples=150, deadline=None)
    @given(values=tables)
    def test_front(self, values):
        assert front(values).tolist() == slow_front(values.tolist())

    @settings(max_examples=100, deadline=None)
    @given(values=tables, data=st.data())
    def test_senses_turn_columns_round(self, values, data):
        senses = data.draw(
            st.lists(st.sampled_from(["min", "max"]), min_size=values.shape[1], max_size=values.shape[1])
        )
        signs = [-1.0 if sense == "max" else 1.0 for sense in senses]
        assert front(values, senses).tolist() == slow_front((values * signs).tolist())

    @settings(max_examples=100, deadline=None)
    @given(values=tables, cuts=st.lists(st.integers(0, 40), max_size=6), maximise=st.booleans())
    def test_a_stream_is_the_whole(self, values, cuts, maximise):
        senses = ["max"] + ["min"] * (values.shape[1] - 1) if maximise else None
        stream, edges = Front(senses), [0, *sorted(min(c, len(values)) for c in cuts), len(values)]
        for start, end in itertools.pairwise(edges):
            stream.add(values[start:end])
            so_far = front(values[:end], senses)
            assert stream.ids.tolist() == so_far.tolist()
            assert np.array_equal(stream.values, values[:end][so_far])
        assert len(stream) == len(stream.ids) and stream.seen == len(values)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("made", ["uniform", "ties", "antichain", "shell", "scales", "constant"])
def test_thousands_of_rows(k, made):
    rng = np.random.default_rng(k)
    values = rng.random((5000, k))
    if made == "ties":
        values = np.floor(values * 6)
    elif made == "antichain":
        values /= values.sum(axis=1, keepdims=True)
    elif made == "shell":
        values /= np.linalg.norm(values, axis=1, keepdims=True) / (1 + 0.02 * rng.random((5000, 1)))
    elif made == "scales":
        values = np.exp(values * 60 - 30) * 10.0 ** np.arange(0, 4 * k, 4)
    elif made == "constant":
        values[:, 0] = 7
    found = front(values)
    assert np.array_equal(found, front_of_many(values))
    if made == "antichain" and k > 2:
        assert len(found) > 4900  # rounding makes a few sums smaller
    stream = Front()
    for start in range(0, 5000, 1250):
        stream.add(values[start : start + 1250], ids=np.array([f"p{i:04}" for i in range(start, start + 1250)]))
    assert stream.ids.tolist() == [f"p{i:04}" for i in found]


def test_long_streams_are_swept_by_the_front_that_is_there():
    rng = np.random.default_rng(3)
    values = np.floor(rng.random((60_000, 3)) * 500)
    stream = Front(["min", "max", "min"])
    for chunk in np.split(values, 3):
        stream.add(chunk)
    assert np.array_equal(stream.ids, front(values, ["min", "max", "min"]))
    turned = values * [1, -1, 1]
    best = np.ascontiguousarray(turned[stream.ids].T)
    assert [i for i in range(60_000) if not beaten(best, turned[i])] == stream.ids.tolist()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n):
    assert front(np.zeros((n, 3))).tolist() == list(range(n))
    assert epsilon_front(np.ones((n, 3)), 0.1).tolist() == list(range(min(n, 1)))


def test_all_copies_of_a_best_row_stay():
    assert front([[1, 2], [2, 1], [1, 2], [2, 2], [1, 2]]).tolist() == [0, 1, 2, 4]
    assert front([[3.0], [1.0], [1.0], [np.nan]]).tolist() == [1, 2]


positive = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.lists(st.floats(1e-6, 1e6), min_size=k, max_size=k), min_size=1, max_size=40).map(np.array)
)


@settings(max_examples=150, deadline=None)
@given(positive, st.sampled_from([0.01, 0.1, 0.5, 2.0]), st.booleans())
def test_boxes_stand_for_every_row(values, epsilon, maximise):
    senses = ["max" if maximise else "min"] * values.shape[1]
    found = epsilon_front(values, epsilon, senses)
    assert set(found) <= set(front(values, senses))
    cost = 1 / values if maximise else values
    for row in cost:
        assert any((cost[i] <= row * (1 + epsilon) * (1 + 1e-9)).all() for i in found)
    boxes = np.floor(np.log(cost[found]) / np.log1p(epsilon) + 0.0)
    if not maximise:
        assert len({tuple(box) for box in boxes}) == len(found)
        assert len(front(boxes)) == len(found)


def test_boxes_keep_few_of_many():
    x = np.linspace(0.01, 1, 10_000)
    values = np.column_stack([x, 1 / x])
    few = epsilon_front(values, 0.1)
    assert len(front(values)) == 10_000
    assert 48 <= len(few) <= 2 * 49  # log(100) / log(1.1) is 48.3 boxes along either objective


@pytest.mark.parametrize("text, made", [
    ("decode_s", Objective("decode_s", "min")), ("min decode_s", Objective("decode_s", "min")),
    (" max  max_context ", Objective("max_context", "max")), ("min max_batch", Objective("max_batch", "min")),
])  # fmt: skip
def test_objectives(text, made):
    assert parse_objective(text) == made
    assert parse_objective(str(made)) == made


@pytest.mark.parametrize("text, says", [
    ("maximum params", "must begin with min or max"), ("mx params", r"did you mean 'max'"),
    ("max_context", "needs its sense: write 'max max_context'"), ("max parms", "unknown column 'parms'; did you mean 'params'"),
    ("", "must be a column"), ("min max params", "must be a column"), (3, "must be a column"),
])  # fmt: skip
def test_what_is_no_objective_is_one_sentence(text, says):
    with pytest.raises(SpecError, match=says):
        parse_objective(text, ["params", "max_context"])


@pytest.mark.parametrize("call, says", [
    (lambda: front([1, 2]), r"shape \(n, k\), not \(2,\)"),
    (lambda: front(np.ones((2, 0))), r"not \(2, 0\)"),
    (lambda: front([[1, 2]], ["min"]), "must be one for each of 2"),
    (lambda: front([[1, 2]], ["min", "mix"]), "sense='mix' must be min or max"),
    (lambda: epsilon_front([[1, 2]], 0), "epsilon=0 must be above 0"),
    (lambda: epsilon_front([[1, 0]], 0.1), "needs values above 0"),
    (lambda: Front().add([[1, 2]], ids=[1, 2]), "one for each of 1 rows"),
    (lambda: [f := Front(), f.add([[1, 2]]), f.add([[1, 2, 3]])], "3 objectives cannot join a front of 2"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(call, says):
    with pytest.raises(SpecError, match=says):
        call()
