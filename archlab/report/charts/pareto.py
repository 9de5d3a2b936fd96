"""Which points does no other beat: two objectives against each other, the front joined; and the front as a table."""

from __future__ import annotations

import itertools

from archlab.report import metrics, words
from archlab.report.charts import choices, cloud, cloud_table
from archlab.report.charts.cloud import Mark, PairOf
from archlab.report.load import Record
from archlab.report.objectives import Aim, aims, listed, qualities
from archlab.report.parts import Card, Figure, Switch
from archlab.report.points import Cast, Point
from archlab.report.thin import evenly

PAIRS = 4
ROWS, MARKS = 100, 30
"""Rows of the table of the front, and of that of all marks."""


def cards(cast: Cast) -> list[Card]:
    """The picture and the table; none where the run has not two numbers to hold against each other."""
    cast = cast.wide
    wanted = aims(cast.run)
    pairs = _telling(cast, _pairs(wanted, qualities(cast.run)))
    if not wanted or not pairs or not _front(cast):
        return []
    states = cloud.states(cast, pairs)
    if not states:
        return []
    about = "Two objectives against each other, a mark a point, the front joined; the numbers are in the table below."
    drawn = [m for at in _ats(cast) for m in cloud.marks(cast, pairs[0], at)]
    places = choices.switches(cast.run, True, cloud.places(states, pairs))
    card = Card(
        "The front", cloud.tags(pairs), " ".join([_caption(wanted), *_weighed(cast, pairs[0], places)]),
        figures=(Figure("front", "", about, states),), switches=(*cloud.switch(states, pairs), *places),
        legend=cloud.legend(cast, drawn), notes=tuple(_notes(cast, wanted)),
        numbers=cloud_table.table(cast, "marks", "Every mark", [*wanted, *qualities(cast.run)], _rows(cast)),
    )  # fmt: skip
    return [card, _table(cast, wanted, pairs)]


def _pairs(wanted: list[Aim], given: list[Aim]) -> list[PairOf]:
    """Every two objectives, then each objective beside each of the given numbers."""
    return [*itertools.combinations(wanted, 2), *itertools.product(wanted, given)][:PAIRS]


def _telling(cast: Cast, pairs: list[PairOf]) -> list[PairOf]:
    """The pair with the most points on its line first: where one point is best in both there is nothing to weigh."""
    lines = {cloud.option(pair)[0]: len(_line(cast, pair)) for pair in pairs}
    return sorted(pairs, key=lambda pair: -lines[cloud.option(pair)[0]])


def _line(cast: Cast, pair: PairOf) -> list[Mark]:
    """The joined points, at the place where there are most of them."""
    return max((cloud.joined(pair, cloud.marks(cast, pair, at)) for at in _ats(cast)), key=len, default=[])


def _ats(cast: Cast) -> list[choices.At]:
    return list(choices.variants(cast.run, True, lambda at: at).values())


def _front(cast: Cast) -> list[tuple[Point, Record]]:
    return [(p, r) for p in cast.all for r in cast.run.rows[p.name] if r.get("front") and r["status"] == "ok"]


def _rows(cast: Cast) -> list[tuple[Point, Record]]:
    """A row of each point, where it stands first: what the picture shows at first, in words."""
    on = dict.fromkeys(p.name for p, _ in _front(cast))
    first = [(p, r) for p in cast.all for r in cast.run.rows[p.name][:1] if r["status"] in ("ok", "excluded")]
    return evenly(sorted(first, key=lambda x: x[0].name not in on), MARKS)


def _caption(wanted: list[Aim]) -> str:
    ways = {way: [a.of.noun for a in wanted if a.sense == way] for way in ("min", "max")}
    said = [f"{_BETTER[way]} {words.listing(names)}" for way, names in ways.items() if names]
    return (
        f"Better is {words.listing(said)}. A point is on the front where no other that runs the same work in the same "
        "place is as good in all of them and better in one."
    )


def _weighed(cast: Cast, pair: PairOf, places: tuple[Switch, ...]) -> list[str]:
    """What lies between the ends of the line that is drawn first, in a sentence."""
    chosen = {s.name: s.chosen for s in places}
    at: choices.At = {dimension: chosen[word] for dimension, word in choices.SAID.items() if word in chosen}
    found = cloud.marks(cast, pair, at)
    line = cloud.joined(pair, found)
    if sum(m.on_front for m in found) == 1:
        return ["Here one point is best in all of them at once: there is nothing to weigh."]
    if len(line) < 2:
        return []
    ends = [(aim.of, (a, b)) for aim, a, b in zip(pair, (line[0].x, line[0].y), (line[-1].x, line[-1].y), strict=True)]
    said = [_between(of.noun, of.say(a), of.say(b)) for of, (a, b) in ends]
    return [f"The line runs through {words.some(len(line), 'point')}: {words.listing(said)}."]


def _between(noun: str, one: str, other: str) -> str:
    return f"{noun} {one} at both ends" if one == other else f"{noun} from {one} to {other}"


_BETTER = {"min": "less", "max": "more"}


def _notes(cast: Cast, wanted: list[Aim]) -> list[str]:
    here, n = len(_front(cast)), int(cast.run.every["front"].fillna(False).sum())
    joined = "The line joins those that no other beats in the two that are shown"
    beside = f"a filled mark beside it is on the front for another of the {len(wanted)}"
    notes = [f"{joined}; {beside}."] * (len(wanted) > 2 and here > 1)
    fewer = f"Over all workloads and places {n:,} rows are on a front; {here:,} of them"
    return [*notes, *[f"{fewer} {'is' if here == 1 else 'are'} shown."] * (here < n)]


def _table(cast: Cast, wanted: list[Aim], pairs: list[PairOf]) -> Card:
    """The rows on a front, by the first objective."""
    first = wanted[0]
    turn = -1 if first.sense == "max" else 1
    rows = sorted(_front(cast), key=lambda x: (_place(cast, x[1]), turn * (x[1].get(first.column) or 0)))
    shown = evenly(rows, ROWS)
    less = [f"{len(shown)} of {len(rows)} rows, evenly chosen."] * (len(shown) < len(rows))
    table = cloud_table.table(cast, "front-table", "The front", [*wanted, *qualities(cast.run)], shown)
    title = words.sentence(f"{words.some(len(rows), 'row')} on the front")
    caption = f"By {first.of.noun}, the best first. Point at a row to see its mark."
    return Card(title, cloud.tags(pairs), caption, table=table, notes=tuple(less))


def _place(cast: Cast, row: Record) -> tuple[int, ...]:
    order = {"workload": metrics.by_reach(cast.run), "hardware": metrics.roomiest(cast.run)}
    return tuple(o.index(row[k]) if row[k] in o else len(o) for k, o in order.items())


def question(cast: Cast) -> str:
    """What the pictures answer."""
    return f"Which points does no other beat in {listed(aims(cast.run))}?"
