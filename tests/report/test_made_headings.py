"""What headings say of runs that no committed report has: something held, nothing left, two models, small amounts."""

from __future__ import annotations

import re

import grids
import pandas as pd
import pytest

from archlab.report.load import load_run
from archlab.report.moves import Move, Step
from archlab.report.page import heading, render
from archlab.report.points import cast
from archlab.report.words import HELD


def made(folder, **meta):
    return heading(cast(load_run(grids.small(folder, **meta))))


@pytest.mark.parametrize(
    ("hold", "gone"),
    [
        ("params", "parameters"),
        ("kv_cache", "KV cache"),
    ],
)
def test_what_is_held_is_not_said_to_change(tmp_path, hold, gone):
    """The rows of the grid change all of these; a run that says one is held speaks of the others."""
    title, more = made(tmp_path, hold=hold, where=[])
    assert f" at equal {HELD[hold]}, the " in title
    told = title.replace(f" at equal {HELD[hold]}", "") + more.split("What does it cost?")[0]
    assert gone not in told and re.search("KV cache|decode step", told)


def test_the_work_that_is_held_does_not_lead(tmp_path):
    """Of a run without a cache or bounds the work changes most, and is spoken of only where it is free."""
    grids.small(tmp_path, where=[], hold="flops")
    frame = pd.read_parquet(tmp_path / "points.parquet")
    frame = frame.drop(columns=[c for c in frame if c.startswith(("kv_", "decode_"))])
    frame.assign(flops_decode=frame.params**2).to_parquet(tmp_path / "points.parquet", index=False)
    title = heading(cast(load_run(tmp_path)))[0]
    assert "work" not in title and "the parameters of gemma-x" in title
    meta = tmp_path / "run.json"
    meta.write_text(meta.read_text().replace('"hold": "flops"', '"hold": null'))
    assert "work of a decode step" in heading(cast(load_run(tmp_path)))[0]


def out(folder, status=None, **meta):
    """The grid with every point excluded, or with one of another status."""
    grids.small(folder, **meta)
    frame = pd.read_parquet(folder / "points.parquet")
    frame["status"], frame["reason"] = "excluded", "not kv_cache_bytes <= 1 GiB"
    frame.loc[:0, "status"] = status or "excluded"
    frame.to_parquet(folder / "points.parquet", index=False)
    return heading(cast(load_run(folder)))


def test_a_run_of_which_the_condition_left_nothing(tmp_path):
    title, more = out(tmp_path / "all", hold="params")
    assert title == "Every point of grid was excluded by the condition kv_cache_bytes <= 1 GiB"
    assert "12 shapes of gemma-x: n_kv_heads 1, 2, 4 and 8, window 512, 1,024 and 4,096; all 12 were excluded." in more
    assert "Each keeps" not in more
    two = out(tmp_path / "two", where=["params <= 1 B", "kv_cache_bytes <= 1 GiB"])[0]
    assert two.endswith("by the conditions params <= 1 B and kv_cache_bytes <= 1 GiB")
    assert out(tmp_path / "some", "refused")[0] == (
        "No point of grid stands: of its rows 11 were excluded by the condition kv_cache_bytes <= 1 GiB and 1 refused"
    )


def pair(folder, **columns):
    """A comparison of two models that differ in these columns alone."""
    points = grids.numbers(grids.placed(pd.DataFrame({grids.HEADS: [8, 8], grids.WINDOW: [512, 512]})))
    points = points.assign(point=["a", "b"], base=["a", "b"], **columns)
    return heading(cast(load_run(grids.written(folder, {}, {"points": points}, kind="compare", bases=["a", "b"]))))


def test_two_that_need_the_same_are_both(tmp_path):
    assert pair(tmp_path)[0].startswith("Both models need the same: ")


@pytest.mark.parametrize(
    ("column", "ends", "said"),
    [
        ("kv_cache_bytes", (16.44 * 2**20, 0.2 * 2**30), ("rises", "from 0.016 to 0.20 GiB")),
        ("kv_cache_bytes", (5 * 2**20, 3 * 2**10), ("falls", "from 5.00 to 0.0029 MiB")),
        ("kv_cache_bytes", (102.1 * 2**30, 16.29 * 2**30), ("falls", "from 102.1 to 16.29 GiB")),
        ("decode_bound_s", (0.0009, 0.0012), ("rises", "from 0.90 to 1.20 ms")),
        ("params", (735.6e6, 1.2e9), ("rise", "from 0.74 to 1.20 B")),
    ],
)
def test_amounts_that_are_compared_have_one_unit(column, ends, said):
    assert Move(column, (Step("", *ends),)).from_to() == said


def test_of_a_large_run_the_condition_left_nothing(tmp_path):
    grids.large(tmp_path, rows=3000, where=["params >= 9 B"])
    frame = pd.read_parquet(tmp_path / "points.parquet").assign(status="excluded", reason="not params >= 9 B")
    frame.to_parquet(tmp_path / "points.parquet", index=False)
    title, more = heading(cast(load_run(tmp_path)))
    assert title == "Every point of grid was excluded by the condition params >= 9 B"
    assert "Of its rows 3,000 were excluded." in more
    render(tmp_path)
    assert title.replace(">=", "&gt;=") in re.sub("\xa0", " ", (tmp_path / "report.html").read_text())
