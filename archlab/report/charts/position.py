"""FLOPs of one token against its position: when does attention weigh?"""

from __future__ import annotations

from typing import Any

from archlab.report import words
from archlab.report.charts import lines
from archlab.report.charts.frame import context_axis, drawing, log_axis
from archlab.report.load import Record
from archlab.report.parts import CALCULATED, Card, Figure, Switch
from archlab.report.points import Cast

WHOLE, ATTENTION = "flops_per_token", "flops_attention_per_token"


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no curves."""
    if not lines.span(cast, WHOLE):
        return None
    names = {WHOLE: "Whole step", ATTENTION: "Attention alone"}
    names = {column: name for column, name in names.items() if lines.span(cast, column)}
    scale = words.flop(lines.span(cast, WHOLE))
    about = f"{scale.unit} for one generated token against its position, one line for each point; numbers below."
    figure = Figure("flops-position", "", about, {column: _drawing(cast, column) for column in names})
    switch = Switch("Count", tuple(names.items()), WHOLE)
    return Card(
        "Work for one token against its position", (CALCULATED,),
        "One decode step, batch 1. Matrix products, two operations a multiply-add; windows are honoured.",
        figures=(figure,), switches=(switch,) * (len(names) > 1),
        numbers=lines.numbers(cast, "flops-position-numbers", WHOLE, "FLOPs per token", scale),
        notes=(*_share(cast), *lines.notes(cast)),
    )  # fmt: skip


def _drawing(cast: Cast, column: str) -> dict[str, Any]:
    values = lines.span(cast, column)
    scale = words.flop(values)
    low, high = min(values) / scale.divisor, max(values) / scale.divisor
    title = f"{scale.unit} per token"
    wide = high / low > 4
    yaxis = log_axis(low / 1.5, high * 1.5, f"{title} (log scale)") if wide else _from_zero(high, title)
    layout = {
        "xaxis": context_axis(lines.contexts(cast), "Position (tokens before and with it, log scale)"), "yaxis": yaxis,
        "margin": {"l": 66, "r": 24, "t": 14, "b": 52},
    }  # fmt: skip
    traces = lines.traces(cast, column, scale, _say)
    return drawing(traces, layout, labels=lines.labels(cast, column, scale), height=400)


def _from_zero(high: float, title: str) -> dict[str, Any]:
    return {"type": "linear", "range": [0, high * 1.08], "title": {"text": title}}


def _say(row: Record) -> tuple[str, ...]:
    whole, attention = row.get(WHOLE) or 0, row.get(ATTENTION)
    share = [f"attention {words.percent(attention / whole)} of it"] if whole and attention is not None else []
    return (f"{words.say_flop(whole)} for the token", *share, CALCULATED)


def _share(cast: Cast) -> list[str]:
    """How close the lines lie at both ends, where that is close: else a reader takes them for one line."""
    ends = []
    for context in (lines.contexts(cast)[0], lines.contexts(cast)[-1]):
        at = [r[WHOLE] for p in lines.drawn(cast) for r in cast.run.curve_rows[p.name] if r["context"] == context]
        if len(at) < len(lines.drawn(cast)):
            return []  # not every line reaches this end
        ends.append(max(at) / min(at) - 1)
    if len(lines.drawn(cast)) < 2 or min(ends) > 0.05:
        return []
    first, last = (words.percent(e) for e in ends)
    return [f"The points differ by {first} at the left end and by {last} at the right end."]
