"""The largest number that holds: looked for and solved, against counting."""

import numpy as np
import pytest
from expressions import small_parts
from hypothesis import given, settings
from hypothesis import strategies as st

from archlab.algebra import ceil_div, maximum, minimum, where
from archlab.columns import program, straight
from archlab.columns.graph import Graph
from archlab.columns.program import Program
from archlab.columns.search import search
from archlab.columns.traced import column, largest

MOST = 400


def counted(holds, least=1, most=MOST):
    """One after another."""
    found = 0
    for n in range(least, most + 1):
        if not holds(n):
            break
        found = n
    return found


@st.composite
def falls(draw):
    """A margin that never rises: from somewhere, by steps that come in runs."""
    runs = draw(
        st.lists(st.tuples(st.integers(1, 90), st.sampled_from([0, 0, 1, 1, 2, 7, 50])), min_size=1, max_size=9)
    )
    every = draw(st.sampled_from([1, 1, 1, 5, 16]))
    steps = np.concatenate([np.full(length, drop) for length, drop in runs])
    steps = np.resize(steps, MOST + 2)
    steps = np.where(np.arange(MOST + 2) % every == 0, steps * every, 0)
    return draw(st.integers(-20, 900)) + draw(st.sampled_from([0.0, 0.5])) - np.cumsum(steps)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(falls(), min_size=1, max_size=6), st.integers(1, 30), st.data())
def test_a_search_finds_what_counting_does(margins, least, data):
    table = np.array(margins)
    rows = np.arange(len(margins))

    def margin(at, where):
        assert ((at >= least - 1) & (at <= MOST + 1)).all() and (at % 1 == 0).all()
        return table[rows if where is None else rows[where[0]], at.astype(int)]

    ends = data.draw(st.integers(least, MOST)), data.draw(st.integers(least, MOST))
    low = np.full(len(margins), float(least))
    expected = [counted(lambda n, m=m: m[n] >= 0, least) for m in margins]
    assert search(margin, low, MOST, ends).tolist() == expected
    brief = search(margin, low, MOST, ends, brief=True)
    assert all(b == e for b, e in zip(brief, expected, strict=True) if not np.isnan(b))


def test_a_straight_margin_takes_four_looks():
    looks = []

    def margin(at, where):
        looks.append(at)
        return 1e9 - 7.0 * at

    assert search(margin, np.ones(3), 2**27, (2**27, 2**27 - 4096)).tolist() == [min(10**9 // 7, 2**27)] * 3
    assert (
        search(lambda at, where: 1e7 - 7.0 * at, np.ones(3), 2**27, (2**27, 2**27 - 4096)).tolist() == [10**7 // 7] * 3
    )
    assert len(looks) == 2


@pytest.mark.parametrize("margin", [np.nan, -1.0, 5.0])
def test_nowhere_and_everywhere(margin):
    found = search(lambda at, where: np.full(at.shape, margin), np.full(4, 2.0), 99, (99, 2))
    assert found.tolist() == [99.0 if margin > 0 else 0.0] * 4


# ---------------------------------------------------------------- what is written down

BENT = {
    "straight": lambda n, a, w: a - 3 * n,
    "a window": lambda n, a, w: a - n - 2 * minimum(n, w),
    "flat beyond": lambda n, a, w: a - 5 * minimum(n, w),
    "nothing grows": lambda n, a, w: a - w + 0 * n,
    "two windows": lambda n, a, w: a - w * minimum(n, 20) - 2 * minimum(n, w),
    "chunks": lambda n, a, w: a - n - 3 * minimum(20, n) - 2 * minimum(w - 1, n - minimum(20, n)),
    "the fullest": lambda n, a, w: a - 2 * n - maximum(maximum(7 * minimum(n, 30), w * n), 100),
    "the fullest of chunks": lambda n, a, w: a - n - w * maximum(40 + minimum(n, w), 3 * minimum(30, n)),
    "a slope that may be 0": lambda n, a, w: a - (w - 1) * n - minimum(n, 9),
    "blocks": lambda n, a, w: a - 3 * 16 * ceil_div(n, 16) - minimum(n, w),
    "a branch": lambda n, a, w: a - where(n > w, 3 * n, n),
    "quotients": lambda n, a, w: a - n * n // (w + 1),
}
UNSOLVED = {name: [False] for name in ("blocks", "a branch", "quotients")}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 3000), st.integers(1, 50), st.integers(1, 12)), min_size=1, max_size=20),
    st.booleans(),
)
@pytest.mark.parametrize("name", BENT)
def test_a_written_search_finds_what_counting_does(name, rows, parts):
    margin = BENT[name]
    graph = Graph()
    a, w, least = (column(graph, np.array(values, dtype=float), 0) for values in zip(*rows, strict=True))
    found = largest(lambda n: margin(n, a, w) >= 0, graph, least, MOST)
    expected = [counted(lambda n, a=a, w=w: margin(n, a, w) >= 0, least) for a, w, least in rows]
    with small_parts() if parts else np.errstate():
        array = Program(graph, {"it": found, "next": found + 1}).run()
    assert np.broadcast_to(array["it"], len(rows)).tolist() == expected
    assert np.broadcast_to(array["next"], len(rows)).tolist() == [n + 1 for n in expected]


@pytest.mark.parametrize("name", BENT)
def test_a_written_search_on_a_mesh(name):
    margin, graph = BENT[name], Graph(3)
    sizes = np.array([-5, 0, 40, 100, 300, 1200, 5000.0]), np.array([1, 2, 19, 20, 21, 60.0]), np.array([1, 5.0])
    a, w, extra = (column(graph, values, axis) for axis, values in enumerate(sizes))
    found = largest(lambda n: margin(n, a + extra, w) >= 0, graph, 1, MOST)
    expected = [
        counted(lambda n, at=at: margin(n, int(at[0] + at[2]), int(at[1])) >= 0)
        for at in np.stack(np.meshgrid(*sizes, indexing="ij"), -1).reshape(-1, 3)
    ]
    for context in (np.errstate(), small_parts()):
        with context:
            array = Program(graph, {"it": found}).run()["it"]
        assert np.broadcast_to(array, (7, 6, 2)).ravel().tolist() == expected


@pytest.mark.parametrize("name", BENT)
def test_what_is_solved_is_what_is_looked_for(name, monkeypatch):
    """Of many linked points: solved where the margin is straight beyond its bends, looked for in all others."""
    generator = np.random.default_rng(3)
    rows = [generator.integers(-5, 3000, 40_000), generator.integers(1, 50, 40_000)]

    def found():
        graph = Graph()
        a, w = (column(graph, values.astype(float), 0) for values in rows)
        made = Program(graph, {"it": largest(lambda n: BENT[name](n, a, w) >= 0, graph, 1, MOST)})
        return made.run()["it"], made.searches

    monkeypatch.setattr(program, "SMALL", 4096)
    array, _ = found()
    monkeypatch.setattr(straight, "MOST_SIDES", 0)
    looked, searches = found()
    assert searches and (array == looked).all()


@pytest.mark.parametrize("name", BENT)
def test_which_margins_are_solved(name):
    graph = Graph()
    a, w = (column(graph, np.array(values, dtype=float), 0) for values in ([-5, 2000, 3000], [1, 20, 40]))
    largest(lambda n: BENT[name](n, a, w) >= 0, graph, 1, MOST)
    sought = [atom.sought for atom in graph.atoms if atom.sought is not None]
    assert [it.far is not None for it in sought] == {"straight": [], "nothing grows": [], **UNSOLVED}.get(name, [True])
