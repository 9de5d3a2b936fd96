"""What all pictures share: the template, the axis of contexts, hover texts, the way from plotly to JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report.palette import CHROME
from archlab.report.points import Point

FONT = 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'


def _light(name: str) -> str:
    return CHROME[name][0]


_AXIS = {
    "gridcolor": _light("line"), "linecolor": _light("rule"), "tickcolor": _light("rule"), "showline": True,
    "exponentformat": "none", "separatethousands": True, "tickangle": 0,
    "ticks": "outside", "ticklen": 4, "zeroline": False, "tickfont": {"size": 12.5, "color": _light("ink2")},
    "title": {"font": {"size": 12.5, "color": _light("ink2")}, "standoff": 10}, "fixedrange": True,
}  # fmt: skip
TEMPLATE = {
    "layout": {
        "font": {"family": FONT, "size": 13, "color": _light("ink2")},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 62, "r": 24, "t": 14, "b": 48}, "showlegend": False, "dragmode": False, "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": _light("card"), "bordercolor": _light("rule"), "align": "left",
            "font": {"family": FONT, "size": 12.5, "color": _light("ink")},
        },
        "xaxis": _AXIS, "yaxis": _AXIS,
    }
}  # fmt: skip
"""Written once into the page, not into each figure."""


def drawing(traces: Iterable[Any], layout: Mapping[str, Any], **hints: Any) -> dict[str, Any]:
    """A checked plotly figure as plain JSON, with what the page settles when it draws.

    A trace's `meta` is the index of its point, or one index an element (null: of no point). Hints: `labels`, texts at
    the ends of lines; `ticks`, the names of rows; `row`, the height of a row in px; `height`. The page measures the
    texts and makes the margins beside them.
    """
    spec = go.Figure(list(traces), dict(layout)).to_plotly_json()
    spec["layout"].pop("template", None)
    return {"data": spec["data"], "layout": spec["layout"], "hints": hints}


def safe(text: Any) -> str:
    """Outside text inside a picture, where plotly would read tags and `%{...}`."""
    return html.escape(str(text), quote=False).replace("%{", "%\u200b{")


def short(text: str, most: int = 28) -> str:
    """A name that has to stand inside a picture on a phone."""
    return text if len(text) <= most else text[: most - 1] + "…"


def hover(head: str, *lines: str) -> str:
    """A bold head and lines below it; the head is outside text."""
    return "<br>".join([f"<b>{safe(head)}</b>", *lines])


def context_axis(contexts: Sequence[int], title: str, pad: float = 0.012) -> dict[str, Any]:
    """Tokens on a log2 axis, a tick at each power of two; `pad` of its length at both ends."""
    low, high = math.log10(min(contexts)), math.log10(max(contexts))
    pad = (high - low) * pad or 0.05
    ticks = [2**i for i in range(60) if min(contexts) <= 2**i <= max(contexts)]
    return {
        "type": "log", "range": [low - pad, high + pad], "title": {"text": title},
        "tickvals": ticks, "ticktext": [units.show_tokens(t) for t in ticks],
    }  # fmt: skip


def log_axis(low: float, high: float, title: str) -> dict[str, Any]:
    """A log axis from low to high with ticks at 1, 2 and 5; powers of ten over a wide range, more over a narrow one."""
    ratio = high / low
    steps = (1, 2, 3, 4, 6, 8) if ratio < 8 else (1, 2, 5) if ratio < 300 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
    return {
        "type": "log", "range": [math.log10(low), math.log10(high)], "title": {"text": title},
        "tickvals": ticks, "ticktext": [f"{t:,.10g}" for t in ticks],
    }  # fmt: skip


def end_text(point: Point) -> str:
    """The tag, and 'released' or 'original' where that leaves it short."""
    return f"{point.tag} {point.usual}" if point.released and len(point.tag) < 20 else point.tag


def end_label(point: Point, value: float) -> dict[str, Any]:
    """A text beside the last point of a line, in its colour; a bold one stays where there is no room for all."""
    return {
        "point": point.index,
        "text": end_text(point),
        "y": value,
        "color": point.look.text[0],
        "bold": point.released,
    }
