"""The cache against context, log-log: the kink at the window, and the memory of whole devices as rules."""

from __future__ import annotations

import math
from typing import Any

from archlab import units
from archlab.report import metrics, words
from archlab.report.charts import lines
from archlab.report.charts.frame import context_axis, drawing, log_axis, safe, short
from archlab.report.load import Record
from archlab.report.palette import CHROME
from archlab.report.parts import CALCULATED, Card, Figure
from archlab.report.points import Cast

COLUMN = "kv_cache_bytes"


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no curves."""
    values = lines.span(cast, COLUMN)
    if not values:
        return None
    scale = words.gib(values)
    about = "KV cache in GiB against context, one line for each point; the numbers are in the table below."
    figure = Figure("kv-context", "", about, {"": _drawing(cast, scale, values)})
    rules = ["Dotted rules are what a program can have of a device's memory; weights have to go there too."]
    return Card(
        "Cache against context length", (CALCULATED,),
        "Batch 1, bf16, as the mathematics needs it. Both axes are logarithmic.",
        figures=(figure,), numbers=lines.numbers(cast, "kv-context-numbers", COLUMN, "KV cache", scale),
        notes=(*lines.notes(cast), *rules * bool(_devices(cast, values))),
    )  # fmt: skip


def _drawing(cast: Cast, scale: words.Scale, values: list[float]) -> dict[str, Any]:
    cards = _devices(cast, values)
    low = min(values) / units.GIB / 1.6
    high = max([max(values) / units.GIB * 1.6, *(size / units.GIB * 1.35 for _, size in cards)])
    shapes, notes = [], []
    for title, size in cards:
        shape, note = _device_rule(title, size)
        shapes.append(shape)
        notes.append(note)
    for shape, note in _context_rules(cast):
        shapes.append(shape)
        notes.append(note)
    layout = {
        "xaxis": context_axis(lines.contexts(cast), "Context (tokens, log scale)"),
        "yaxis": log_axis(low, high, "KV cache (GiB, log scale)"),
        "margin": {"l": 66, "r": 24, "t": 14, "b": 52}, "shapes": shapes, "annotations": notes,
    }  # fmt: skip
    return drawing(
        lines.traces(cast, COLUMN, scale, _say), layout, labels=lines.labels(cast, COLUMN, scale), height=430
    )


def _say(row: Record) -> tuple[str, ...]:
    size, context = row[COLUMN], row["context"]
    each = f"{units.show_bytes(size / context)} a token so far"
    return (f"{words.say_bytes(size)} of KV cache", each, CALCULATED)


def _context_rules(cast: Cast) -> list[Any]:
    colour = CHROME["ink3"][0]
    rules = [lines.upright(w, f"window {units.show_tokens(w)}", colour) for w in lines.windows(cast)]
    return rules + [lines.upright(c, f"trained for {units.show_tokens(c)}", colour) for c in lines.trained_rule(cast)]


def _devices(cast: Cast, values: list[float]) -> list[tuple[str, float]]:
    """Devices worth a rule: within reach of the lines, and their labels apart."""
    known = metrics.rooms(cast.run)
    chosen: list[tuple[str, float]] = []
    for size, title in known:
        apart = not chosen or math.log10(size / chosen[-1][1]) > 0.07 * math.log10(max(values) / min(values) * 4)
        if min(values) < size < max(values) * 12 and apart:
            chosen.append((title, size))
    return chosen[:4]


def _device_rule(title: str, size: float) -> tuple[dict[str, Any], dict[str, Any]]:
    gib, colour = size / units.GIB, CHROME["limit"][0]
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": gib, "y1": gib, "layer": "below",
            "line": {"color": colour, "width": 1.2, "dash": "dot"}}  # fmt: skip
    text = f"{safe(short(title))}, {units.show_gib(size)}"
    note = {"xref": "paper", "x": 0, "y": math.log10(gib), "text": text, "showarrow": False, "xanchor": "left",
            "yanchor": "bottom", "xshift": 4, "font": {"size": 11.5, "color": colour}}  # fmt: skip
    return line, note
