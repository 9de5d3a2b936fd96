"""Where the parameters are: a bar a point, split by part."""

from __future__ import annotations

from collections.abc import Mapping

from archlab.report import words
from archlab.report.charts import bars
from archlab.report.load import Run
from archlab.report.parts import CALCULATED, Card, Figure
from archlab.report.points import Cast, Point

PREFIX = "params_"


def card(cast: Cast) -> Card | None:
    """The card, or None where no point has parameters by part."""
    values = {p: parts for p in cast.ok if (parts := _parts(cast.run, p))}
    if not values:
        return None
    totals = [sum(parts.values()) for parts in values.values()]
    scale = words.count(totals)
    unit = {"B": "billions", "M": "millions"}.get(scale.unit, "count")
    stack = bars.Stack(values, scale, f"Parameters ({unit})", CALCULATED, lambda p, total: scale.full(total))
    about = f"Parameters in {unit} by part, one bar for each point; the numbers are in the table below."
    figure = Figure("parameters", "", about, {"": bars.stacked(stack)})
    return Card(
        "Parameters by part", (CALCULATED,), "Tied tables count once.", figures=(figure,),
        legend=bars.legend(stack.seen()), numbers=bars.numbers("parameters-numbers", "Parameters by part", {"": stack}),
        notes=_unseen(stack),
    )  # fmt: skip


def _parts(run: Run, point: Point) -> Mapping[str, float]:
    row = run.row(point.name, status="ok") or {}
    found = {k.removeprefix(PREFIX): v for k, v in row.items() if k.startswith(PREFIX) and v}
    return {part: found[part] for part in sorted(found, key=_reading_order)}


def _reading_order(part: str) -> tuple[int, str]:
    known = (
        "embedding", "per_layer", "attention", "cross_attention", "recurrent", "mlp", "moe", "altup", "laurel", "norm",
        "head", "vision", "audio", "projector",
    )  # fmt: skip
    return (known.index(part) if part in known else len(known), part)


def _unseen(stack: bars.Stack) -> tuple[str, ...]:
    small = [bars.spoken(part) for part in stack.parts() if part not in stack.seen()]
    return (f"Too small to see: {words.listing(small)}, below 0.4 % of every bar; in the table.",) if small else ()
