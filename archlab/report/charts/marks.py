"""Times as marks on rows: what was timed with its spread, the bound, the prediction, and a text behind the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import words
from archlab.report.charts.frame import hover, safe
from archlab.report.palette import CHROME, Look
from archlab.report.parts import BOUND, EXTRAPOLATED, MEASURED, PREDICTED, Swatch
from archlab.report.points import Point
from archlab.report.timed import Placed, Timing

Of = Callable[[float | None], float | None]
"""Seconds -> where they stand on the axis."""

SYMBOLS = {MEASURED: "circle", EXTRAPOLATED: "circle-open", PREDICTED: "diamond-open", BOUND: "line-ns-open"}
COLOURS = {MEASURED: "measured", EXTRAPOLATED: "extrapolated", PREDICTED: "predicted", BOUND: "limit"}
SAID = {
    MEASURED: "measured: median, whiskers from 5 % to 95 % of the runs",
    EXTRAPOLATED: "extrapolated from a few layers, not measured",
    PREDICTED: "predicted by the device's calibration",
    BOUND: "bound: from that device's own rates",
}


def legend(found: Sequence[Timing]) -> tuple[Swatch, ...]:
    """The marks that are drawn."""
    there = {t.tag for t in found} | {PREDICTED for t in found if t.predicted}
    there |= {BOUND for t in found if t.bound}
    return tuple(swatch(tag) for tag in SYMBOLS if tag in there)


def swatch(tag: str, said: str = "") -> Swatch:
    """The mark of a tag, and what it means."""
    pair = CHROME[COLOURS[tag]]
    return Swatch(said or SAID[tag], COLOURS[tag], Look(pair, pair, "none", SYMBOLS[tag]))


def traces(of: Of, rows: Sequence[Placed], texts: Sequence[str]) -> list[Any]:
    """Every mark of some rows, what was timed above the bound, the prediction above both."""
    return [*bounds(of, rows), *timed(of, rows), *predictions(of, rows), ends(of, rows, texts)]


def timed(of: Of, rows: Sequence[Placed]) -> list[Any]:
    """Medians and their spread: filled where measured, hollow and in another colour where extrapolated."""
    return [
        _medians(of, mine, tag) for tag in (MEASURED, EXTRAPOLATED) if (mine := [x for x in rows if x[1].tag == tag])
    ]


def _medians(of: Of, rows: Sequence[Placed], tag: str) -> Any:
    colour = CHROME[COLOURS[tag]][0]
    up, down = spread(of, [t for _, t in rows])
    return go.Scatter(
        x=[of(t.seconds) for _, t in rows], y=[p.key for p, _ in rows], mode="markers",
        meta=[p.index for p, _ in rows], hoverinfo="text", hovertext=[hover(p.short, *said(t)) for p, t in rows],
        cliponaxis=False,
        marker={"size": 10, "symbol": "circle", **paint(tag, colour)},
        error_x={"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.6, "width": 5},
    )  # fmt: skip


def spread(of: Of, found: Sequence[Timing]) -> tuple[list[float], list[float]]:
    """How far the whiskers reach, above the median and below it."""
    ends = [((of(t.low) or 0), (of(t.seconds) or 0), (of(t.high) or 0)) for t in found]
    return [high - middle for _, middle, high in ends], [middle - low for low, middle, _ in ends]


def paint(tag: str, colour: str) -> dict[str, Any]:
    """Filled with a thin edge where measured; a ring where extrapolated."""
    card = CHROME["card"][0]
    measured = tag == MEASURED
    return {
        "color": colour if measured else card,
        "line": {"width": 1 if measured else 2, "color": card if measured else colour},
    }


def said(t: Timing) -> tuple[str, ...]:
    """A timing in the lines of a hover text."""
    spread = [f"5 % to 95 %: {units.show_seconds(t.low)} to {units.show_seconds(t.high)}"] * (t.low < t.high)
    beside = [f"predicted {units.show_seconds(t.predicted)}"] if t.predicted else []
    if t.bound and t.share:
        beside += [f"bound {units.show_seconds(t.bound)}, {words.percent(t.share)} of it reached"]
    sampled = [f"of {safe(t.row['sampled'])}"] if t.row.get("sampled") else []
    counted = [f"n = {t.row['n']}"] if t.row.get("n") else []
    return (f"median {units.show_seconds(t.seconds)}", *spread, *counted, *beside, *sampled, safe(t.place), t.tag)


def bounds(of: Of, rows: Sequence[Placed]) -> list[Any]:
    """An upright stroke at the bound."""
    return strokes(of, {p: t.bound for p, t in rows if t.bound})


def strokes(of: Of, at: Mapping[Point, float]) -> list[Any]:
    """Upright strokes at bounds, each in a halo, so that they are seen on bars too."""
    said = [hover(p.short, f"at least {units.show_seconds(bound)}", BOUND) for p, bound in at.items()]
    halo = _stroke(of, at, CHROME["card"][0], 6.0, hoverinfo="skip")
    return [halo, _stroke(of, at, CHROME["limit"][0], 2.6, hoverinfo="text", hovertext=said)] if at else []


def _stroke(of: Of, at: Mapping[Point, float], colour: str, width: float, **said: Any) -> Any:
    return go.Scatter(
        x=[of(bound) for bound in at.values()], y=[p.key for p in at], mode="markers", meta=[p.index for p in at],
        marker={"size": 18, "symbol": SYMBOLS[BOUND], "color": colour, "line": {"width": width}}, **said,
    )  # fmt: skip


def predictions(of: Of, rows: Sequence[Placed]) -> list[Any]:
    """A hollow diamond at the prediction."""
    known = [(p, t, t.predicted) for p, t in rows if t.predicted]
    return [_diamonds(of, known)] if known else []


def _diamonds(of: Of, known: Sequence[tuple[Point, Timing, float]]) -> Any:
    return go.Scatter(
        x=[of(x) for *_, x in known], y=[p.key for p, *_ in known], mode="markers", meta=[p.index for p, *_ in known],
        hoverinfo="text", hovertext=[hover(p.short, *expected(t)) for p, t, _ in known], cliponaxis=False,
        marker={"size": 13, "symbol": SYMBOLS[PREDICTED], "color": CHROME["predicted"][0], "line": {"width": 2}},
    )  # fmt: skip


def expected(t: Timing) -> tuple[str, ...]:
    """A prediction in the lines of a hover text."""
    off = [f"{signed(t.error)} of what was measured"] * (t.error is not None)
    source = str(t.row.get("predicted_source") or PREDICTED)
    return (f"predicted {units.show_seconds(t.predicted or 0)}", *off, safe(source))


def signed(share: float | None) -> str:
    """'+4.2 %', '-0.8 %'."""
    return words.NONE if share is None else f"{share * 100:+.1f} %"


def ends(of: Of, rows: Sequence[Placed], texts: Sequence[str]) -> Any:
    """A text behind the last mark of each row."""
    return go.Scatter(
        x=[of(max(t.known)) for _, t in rows], y=[p.key for p, _ in rows], mode="text",
        text=[f"\u2002\u2002{safe(text)}" for text in texts], cliponaxis=False, meta=[p.index for p, _ in rows],
        textposition="middle right", hoverinfo="skip", textfont={"size": 12.5, "color": CHROME["ink2"][0]},
    )  # fmt: skip
