"""Where a predicted time goes: stacked by part, on the devices of a run, and beside what was timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlab import units
from archlab.report import metrics, timed, trust, words
from archlab.report.charts import bars, bounds, choices, marks
from archlab.report.load import Record
from archlab.report.parts import BOUND, PREDICTED, Card, Figure, Switch
from archlab.report.points import Cast
from archlab.report.timed import Panel, Placed, Timing
from archlab.report.words import Scale

MOST = 48
"""States of the switches: nobody looks through more."""
SLACK = 0.005
"""A share of a time that no part has, from which on it is a part of its own."""


def parts(row: Record, phase: str = "") -> dict[str, float]:
    """Part -> predicted seconds of a row: with a phase of points.parquet, without of measured.parquet."""
    start, end = f"{phase}_predicted_".removeprefix("_"), "_s"
    named = [k for k in row if k.startswith(start) and k.endswith(end) and k != f"{start}s" and row[k]]
    found = {k[len(start) : -len(end)]: float(row[k]) for k in named}
    rest = (row.get(f"{start}s") or 0) - sum(found.values())
    return found | ({"rest": rest} if found and rest > SLACK * sum(found.values()) else {})


@dataclass(frozen=True)
class Bars:
    """Bars by part, and the marks that lie over them."""

    stack: bars.Stack
    marks: Sequence[Any]

    def drawn(self) -> dict[str, Any]:
        """The picture."""
        return bars.stacked(self.stack, marks=self.marks)


# ---------------------------------------------------------------- on the devices of the run


def card(cast: Cast) -> Card | None:
    """Predictions for the run's own points by part, or None where no device of theirs is calibrated."""
    rows = trust.predicted_rows(cast)
    on = list(dict.fromkeys(r["hardware"] for r in rows))
    made = {phase: found for phase in bounds.PHASES if (found := _on_devices(cast, phase, on))}
    if not made or max(map(len, made.values())) > MOST:
        return None
    said = choices.names(cast.run, on)
    stacks = {f"{x} {said[key]}".strip(): b.stack for x, found in made.items() for key, b in found.items()}
    bounded = any(r.get(f"{phase}_bound_s") for r in rows for phase in bounds.PHASES)
    stroke = [marks.swatch(BOUND, "bound: the least that the device's rates allow")] * bounded
    return Card(
        "Predicted time by part", (PREDICTED, *[BOUND] * bounded),
        f"What the calibration of {words.listing([metrics.device_title(cast.run, h) for h in on])} expects.",
        figures=tuple(_figure(f"predicted-{x}", bounds.PHASES[x], found) for x, found in made.items()),
        small=True, pairs=True, switches=choices.switches(cast.run, on, next(iter(made.values()))),
        legend=(*bars.legend(_seen(stacks.values())), *stroke),
        numbers=bars.numbers("predicted-numbers", "Predicted time by part", stacks),
        notes=(trust.held_out(rows), *bounds.misfits(cast, on, "prediction")),
    )  # fmt: skip


def _on_devices(cast: Cast, phase: str, on: Sequence[str]) -> dict[str, Bars]:
    return choices.variants(cast.run, on, lambda at: _on_device(cast, phase, at))


def _on_device(cast: Cast, phase: str, at: choices.At) -> Bars | None:
    rows = {p: cast.run.row(p.name, status="ok", **at) or {} for p in cast.ok}
    values = {p: found for p, row in rows.items() if (found := parts(row, phase))}
    if not values:
        return None
    totals = {p: rows[p].get(f"{phase}_predicted_s") or sum(values[p].values()) for p in values}
    least = {p: float(b) for p in values if (b := rows[p].get(f"{phase}_bound_s"))}
    misfit = {p: bounds.MISFIT * (not metrics.fits(cast.run, p.name, at)) for p in values}
    scale = words.seconds([*totals.values(), *least.values()])
    title = f"{scale.unit} at {metrics.work_words(cast.run, at.get('workload'))}, predicted"
    stack = bars.Stack(values, scale, title, PREDICTED, lambda p, _: scale.full(totals[p]) + misfit[p], least)
    return Bars(stack, marks.strokes(scale.of, least))


