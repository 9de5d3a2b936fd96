"""A page of a run with far more points than it can show: quick, small, and it says what it leaves out."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import grids
import pandas as pd
import pytest
from grids import D_FF, HEADS, WINDOW, numbers, placed

from archlab.report import load_run, render
from archlab.report.facets import facets
from archlab.report.headline import headline, lede
from archlab.report.points import cast
from archlab.report.thin import MOST, evenly, scattered, thinned


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return grids.large(tmp_path_factory.mktemp("runs") / "large")


@pytest.fixture(scope="module")
def points(large):
    return cast(load_run(large))


def test_quick_and_small(large, tmp_path):
    """3 s is the figure, on a quiet machine; a loaded one may take longer."""
    started = time.process_time()
    page = render(large, tmp_path / "page.html")
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.process_time() - started < 3 * busy
    assert page.stat().st_size < 1_000_000
    assert render(large, tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_what_is_shown_is_said(points):
    run = points.run
    assert headline(points) == (
        "Of the shape, n_kv_heads moves the KV cache of gemma-x most: over 10,000,000 points the mean is 8.0 times as "
        "high at 16 as at 1"
    )
    said = lede(points)
    assert "10,000,000 points of gemma-x were computed" in said and "d_ff 500 values from 4,096 to 20,064" in said
    assert f"Shown are {len(points.wide.all)} (" in said
    assert "points.parquet has 20,000 rows, and the configurations in blocks/ make any of the others again" in said
    assert f"Of its rows {run.statuses['excluded']} were excluded." in said


def test_the_points_of_a_page_are_at_one_workload_where_few_are_at_several(points):
    shown = points.run.points
    assert points.run.is_thinned and len(points.run.every) == 20_000
    assert shown["point"].nunique() <= MOST + 20 and shown["workload"].nunique() == 1
    assert shown["context"].iloc[0] > 90_000  # the longest that has as many points as the others
    assert not [a.key for a in points.run.axes if a.key.startswith("workload.")]


def test_fronts_bases_and_extremes_stay(tmp_path):
    rows = numbers(placed(pd.DataFrame([(h, w, f) for h in range(1, 21) for w in range(512, 5120, 512)
                                        for f in range(4096, 8192, 512)], columns=[HEADS, WINDOW, D_FF])))  # fmt: skip
    rows["front"] = rows["params"] < rows["params"].quantile(0.01)
    rows["is_base"] = rows.index == 777
    kept = thinned(rows)
    assert kept["point"].nunique() <= MOST < rows["point"].nunique() == 1440
    assert set(rows.index[rows["front"]]) | {777} <= set(kept.index)
    for column in ("kv_cache_bytes", "params", "decode_bound_s"):
        assert kept[column].min() == rows[column].min() and kept[column].max() == rows[column].max()
    assert thinned(rows.head(MOST)).equals(rows.head(MOST))
    assert len(set(kept[HEADS])) == 20  # an even sample


def test_refused_rows_of_a_large_run_stay(tmp_path):
    folder = grids.large(tmp_path / "run")
    rows = pd.read_parquet(folder / "points.parquet")
    rows.loc[rows.index[-3:], ["status", "reason", "workload"]] = ["refused", "no such head", None]
    rows.to_parquet(folder / "points.parquet")
    text = render(folder).read_text()
    assert "no such head" in text and "3 are refused" in text


def test_pills_hold_ranges_where_values_are_many(points):
    made = facets(points)
    assert len(made) < 20
    of = [f for f in made if f.heading == "d_ff"]
    assert len(of) == 5 and all(" to " in f.label for f in of)
    assert sorted(i for f in of for i in f.points) == [p.index for p in points.wide.all]


def test_a_sample_does_not_beat_in_time_with_the_grid():
    """Of 4,000 points with 20 values of the fastest axis, 100 have every value about as often."""
    found = [i % 20 for i in scattered(range(4000), 100)]
    assert len(found) == 100 and min(found.count(v) for v in range(20)) >= 3
    assert scattered([1, 2, 3], 5) == [1, 2, 3] and scattered([], 5) == []


def test_evenly():
    assert evenly(range(10), 4) == [0, 3, 6, 9] and evenly(range(3), 4) == [0, 1, 2]
    assert evenly(range(5), 1) == [0] and evenly(range(5), 0) == []


def test_old_runs_have_none_of_the_new_sections(tmp_path):
    old = tmp_path / "old"
    shutil.copytree("reports/attention_heads", old, ignore=shutil.ignore_patterns("*.html"))
    meta = json.loads((old / "run.json").read_text())
    new = ("objectives", "evidence", "notes", "diagrams", "computed", "excluded", "refused", "sampled", "where", "rows")
    (old / "run.json").write_text(json.dumps({k: v for k, v in meta.items() if k not in new}))
    points = pd.read_parquet(old / "points.parquet")
    points.drop(columns="front").to_parquet(old / "points.parquet")
    for later in ("batches", "operations"):
        (old / f"{later}.parquet").unlink()
    text = render(old, tmp_path / "old.html").read_text()
    assert not {"front", "axes", "quality", "text"} & set(re.findall(r'<section id="([\w-]+)"', text))
