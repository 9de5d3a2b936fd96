"""How a time grows with context and with batch: where it was timed, and on the devices of a run that varies them."""

from __future__ import annotations

from collections.abc import Sequence

from archlab import units
from archlab.report import growth, palette, timed, trust, words
from archlab.report.charts import bounds, scaling_drawing
from archlab.report.charts.timed_lines import BATCH, CONTEXT, Line, lines, say
from archlab.report.palette import CHROME, SYMBOLS, Look
from archlab.report.parts import (
    BOUND,
    EXTRAPOLATED,
    MEASURED,
    PREDICTED,
    Card,
    Cell,
    Column,
    Figure,
    Row,
    Swatch,
    Switch,
    Table,
)
from archlab.report.points import Cast
from archlab.report.timed import PHASES, Timing

MOST = 8
"""Devices, each in each precision, of which so many can be chosen."""
MARK = "§"
"""Beside an extrapolated time in a table."""


def device_cards(cast: Cast) -> list[Card]:
    """Bounds and predictions against context and against batch, where these are axes of the run."""
    varied = growth.varied(cast)
    every = timed.on_devices(cast) if varied else []
    if len(timed.places(every)) > MOST:
        return []
    found = [lines(along, every) for along in varied]
    return [_card(made, "device", _misfits(made)) for made in found if made]


def timed_cards(cast: Cast) -> list[Card]:
    """Times against context and against batch, where a point was timed at two or more of them."""
    every = timed.tried(cast)
    found = [[x for x in lines(along, every) if x.found] for along in (CONTEXT, BATCH)]
    return [_card(made, "timed", _untimed(made)) for made in found if made]


def _card(made: Sequence[Line], id_: str, notes: Sequence[str]) -> Card:
    along, tags = made[0].along, _tags(made)
    setups = timed.places(t for line in made for t in line.every)
    phases = timed.phases(t for line in made for t in line.every)
    start = "Time" if made[0].found else "Predicted time" if PREDICTED in tags else "Least time"
    return Card(
        f"{start} against {along.key}", tags, growth.caption(made, setups[0]),
        figures=tuple(_figure(id_, [x for x in made if x.phase == phase], setups) for phase in phases),
        small=True, pairs=True, switches=(Switch("On", tuple((s, s) for s in setups), setups[0]),) * (len(setups) > 1),
        legend=(*_styles(made), *_holds(made)), numbers=_numbers(id_, made),
        notes=(*notes, *[trust.said([t.row for x in made for t in x.every])] * (PREDICTED in tags)),
    )  # fmt: skip


def _tags(made: Sequence[Line]) -> tuple[str, ...]:
    every = [t for line in made for t in line.every]
    beside = [
        tag for tag, has in ((BOUND, any(t.bound for t in every)), (PREDICTED, any(t.predicted for t in every))) if has
    ]
    return (*timed.tags(t for line in made for t in line.found), *(beside if made[0].found else reversed(beside)))


def _figure(id_: str, made: Sequence[Line], setups: Sequence[str]) -> Figure:
    along, title = made[0].along, PHASES.get(made[0].phase, made[0].phase)
    by = {s if len(setups) > 1 else "": [x for x in made if x.place == s] for s in setups}
    drawings = {state: scaling_drawing.drawn(mine) for state, mine in by.items() if mine}
    kinds = {x.kind for x in made}
    about = f"{title}: seconds against {along.key}, a line each; the numbers are in the table below."
    name = f"{id_}-{along.key}-{made[0].phase}"
    return Figure(name, title, about, drawings, tag=kinds.pop() if len(kinds) == 1 else "")


# ---------------------------------------------------------------- in words


