"""The front: the points that no other beats, joined, listed, and told from those that a condition excludes."""

from __future__ import annotations

import random
import re

import grids
import pytest

from archlab.report import load_run, render
from archlab.report.charts import choices, cloud, pareto
from archlab.report.objectives import aims, best
from archlab.report.points import cast


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return grids.small(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def points(small):
    return cast(load_run(small))


@pytest.mark.parametrize("senses", [("min", "min"), ("min", "max"), ("max", "min"), ("max", "max")])
def test_nobody_beats_the_best(senses):
    """Against the definition, on numbers with ties."""
    rng = random.Random(0)
    for _ in range(50):
        x, y = ([rng.randint(0, 6) for _ in range(12)] for _ in range(2))
        turn = [1 if sense == "min" else -1 for sense in senses]
        rows = [(turn[0] * a, turn[1] * b) for a, b in zip(x, y, strict=True)]
        want = {i for i, p in enumerate(rows) if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in rows)}
        assert set(best(x, y, senses)) == want
        assert [x[i] for i in best(x, y, senses)] == sorted(x[i] for i in want)


def test_the_pair_with_something_to_weigh_comes_first(points):
    """Cache and time rise together: one point is best in both; cache against parameters is a trade."""
    picture, table = pareto.cards(points)
    (show,) = (s for s in picture.switches if s.name == "Show")
    assert show.options[0] == ("kv_cache_bytes params", "Parameters against KV cache")
    assert "Better is less KV cache and decode bound and more parameters." in picture.caption
    assert "The line runs through three points: KV cache from 0.17 GiB to 0.70 GiB" in picture.caption
    assert [row.cells[0].value for row in table.table.rows] == [1, 2, 4]
    assert all(row.point is not None for row in table.table.rows)  # the filter reaches them


def test_what_is_drawn(points):
    states = pareto.cards(points)[0].figures[0].variants
    drawn = states["kv_cache_bytes params"]["data"]
    line = next(t for t in drawn if t["mode"] == "lines")
    assert line["line"]["shape"] == "hv" and line["x"] == sorted(line["x"]) and len(line["meta"]) == 3
    crossed = next(t for t in drawn if t.get("marker", {}).get("symbol") == "x-thin-open")
    assert len(crossed["x"]) == 3 and "not kv_cache_bytes" in crossed["hovertext"][0]
    assert "<script" not in str(drawn)
    given = states["kv_cache_bytes quality_loss"]["data"]
    assert not [t for t in given if t["mode"] == "lines"]  # nobody said which way is better


def test_a_condition_excludes(points, small, tmp_path):
    assert {p.status for p in points.all} == {"ok", "excluded", "refused"}
    text = render(small, tmp_path / "page.html").read_text()
    section = re.search(r'<section id="refused".*?</section>', text, re.DOTALL)[0]
    assert "Of 12 rows 3 are excluded and 1 is refused." in section
    assert "window=4096 is too wide" in section and "not kv_cache_bytes &lt;= 1 GiB" in section


def test_no_front_without_objectives(tmp_path):
    run = load_run(grids.small(tmp_path / "run", objectives=[]))
    assert pareto.cards(cast(run)) == [] and aims(run) == []


def test_marks_of_many_places_are_fewer(points):
    pair = (aims(points.run)[0], aims(points.run)[2])
    at = next(iter(choices.variants(points.run, True, lambda at: at).values()))
    assert len(cloud.marks(points, pair, at)) == 11  # the refused one has no numbers
