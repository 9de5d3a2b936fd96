"""Main effects: the means of the rows, or of marginals.parquet where a run is a sample."""

from __future__ import annotations

import grids
import pandas as pd
import pytest
from grids import HEADS, SMALL, WINDOW

from archlab.report import load_run
from archlab.report.charts import main_effects
from archlab.report.columns import quantity
from archlab.report.effects import effects, sentence
from archlab.report.points import cast


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return grids.small(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return grids.large(tmp_path_factory.mktemp("runs") / "large")


def test_of_the_points(small):
    run = load_run(small)
    rows = run.every[run.every["status"] == "ok"]
    found = effects(run)
    (place,) = found.places
    by = {e.axis.key: e for e in found.at("kv_cache_bytes", place)}
    for key in (HEADS, WINDOW):
        want = rows.groupby(key)["kv_cache_bytes"].agg(["mean", "min", "max", "count"])
        got = by[key.removeprefix("model.")]
        assert got.values == tuple(want.index)
        assert got.mean == pytest.approx(tuple(want["mean"])) and got.points == tuple(want["count"])
        assert got.low == pytest.approx(tuple(want["min"])) and got.high == pytest.approx(tuple(want["max"]))
    card = main_effects.card(cast(run))
    assert "Some points have no numbers" in " ".join(card.notes)


def test_of_marginals(large):
    found = effects(load_run(large))
    (place,) = found.places
    first, *rest = found.at("kv_cache_bytes", place)
    assert [e.axis.label for e in (first, *rest)] == ["n_kv_heads", "context", "d_ff", "window"]
    assert first.ratio == pytest.approx(8) and not rest[-1].moves
    assert sentence(quantity("kv_cache_bytes"), [first, *rest]) == (
        "n_kv_heads moves it most: the mean is 1.00 GiB at 1 and 8.00 GiB at 16, 8.0 times as high; then context 4.0 "
        "times and d_ff 2.0 times; window does not move it."
    )
    card = main_effects.card(cast(load_run(large)))
    assert card.caption.startswith("Over 10,000,000 points.")
    data = card.figures[2].variants["kv_cache_bytes"]["data"]
    assert len(data[1]["x"]) == main_effects.LINE  # of 500 values


def test_one_upright_axis_for_all(large):
    card = main_effects.card(cast(load_run(large)))
    for state in card.figures[0].variants:
        assert len({str(f.variants[state]["layout"]["yaxis"]) for f in card.figures}) == 1


def test_none_of_one_axis_and_none_of_a_sample_without_marginals(tmp_path, large):
    run = load_run(grids.small(tmp_path / "one", axes=[{"key": HEADS, "label": "n_kv_heads", "values": SMALL[HEADS]}]))
    assert effects(run) is None and main_effects.card(cast(run)) is None
    assert effects(load_run(grids.small(tmp_path / "sample", sampled=True))) is None


def test_a_shape_beside_the_grid_does_not_count(tmp_path):
    folder = grids.small(tmp_path / "run")
    rows = pd.read_parquet(folder / "points.parquet")
    beside = rows.head(1).assign(**{"point": "gemma-x released", HEADS: 3, WINDOW: 777, "kv_cache_bytes": 1e15})
    grids.written(folder, SMALL, {"points": pd.concat([rows, beside])}, objectives=["min kv_cache_bytes"])
    found = effects(load_run(folder))
    assert max(max(e.high) for e in found.at("kv_cache_bytes", found.places[0])) < 1e13