def _misfits(made: Sequence[Line]) -> list[str]:
    """Where the devices are too small, in a sentence."""
    counted: dict[str, list[bool]] = {}
    for t in (t for line in made if line.phase == made[0].phase for t in line.every):
        counted.setdefault(t.place, []).append(bool(t.row["fits"]))
    said = [f"{fit.count(False)} of {len(fit)} on {place}" for place, fit in counted.items() if False in fit]
    more = f"{bounds.MISFIT.strip()} More than the device holds, the time is arithmetic alone"
    return [f"{more}: {words.listing(said)}."] if said else []


def _untimed(made: Sequence[Line]) -> list[str]:
    hollow = any(t.tag == EXTRAPOLATED for line in made for t in line.found)
    missing = sum(len(line.every) - len(line.found) for line in made)
    gone = f"{words.some(missing, 'time')} could not be taken; there a line goes on alone."
    marked = f"{MARK} in the table: extrapolated from a few layers, not measured."
    return [*[marked] * hollow, *[words.sentence(gone)] * bool(missing)]


def _styles(made: Sequence[Line]) -> list[Swatch]:
    """What the marks and the kinds of line say."""
    ink, tags = CHROME["ink2"], _tags(made)
    rates = "at that device's own rates" if made[0].found else "the least that the device's rates allow"
    said = {
        MEASURED: ("measured: median, whiskers from 5 % to 95 %", Look(ink, ink, "none", "circle")),
        EXTRAPOLATED: ("hollow: extrapolated, not measured", Look(ink, ink, "none", "circle-open")),
        PREDICTED: ("predicted", Look(ink, ink, "dash", "none")),
        BOUND: (f"bound, {rates}", Look(ink, ink, "dot", "none")),
    }
    return [Swatch(said[tag][0], "ink2", said[tag][1]) for tag in said if tag in tags]


def _holds(made: Sequence[Line]) -> list[Swatch]:
    """What the markers say, where lines of one point differ in what they hold."""
    held, ink = sorted({x.held for x in made}), CHROME["ink3"]
    names = [say(made[0].along.held, h) for h in held]
    if len(held) == 1:
        return []
    if len({x.point for x in made}) == 1:
        n = len(held)
        return [Swatch(x, palette.step_variable(i, n), palette.step(i, n)) for i, x in enumerate(names)]
    return [Swatch(x, "ink3", Look(ink, ink, "none", SYMBOLS[i % 6])) for i, x in enumerate(names)]


# ---------------------------------------------------------------- the numbers


def _numbers(id_: str, made: Sequence[Line]) -> Table:
    """A row a line, a column for each place on the axis: what was timed, else what is predicted, else the bound."""
    along, kinds = made[0].along, {line.kind for line in made}
    at = sorted({x for line in made for x, _ in line.known})
    several = len({line.place for line in made}) > 1
    tag = kinds.pop() if len(kinds) == 1 else ""
    columns = [Column("phase", "Phase", number=False), Column(along.held, words.sentence(along.held))]
    columns += [Column("place", "On", number=False)] * several
    columns += [Column(f"seconds at {along.key} {x}", say(along.key, x), "", tag) for x in at]
    rows = tuple(Row(line.point.tag, tuple(_cells(line, at, several)), line.point) for line in made)
    label = f"{'Time' if made[0].found else 'Time on devices'} against {along.key}"
    return Table(f"{id_}-{along.key}-numbers", label, "Point", tuple(columns), rows)


def _cells(line: Line, at: Sequence[int], several: bool) -> list[Cell]:
    by = {line.at(t): t for t in line.every}
    own = [Cell(line.phase, line.phase), Cell(f"{line.held:,}", line.held), *[Cell(line.place, line.place)] * several]
    return [*own, *(_cell(line, by.get(x)) for x in at)]


def _cell(line: Line, t: Timing | None) -> Cell:
    value = line.value(t) if t else None
    if t is None or value is None:
        return Cell(words.NONE)
    misfit = bounds.MISFIT.strip() * (t.row.get("fits") is False)
    return Cell(units.show_seconds(value), value, mark=MARK * (t.is_timed and t.tag == EXTRAPOLATED) + misfit)
