"""What a study of one model's shape answers: what its axis saves or costs, of which number, and what it leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from archlab.report import metrics, moves, spreads, words
from archlab.report.columns import CHARACTER
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.moves import Move, Where, moved, numbers, together
from archlab.report.parts import Answer
from archlab.report.points import Cast, Point, axis_rank
from archlab.report.spreads import CLEAR, Spread

COLUMNS = ("kv_cache_bytes", "decode_bound_s", "prefill_bound_s", "params")
"""What is spoken of, the first ones first."""
LITTLE = 1.25
"""Where all values of an axis lie within this, how little it decides is the answer: its ends are compared."""


def answer(cast: Cast) -> Answer | None:
    """The heading and the lines below it; None where nothing changes clearly, or of several models."""
    of = _lead(cast)
    if of is None:
        return None
    start, end = _ends(cast, of)
    ways = [(point, _at(cast)) for point in (start, end)]
    found = _told(cast, of, *ways)
    if not found:
        return None
    still = [a for a in cast.run.axes if _leaves(cast, a, start, end, found)]
    left = f"; {words.listing([a.label for a in still])} {_leaving(still, found)}" if still else ""
    said = f"With {_instead(cast, start, end)}{_equal(cast)}, {together(found, f' of {end.base}')}{left}"
    device = metrics.device_title(cast.run, _at(cast).get("hardware"))
    return Answer(said, (numbers(found, device), *_rest(cast, of, start, end, found)))


def _lead(cast: Cast) -> Spread | None:
    """What the heading is about: at the longest workload, else wherever something changes most."""
    every = [*metrics.kv_cache(cast.run), *metrics.bounds(cast.run, "decode")]
    first, free = ([m for m in known if not is_held(cast, m.column)] for known in (spreads.candidates(cast), every))
    for found in (first[:1], free):
        each = [s for m in found for s in spreads.by_base(cast, m) if s]
        if len({p.base for s in each for p in s.values}) > 1:
            return None
        most = max(each, key=lambda s: s.ratio, default=None)
        if most and most.ratio >= CLEAR:
            return most
    return None


def is_held(cast: Cast, column: str) -> bool:
    """What the points keep equal: of `kv_cache` the column kv_cache_bytes, of `flops` those of both phases."""
    held = cast.run.meta.get("hold")
    return bool(held) and f"{column}_".startswith(f"{held}_")


def _free(cast: Cast, columns: Sequence[str] = COLUMNS) -> list[str]:
    return [c for c in columns if not is_held(cast, c)]


def _ends(cast: Cast, of: Spread) -> tuple[Point, Point]:
    """What is compared: of a question about a cost, or where little changes, the least with the most; else the released
    shape with the end that is farther from it, and the smaller of both is what is told of."""
    low, high, usual = of.least, of.most, of.released
    if re.search(r"\bcosts?\b", cast.run.meta["question"]) or (usual and of.ratio < LITTLE):
        return low, high
    if usual is None:
        return high, low
    gain, price = of.values[usual] / of.values[low], of.values[high] / of.values[usual]
    if gain < CLEAR:
        return usual, high
    return (usual, low) if gain >= price else (high, usual)


def _at(cast: Cast) -> dict[str, str | None]:
    """The device and precision of the sentences; that of the decode bound."""
    step: Metric | None = spreads.decode(cast)
    own = step.at if step else {"precision": next(iter(metrics.precisions(cast.run)), None)}
    return {k: v for k, v in own.items() if k != "workload"}


def _told(cast: Cast, of: Spread, start: Where, end: Where) -> list[Move]:
    """The number that changes most, what is paid for it, and the decode step's bound; what is held is left out."""
    found = moved(cast.run, [of.metric.column, *_free(cast)], start, end)
    if not found:
        return []
    first, *others = found
    paid = [m for m in others if m.is_clear and m.falls != first.falls]
    usual = [m for m in others if m.column == "decode_bound_s" or (m.column == "params" and m.is_clear)]
    return [first, *list(dict.fromkeys([*paid, *usual]))[:2]]


