"""What was timed: the median and its spread, beside the bound and the prediction for that same device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archlab import units
from archlab.report import timed, trust, words
from archlab.report.charts import bars, marks, measured_table
from archlab.report.charts.frame import drawing
from archlab.report.charts.time_axis import time_axis
from archlab.report.parts import BOUND, EXTRAPOLATED, MEASURED, PREDICTED, Card, Figure
from archlab.report.points import Cast, Point
from archlab.report.timed import Panel, Placed, Timing

WIDE = 15.0
"""From this ratio on, marks on an axis from zero would lie on one another at its left end."""


def card(cast: Cast) -> Card | None:
    """The card, or None where nothing was timed."""
    found = timed.timings(cast)
    if not found:
        return None
    panels, switches = timed.panels(cast, found)
    beside = [BOUND] * any(t.bound for t in found) + [PREDICTED] * any(t.predicted for t in found)
    return Card(
        _title(found, beside), (*timed.tags(found), *beside), _caption(cast, found),
        figures=tuple(_figure(panel) for panel in panels), small=True, pairs=True, switches=switches,
        legend=marks.legend(found), numbers=measured_table.numbers(cast, found), notes=tuple(_notes(found)),
    )  # fmt: skip


def _title(found: Sequence[Timing], beside: Sequence[str]) -> str:
    what = words.sentence(timed.participle(found))
    against = [f"the {'prediction' if tag == PREDICTED else tag}" for tag in beside]
    return f"{what}, beside {words.listing(against)} on that device" if against else what


# ---------------------------------------------------------------- in words


def _caption(cast: Cast, found: Sequence[Timing]) -> str:
    setups = words.listing(timed.places(found))
    said = [_timed(cast, [t for t in found if t.tag == tag], tag) for tag in timed.tags(found)]
    return f"{words.sentence(words.listing(said))}, on {setups}{_samples(found)}."


def _timed(cast: Cast, found: Sequence[Timing], tag: str) -> str:
    points = list(dict.fromkeys(t.point for t in found))
    own = [p for p in points if p not in cast.stand_ins]
    others = [p for p in points if p in cast.stand_ins]
    said = [_which(cast, own)] * bool(own) + [_instead(others)] * bool(others)
    return f"{words.listing(said)} {'was' if len(points) == 1 else 'were'} {tag}"


def _which(cast: Cast, own: Sequence[Point]) -> str:
    if len(own) == len(cast.all):
        return "all points" if len(own) > 1 else own[0].tag
    named = f" ({words.listing([p.tag for p in own])})" if len(own) < 7 else ""
    return f"{words.some(len(own), 'point')} of {len(cast.all)}{named}"


def _instead(others: Sequence[Point]) -> str:
    """Timings of a small model say nothing of the large one by themselves; say that they are of another."""
    bases = words.listing(list(dict.fromkeys(p.base for p in others)))
    return f"{words.some(len(others), 'shape')} of {bases}, standing in for the run's own points,"


def _samples(found: Sequence[Timing]) -> str:
    """'; n = 20, after 1.50 s of warm-up', as far as that is noted."""
    counts = sorted({t.row["n"] for t in found if t.row.get("n")})
    warm = sorted({t.row["warmup_s"] for t in found if t.row.get("warmup_s")})
    n = [f"n = {counts[0]}" if len(counts) == 1 else f"n from {counts[0]} to {counts[-1]}"] if counts else []
    said = ", ".join([*n, *[f"after {units.show_seconds(s)} of warm-up" for s in warm[-1:]]])
    return f"; {said}" if said else ""


def _notes(found: Sequence[Timing]) -> list[str]:
    """What stands beside a time; which times are of a few layers; how far predictions go; what was warned of."""
    bound = ["The bound takes that device's own rates, timed in the same run, not those of a data sheet.",
             "100 % of the bound is all that they allow."] * any(t.bound for t in found)  # fmt: skip
    few = [*_checked(found), *_extrapolated(found)]
    few += ["A time that was taken on has no whiskers."] * (bool(few) and any(t.low == t.high for t in found))
    held = [trust.said([t.row for t in found])] * any(t.predicted for t in found)
    return [" ".join(said) for said in ([*bound, *_rates(found)], few, held, _warnings(found)) if said]


def _warnings(found: Sequence[Timing]) -> list[str]:
    """What a reader should know before using some of the times."""
    said = [str(t.row["warnings"]) for t in found if t.row.get("warnings")]
    texts = [f"{text} ({said.count(text)} of {len(found)})" for text in dict.fromkeys(said)]
    return [f"Warnings: {'; '.join(texts[:3])}{', and others in the table' if len(texts) > 3 else ''}."] if said else []


def _rates(found: Sequence[Timing]) -> list[str]:
    """The rates of each place, in a sentence each."""
    said = {}
    for t in found:
        read, copy = (t.row.get(k) for k in ("read_bytes_per_s", "copy_bytes_per_s"))
        rates = [f"reads {read / units.GB:,.4g} GB/s"] if read else []
        rates += [f"copies {copy / units.GB:,.4g} GB/s"] if copy else []
        if rates:
            said[t.place] = words.listing(rates)
    return [f"In the same session {place} {rates}." for place, rates in said.items()]


def _checked(found: Sequence[Timing]) -> list[str]:
    """Times of a few layers that hold for the whole model."""
    off = [abs(t.row["residual"]) for t in found if t.tag == MEASURED and t.row.get("residual") is not None]
    few = f"{words.some(len(off), 'measured time')} {'is' if len(off) == 1 else 'are'} that of a few layers, taken on"
    checked = "to all and checked against the whole model: off by at most"
    return [words.sentence(f"{few} {checked} {words.percent(max(off))}.")] if off else []


def _extrapolated(found: Sequence[Timing]) -> list[str]:
    """Why some are not called measured."""
    rows = [t.row for t in found if t.tag == EXTRAPOLATED]
    off = [abs(r["residual"]) for r in rows if r.get("residual") is not None]
    if not rows:
        return []
    some = f"{len(off)} of {len(rows)} " if len(off) < len(rows) else ""
    why = [f"{some}off by up to {words.percent(max(off))} against the whole model"] if off else []
    why += ["not checked against the whole model" if not off else "the rest not checked"] * (len(off) < len(rows))
    return [f"Extrapolated, not measured: a few layers were timed and taken on to all; {words.listing(why)}."]


# ---------------------------------------------------------------- the picture


def _figure(panel: Panel) -> Figure:
    about = f"{panel.title}: median and spread beside the bound, a row each; the numbers are in the table below."
    drawings = {state: _drawing(rows) for state, rows in panel.states.items()}
    return Figure(f"measured-{panel.key}", panel.title, about, drawings, tag=panel.tag)


def _drawing(rows: Sequence[Placed]) -> dict[str, Any]:
    points = [p for p, _ in rows]
    axis = time_axis((x for _, t in rows for x in t.known), WIDE)
    layout = {
        "margin": {"l": 0, "r": 0, "t": 6, "b": 46}, "yaxis": bars.row_axis(points),
        "xaxis": axis.layout(room=1.05) | {"showline": False, "nticks": 4},
    }  # fmt: skip
    texts = [_end(t) for _, t in rows]
    return drawing(marks.traces(axis.of, rows, texts), layout, row=34, ticks=bars.row_names(points))


def _end(t: Timing) -> str:
    share = f", {words.percent(t.share)} of the bound" if t.share else ""
    return units.show_seconds(t.seconds) + share