def _figure(id_: str, title: str, found: Mapping[str, Bars]) -> Figure:
    about = f"{title}: predicted time by part; the numbers are in the table below."
    return Figure(id_, title, about, {key: b.drawn() for key, b in found.items()}, tag=PREDICTED)


def _seen(stacks: Any) -> list[str]:
    return list(dict.fromkeys(part for stack in stacks for part in stack.seen()))


# ---------------------------------------------------------------- beside what was timed

AS = {"time": "time", "share": "share of the prediction"}
APART = 4.0
"""From this ratio of the longest to the shortest bar on, the parts of the short ones are seen as shares alone."""
PERCENT = Scale(0.01, "%", 0)


def timed_card(cast: Cast) -> Card | None:
    """Predictions by part beside what was timed, or None where no timing has parts."""
    found = [t for t in timed.timings(cast) if parts(t.row)]
    if not found:
        return None
    panels, switches = timed.panels(cast, found)
    shares = any(_apart(rows) for panel in panels for rows in panel.states.values())
    made = {panel: _beside(panel, shares) for panel in panels}
    stacks = {_named(panel, k): b.stack for panel, of in made.items() for k, b in of.items() if not k.endswith("share")}
    return Card(
        f"Where the time goes, beside what was {timed.participle(found)}", (PREDICTED, *timed.tags(found)),
        f"A bar is the prediction for {words.listing(timed.places(found))}; the mark over it is the time itself.",
        figures=tuple(_figure(f"parts-{panel.key}", panel.title, of) for panel, of in made.items()),
        small=True, pairs=True, switches=(*switches, *[Switch("As", tuple(AS.items()), "time")] * shares),
        legend=(*bars.legend(_seen(stacks.values())), *(marks.swatch(tag) for tag in timed.tags(found))),
        numbers=bars.numbers("parts-numbers", "Predicted time by part, where it was timed", stacks),
        notes=(trust.said([t.row for t in found]),),
    )  # fmt: skip


def _apart(rows: Sequence[Placed]) -> bool:
    totals = [sum(parts(t.row).values()) for _, t in rows]
    return max(totals) > APART * min(totals)


def _named(panel: Panel, state: str) -> str:
    return " ".join([panel.title, *(x for x in state.split("/") if x not in AS)]).strip()


def _beside(panel: Panel, shares: bool) -> dict[str, Bars]:
    made = {}
    for state, rows in panel.states.items():
        for mode, draw in (("time", _times), ("share", _shares)) if shares else (("", _times),):
            made["/".join(x for x in (state, mode) if x)] = draw(rows)
    return made


def _times(rows: Sequence[Placed]) -> Bars:
    by = dict(rows)
    scale = words.seconds(x for t in by.values() for x in (t.predicted, t.high))
    values = {p: parts(t.row) for p, t in rows}
    reach = {p: t.high for p, t in rows}
    stack = bars.Stack(values, scale, f"{scale.unit}, predicted", PREDICTED, lambda p, x: _end(by[p], x), reach)
    return Bars(stack, marks.timed(scale.of, rows))


def _shares(rows: Sequence[Placed]) -> Bars:
    by = dict(rows)
    whole = {p: parts(t.row) for p, t in rows}
    values = {p: {part: v / sum(found.values()) for part, v in found.items()} for p, found in whole.items()}
    return Bars(bars.Stack(values, PERCENT, "% of the prediction", PREDICTED, lambda p, _: _end(by[p], 0)), [])


def _end(t: Timing, total: float) -> str:
    """'5.12 ms, +4.2 % off'."""
    off = f", {marks.signed(t.error)} off" if t.error is not None else ""
    return units.show_seconds(t.predicted or total) + off
