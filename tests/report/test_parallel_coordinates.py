"""Parallel coordinates: every point with numbers is a line at its values, the others are named."""

from __future__ import annotations

import grids
import pytest

from archlab.report import load_run
from archlab.report.charts import parallel
from archlab.report.points import cast


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(grids.small(tmp_path_factory.mktemp("runs") / "small"))


@pytest.fixture(scope="module")
def card(run):
    return parallel.card(cast(run))


def lines(picture):
    """Place of each rail for each (sort of line, point)."""
    found = {}
    for nth, trace in enumerate(picture["data"]):
        rails = trace["x"].index(None)
        for i in range(0, len(trace["x"]), rails + 1):
            assert list(trace["x"][i : i + rails]) == list(range(rails)) and trace["x"][i + rails] is None
            assert len(set(trace["meta"][i : i + rails + 1])) == 1  # the filter takes a line whole
            found[nth, trace["meta"][i]] = list(trace["y"][i : i + rails])
    return found


def test_each_point_with_numbers_is_a_line_at_its_values(run, card):
    """Heads and windows by rank, numbers between the least and the largest: from the run's own rows."""
    picture = card.figures[0].variants[""]
    points = cast(run).wide.all
    standing = {p.index: run.rows[p.name][0] for p in points if run.rows[p.name][0]["status"] in ("ok", "excluded")}
    assert {point for _, point in lines(picture)} == set(standing)
    caches = [row["kv_cache_bytes"] for row in standing.values()]
    heads = sorted({row[grids.HEADS] for row in standing.values()})
    names = [axis.label for axis in run.axes]
    for (_, point), places in lines(picture).items():
        row = standing[point]
        assert places[names.index("n_kv_heads")] == pytest.approx(
            heads.index(row[grids.HEADS]) / (len(heads) - 1), abs=1e-3
        )
        order = sum(cache < row["kv_cache_bytes"] for cache in caches)
        assert (places[2] == 0) == (order == 0) and (places[2] == 1) == (row["kv_cache_bytes"] == max(caches))


def test_the_front_is_bold_and_what_has_no_numbers_is_named(run, card):
    picture = card.figures[0].variants[""]
    bold = next(t for t in picture["data"] if t["line"]["width"] == 2.2)
    front = {p.index for p in cast(run).wide.all if run.rows[p.name][0].get("front") and p.ok}
    assert set(bold["meta"]) == front
    lost = next(p for p in cast(run).wide.all if p.status == "refused")
    assert any(lost.tag in note for note in card.notes)
    assert any(row.point is lost or row.head == lost.tag for row in card.numbers.rows)


def test_rails_have_real_values_with_units_and_lie_on_a_phone(card):
    picture = card.figures[0].variants[""]
    texts = [note["text"] for note in picture["layout"]["annotations"]]
    assert any(text.endswith(" GiB") for text in texts) and any(text.endswith((" ms", " us")) for text in texts)
    lying = picture["hints"]["turned"]
    assert [s["x0"] for s in picture["layout"]["shapes"]] == [s["y0"] for s in lying["shapes"]]
    assert lying["yaxis"]["range"][0] > lying["yaxis"]["range"][1]  # the first at the top


def test_one_axis_is_no_parallel_coordinates(tmp_path):
    assert parallel.card(cast(load_run(grids.vocabulary(tmp_path / "run")))) is None


def test_a_large_run_shows_some_of_its_front(tmp_path):
    picture = parallel.card(cast(load_run(grids.large(tmp_path / "run")))).figures[0].variants
    for state in picture.values():
        bold = [t for t in state["data"] if t["line"]["width"] == 2.2]
        assert all(len(set(t["meta"])) <= parallel.FRONT for t in bold)