def _instead(cast: Cast, start: Point, end: Point) -> str:
    """'n_kv_heads 1 instead of 8': the axes on which two points differ."""
    said = [
        f"{a.label} {words.axis_value(end.values[a.key])}{f', {words.AS_USUAL[end.usual]},' * end.released} instead of "
        f"{words.axis_value(start.values[a.key])}"
        for a in _apart(cast, start, end)
    ]
    return words.listing(said) or end.short


def _apart(cast: Cast, start: Point, end: Point) -> list[Axis]:
    return [a for a in cast.run.axes if end.values[a.key] != start.values[a.key]]


def _equal(cast: Cast) -> str:
    held = cast.run.meta.get("hold")
    return f" at equal {words.HELD.get(held, held)}" if held else ""


# ---------------------------------------------------------------- axes that are not turned


def _mates(cast: Cast, axis: Axis, start: Point) -> list[Point]:
    """The points that differ from one in this axis alone, in its order."""
    rest = [a.key for a in cast.run.axes if a is not axis]
    mates = [p for p in cast.ok if p.base == start.base and all(p.values[k] == start.values[k] for k in rest)]
    return sorted(mates, key=lambda p: axis_rank(axis.values, p.values[axis.key]))


def _along(cast: Cast, axis: Axis, start: Point, columns: Sequence[str]) -> list[Move]:
    mates = _mates(cast, axis, start)
    first, last = (mates[0], _at(cast)), (mates[-1], _at(cast))
    return moved(cast.run, columns, first, last) if len(mates) > 1 else []


def _leaves(cast: Cast, axis: Axis, start: Point, end: Point, found: Sequence[Move]) -> bool:
    """An axis that two points share, and that moves none of the numbers."""
    turned = _along(cast, axis, start, [m.column for m in found])
    return start.values[axis.key] == end.values[axis.key] and bool(turned) and not any(_moves(m) for m in turned)


def _moves(m: Move) -> bool:
    return m.most.ratio >= 1.005


def _leaving(axes: Sequence[Axis], found: Sequence[Move]) -> str:
    many = len(axes) > 1
    if len(found) == 1:
        return f"{'do' if many else 'does'} not change it"
    return f"{'change' if many else 'changes'} {'neither' if len(found) == 2 else 'none of them'}"


# ---------------------------------------------------------------- the lines below


def _rest(cast: Cast, of: Spread, start: Point, end: Point, found: Sequence[Move]) -> Iterator[str]:
    """What goes on beyond the released shape; what else these two, or the other axes, change clearly."""
    first, last = (start, _at(cast)), (end, _at(cast))
    if end.released and of.values[start] > of.values[end] >= of.values[of.least] * CLEAR:
        _, far = words.becomes(of.values[of.least] / of.values[end])
        yield f"With {_instead(cast, end, of.least)} it would fall {far} again."
    told = {m.column for m in found}
    free = [c for c in _free(cast) if c not in told]
    if more := [m for m in moved(cast.run, free, first, last) if m.is_clear]:
        yield words.sentence(f"{together(more, '')}.")
    yield from _by_character(cast, first, last)
    for axis in cast.run.axes:
        turned = sorted(_along(cast, axis, start, _free(cast, COLUMNS[:-1])), key=lambda m: -m.most.ratio)
        if axis not in _apart(cast, start, end) and turned and _moves(turned[0]):
            mates = _mates(cast, axis, start)
            yield f"With {_instead(cast, mates[0], mates[-1])}, {together(turned[:1], '')}."


def _by_character(cast: Cast, start: Where, end: Where) -> Iterator[str]:
    """What the same text costs, where the run says how many tokens it has."""
    columns = [c.replace("_s", f"{CHARACTER}_s") for c in ("decode_bound_s", "prefill_bound_s")]
    found = [moves.Move(m.column.replace(CHARACTER, ""), m.steps) for m in moved(cast.run, columns, start, end)]
    if found:
        yield f"For a character of text, {together(found, '')}."
