"""What a pattern and a window buy: the cache of each ratio of local to global layers, and of each window, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archlab.report import metrics, words
from archlab.report.charts import bars, choices, memory
from archlab.report.load import Axis
from archlab.report.parts import CALCULATED, Card, Figure
from archlab.report.points import Cast, Point, axis_rank, many_bases

SPLIT = {part: memory.PARTS[part] for part in ("global", "local", "recurrent", "source", "padding")}
TURNED = {"pattern": "local : global ratio", "window": "window"}
"""Last word of an axis -> what people call it."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run turns neither the pattern nor a window."""
    axes = {name: axis for name in TURNED for axis in cast.run.axes if axis.key.rpartition(".")[2] == name}
    rows = _rows(cast, list(axes.values())) if axes else []
    stacks = choices.variants(cast.run, False, lambda at: _stack(cast, rows, at))
    if not stacks:
        return None
    title = f"KV cache by {' and '.join(TURNED[name] for name in axes)}"
    about = f"{title} in GiB: a bar a row, split by kind of layer; the numbers are in the table below."
    drawn = {key: bars.stacked(stack) for key, stack in stacks.items()}
    seen = list(dict.fromkeys(part for stack in stacks.values() for part in stack.seen()))
    said = choices.names(cast.run, False)
    switches = choices.switches(cast.run, False, stacks)
    first = stacks["/".join(s.chosen for s in switches)] if switches else next(iter(stacks.values()))
    return Card(
        title, (CALCULATED,), " ".join([*_read(axes), *_bought(first)]),
        figures=(Figure("kv-ratio", "", about, drawn),),
        switches=switches, legend=bars.legend(seen, memory.SAID),
        numbers=bars.numbers("kv-ratio-numbers", title, {said[k]: v for k, v in stacks.items()}),
        notes=tuple(_others(cast, axes)),
    )  # fmt: skip


def _rows(cast: Cast, axes: Sequence[Axis]) -> list[Point]:
    """The points that differ from their base in these axes alone, by ratio and window, and called by them."""
    rest = [axis for axis in cast.run.axes if axis not in axes]
    usual = {p.base: p.values for p in reversed(cast.ok)} | {p.base: p.values for p in cast.ok if p.released}
    mine = [p for p in cast.ok if all(p.values[a.key] == usual[p.base][a.key] for a in rest)]
    bases = list(dict.fromkeys(p.base for p in mine))
    mine.sort(key=lambda p: (bases.index(p.base), *(axis_rank(a.values, p.values[a.key]) for a in axes)))
    named = [replace(p, tag=_tag(cast, p, axes)) for p in mine]
    return named if len(named) > 1 else []


def _tag(cast: Cast, point: Point, axes: Sequence[Axis]) -> str:
    """'5:1, window 1,024'."""
    words_ = [_value(axis, point.values[axis.key]) for axis in axes]
    return " · ".join([*[point.base] * many_bases(cast.run), ", ".join(words_)])


def _value(axis: Axis, value: Any) -> str:
    if axis.key.endswith("pattern"):
        return words.axis_tag(value)
    return f"window {words.axis_value(value)}"


def _stack(cast: Cast, rows: Sequence[Point], at: choices.At) -> bars.Stack | None:
    values = {p: parts for p in rows if sum((parts := _parts(cast, p, at)).values())}
    if len(values) < 2:
        return None
    scale = words.gib(sum(parts.values()) for parts in values.values())
    usual = {p.base: sum(parts.values()) for p, parts in values.items() if p.released}
    title = f"GiB at {metrics.work_words(cast.run, at.get('workload'))}"
    return bars.Stack(values, scale, title, CALCULATED, lambda p, total: scale.full(total) + _beside(p, total, usual))


def _parts(cast: Cast, point: Point, at: choices.At) -> dict[str, float]:
    row = cast.run.row(point.name, status="ok", **at) or {}
    return {part: row.get(column) or 0 for part, column in SPLIT.items()}


def _beside(point: Point, total: float, usual: dict[str, float]) -> str:
    """How a bar stands to that of the shape as it is released."""
    if point.released:
        return f", {words.AS_USUAL[point.usual]}"
    return f", {words.percent(total / usual[point.base])} of the {point.usual}" if point.base in usual else ""


def _read(axes: dict[str, Axis]) -> list[str]:
    """How the rows are called."""
    return ["5:1 is five local layers to a global one."] * ("pattern" in axes)


def _bought(stack: bars.Stack) -> list[str]:
    """What the shape as it is released saves of the largest row, and what the least row saves of it, in a sentence."""
    first = next(iter(stack.values)).base
    totals = sorted(((p, stack.total(p)) for p in stack.values if p.base == first), key=lambda x: x[1])
    (least, low), (most, high) = totals[0], totals[-1]
    middle = next(((p, total) for p, total in totals if p.released and low < total < high), None)
    if low >= high:
        return []
    where = words.sentence(stack.title.partition(" ")[2])
    if middle is None:
        return [f"{where} the cache of {least.tag} is {words.less(high / low, 'smaller')} that of {most.tag}."]
    usual, total = middle
    less = words.less(high / total, "smaller")
    saved = f"{where} the cache of {usual.tag}, {words.AS_USUAL[usual.usual]}, is {less} that of {most.tag}"
    return [f"{saved}; that of {least.tag} is {words.less(total / low, 'smaller')} it."]


def _others(cast: Cast, axes: dict[str, Axis]) -> list[str]:
    rest = [axis.label for axis in cast.run.axes if axis not in axes.values()]
    return [f"In {words.listing(rest)} these points are as their base."] * bool(rest)
