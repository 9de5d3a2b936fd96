"""What is stored of a large grid: fronts, a sample, marginals over all points; against the whole of it."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.analyzers.memory import setting
from archlab.errors import SpecError
from archlab.sweep.evaluate import survey
from archlab.sweep.marginals import marginals, merged
from archlab.sweep.measures import Asked
from archlab.sweep.notable import Wanted, marginal_rows, notable

GRID = {
    "attention.n_kv_heads": [1, 2, 3, 4],  # 3 does not divide 16: refused
    "local.window": [256, 1024, 4096],
    "workload.context": [1024, 8192, 32768],
    "mlp.d_ff": [4096, 8192, 14336, 16384],
}
OBJECTIVES = ("min memory_bytes", "max params", "min decode_bound_s")


@pytest.fixture(scope="module")
def space():
    asked = Asked(setting("h200-sxm", "bf16", "ideal"), memory=True)
    return survey(archlab.load("gemma-2-9b"), archlab.Workload(new=8192, logits="last"), asked, GRID)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_marginals_are_what_a_loop_finds(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    own = tuple(n if data.draw(st.booleans()) else 1 for n in shape)
    flat = data.draw(st.lists(st.integers(-9, 9), min_size=int(np.prod(own)), max_size=int(np.prod(own))))
    values = np.array(flat, dtype=float).reshape(own)
    mask = np.array([data.draw(st.booleans()) for _ in range(shape[0])]).reshape((-1,) + (1,) * (len(shape) - 1))
    keys = [f"k{i}" for i in range(len(shape))]
    found = marginals(values, mask, keys, [range(n) for n in shape]).set_index(["key", "position"])
    whole, good = np.broadcast_to(values, shape), np.broadcast_to(mask, shape)
    for axis, n in enumerate(shape):
        for i in range(n):
            some = np.take(whole, i, axis)[np.take(good, i, axis)]
            row = found.loc[(f"k{axis}", i)]
            assert row["points"] == pytest.approx(some.size)
            assert row["sum"] == pytest.approx(some.sum())
            if some.size:
                assert (row["low"], row["high"]) == (some.min(), some.max())


def test_parts_add_up_to_the_whole(space):
    wanted = Wanted("kept", 5, (), OBJECTIVES)
    whole = marginal_rows(space.points(), tuple(slice(0, n) for n in space.shape), wanted)
    parts = [marginal_rows(space.points(piece), piece, wanted) for piece in space.parts(16)]
    order = ["column", "key", "position"]
    a, b = (merged(rows, ["column"]).sort_values(order, ignore_index=True) for rows in ([whole], parts))
    assert len(parts) > 3
    pd.testing.assert_frame_equal(a, b[a.columns], check_exact=False, rtol=1e-12)
    frame = space.points().frame()
    good = frame[frame["status"] == "ok"]
    for key in GRID:
        rows = a[(a["column"] == "memory_bytes") & (a["key"] == key)]
        for row in rows.to_dict("records"):
            some = good[good[key] == GRID[key][int(row["position"])]]["memory_bytes"]
            assert row["points"] == len(some) and row["mean"] == pytest.approx(some.mean(), rel=1e-12)
            assert (row["low"], row["high"]) == (some.min(), some.max())


def dominates(a, b):
    return (a <= b).all() and (a < b).any()


def costs_of(rows):
    return np.stack([rows["memory_bytes"], -rows["params"], rows["decode_bound_s"]], axis=1)


def brute_front(rows):
    costs = costs_of(rows)
    beaten = [any(dominates(other, row) for other in costs) for row in costs]
    return {place for place, lost in zip(rows.index, beaten, strict=True) if not lost}


def test_the_front_of_kept_rows_is_that_of_each_context(space):
    points = space.points()
    kept = notable(points, Wanted("kept", 3, (), OBJECTIVES))
    frame = points.frame()
    good = frame[frame["status"] == "ok"]
    best = set().union(*(brute_front(same) for _, same in good.groupby("workload.context")))
    assert {p for p, why in zip(kept.places, kept.why, strict=True) if "front" in why} == best
    assert best != brute_front(good)  # contexts are not comparable
    assert 3 >= sum("sample" in why for why in kept.why) > 0
    assert set(kept.places) <= set(notable(points, Wanted("all", 3, (), OBJECTIVES)).places) == set(range(len(points)))


def test_of_many_places_some_have_fronts_the_same_in_every_part(monkeypatch, space):
    monkeypatch.setattr("archlab.sweep.notable.MOST_PLACES", 2)
    wanted = Wanted("kept", 1, (), OBJECTIVES)
    whole = notable(space.points(), wanted)
    contexts = {
        int(np.unravel_index(p, space.shape)[2]) for p, w in zip(whole.places, whole.why, strict=True) if "front" in w
    }
    assert contexts == {0, 2}
    for piece in space.parts(16):
        points = space.points(piece)
        found = notable(points, wanted)
        for place, why in zip(found.places, found.why, strict=True):
            local = np.unravel_index(place, points.shape)
            assert "front" not in why or piece[2].start + local[2] in contexts


@pytest.mark.slow
def test_a_large_runs_fronts_are_those_of_its_contexts(archlab_command, tmp_path, monkeypatch):
    """From the command line: a run of which only rows of note are stored, against all of its points."""
    monkeypatch.setattr("archlab.sweep.argv_sizes.MOST_TABLE", 50)
    monkeypatch.setattr("archlab.sweep.argv_sizes.MOST_ROWS", 60)
    words = ["model=gemma-2-9b", "model.mlp.d_ff=range(4096,16384,1024)", "model.attention.n_kv_heads=1,4,16",
             "workload.context=8k,32k", f"objectives={', '.join(OBJECTIVES)}", "hardware=h200-sxm", "measure=never"]  # fmt: skip
    assert archlab_command("sweep", *words, "out=some").code == 0
    assert archlab_command("sweep", *words, "rows=all", "out=every").code == 0
    some = pd.read_parquet(tmp_path / "some" / "points.parquet")
    every = pd.concat(
        [pd.read_parquet(p) for p in (tmp_path / "every" / "blocks").glob("*.parquet")], ignore_index=True
    )
    assert len(every) == 72 and len(some) < 72
    for context, rows in every.groupby("context"):
        best = rows.loc[sorted(brute_front(rows))]["point"]
        assert set(some[some["front"] & (some["context"] == context)]["point"]) == set(best)


def test_a_condition_leaves_points_out_of_the_front(space):
    points = space.points()
    tight = notable(points, Wanted("all", 0, ("memory_bytes <= 24 GiB", "model.local.window >= 1024"), OBJECTIVES))
    frame = points.frame()
    expected = (frame["memory_bytes"] <= 24 * 2**30) & (frame["local.window"] >= 1024)
    good = frame["status"] == "ok"
    assert (tight.within[good] == expected[good]).all() and 0 < expected.sum() < len(points)
    front = notable(points, Wanted("kept", 1, ("memory_bytes <= 24 GiB",), OBJECTIVES))
    assert all(
        frame["memory_bytes"][p] <= 24 * 2**30 for p, w in zip(front.places, front.why, strict=True) if "front" in w
    )


def test_a_misspelt_column_is_a_sentence(space):
    with pytest.raises(SpecError, match="did you mean 'memory_bytes'"):
        notable(space.points(), Wanted("all", 0, ("memory_byte > 3",)))


def test_a_sample_does_not_fall_into_step_with_an_axis(space):
    sizes = [7, 11, 13]
    for n, size in itertools.product(sizes, sizes):
        points = n * 1000
        from archlab.sweep.notable import _spread

        places = _spread(points, size * 8)
        assert len(places) == size * 8 and len(set(places % n)) == n  # every position of an axis of n
