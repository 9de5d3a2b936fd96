"""What a pattern and a window buy: bars that add up to the cache, by ratio and window, against the table of the run."""

from __future__ import annotations

import itertools

import grids
import pandas as pd
import pytest

from archlab.report import load_run, words
from archlab.report.charts import kv_ratio
from archlab.report.points import cast

PATTERN = "model.pattern"
AXES = {PATTERN: ["local global", "local*5 global"], grids.WINDOW: [512, 1024, 4096], grids.HEADS: [4, 8]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two ratios, three windows and two numbers of heads; 5:1 with 1,024 and 8 heads is the base."""
    axes = pd.DataFrame(list(itertools.product(*AXES.values())), columns=list(AXES))
    points = grids.numbers(grids.placed(axes.drop(columns=PATTERN)))
    points[PATTERN] = axes[PATTERN]
    points["point"] = axes[PATTERN].str.replace(" ", "-") + " " + points["point"]
    points["kv_local_bytes"] *= axes[PATTERN].map({"local global": 1, "local*5 global": 5})
    points["kv_cache_bytes"] = points["kv_local_bytes"] + points["kv_global_bytes"]
    points["is_base"] = (axes == ["local*5 global", 1024, 8]).all(axis=1)
    folder = tmp_path_factory.mktemp("runs") / "ratio"
    return load_run(grids.written(folder, AXES, {"points": points}))


def test_the_rows_differ_in_ratio_and_window_alone(run):
    card = kv_ratio.card(cast(run))
    assert card.title == "KV cache by local : global ratio and window"
    heads = [row.head for row in card.numbers.rows]
    assert heads == [f"{ratio}, window {w}" for ratio in ("1:1", "5:1") for w in ("512", "1,024", "4,096")]
    assert all(row.point.values[grids.HEADS] == 8 for row in card.numbers.rows)
    assert [row.point.released for row in card.numbers.rows] == [False] * 4 + [True, False]
    assert "n_kv_heads" in " ".join(card.notes)


def test_bars_add_up_to_the_cache(run):
    card = kv_ratio.card(cast(run))
    caches = run.points.set_index("point")["kv_cache_bytes"]
    for row in card.numbers.rows:
        *parts, total = (cell.value for cell in row.cells)
        assert sum(parts) == pytest.approx(total) and total == pytest.approx(caches[row.point.name])
    bars = [trace for trace in card.figures[0].variants[""]["data"] if trace["type"] == "bar"]
    assert {bar["name"] for bar in bars} == {"global", "local"}
    ends = next(trace for trace in card.figures[0].variants[""]["data"] if trace.get("mode") == "text")["text"]
    assert sum("as released" in end for end in ends) == 1


def test_the_sentence_is_that_of_the_numbers(run):
    """Least, released and largest row, from the table."""
    totals = {row.head: row.cells[-1].value for row in kv_ratio.card(cast(run)).numbers.rows}
    least, most, usual = min(totals, key=totals.get), max(totals, key=totals.get), "5:1, window 1,024"
    said = kv_ratio.card(cast(run)).caption
    assert f"{usual}, as released, is {words.less(totals[most] / totals[usual], 'smaller')} that of {most}" in said
    assert f"that of {least} is {words.less(totals[usual] / totals[least], 'smaller')} it" in said


def test_a_run_that_turns_neither_has_no_card(tmp_path):
    axes = pd.DataFrame({grids.HEADS: [1, 2, 4], grids.WINDOW: [512] * 3})
    points = grids.numbers(grids.placed(axes))
    folder = grids.written(tmp_path / "run", {grids.HEADS: [1, 2, 4]}, {"points": points})
    assert kv_ratio.card(cast(load_run(folder))) is None
