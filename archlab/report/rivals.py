"""Where a model is cheaper than others as a batch or a context grows: of a study of models, the first and the rest.

The first base of such a study is the one that it asks about. A place counts where both models fit the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archlab import units
from archlab.report import beyond, fits, metrics, spreads, words
from archlab.report.charts.timed_lines import BATCH, Along, say
from archlab.report.growth import varied
from archlab.report.load import Record
from archlab.report.metrics import Metric
from archlab.report.parts import Answer
from archlab.report.points import Cast, Point
from archlab.report.spreads import CLEAR

MOST = 3
"""So many others are named."""
MUCH = 1.5
"""What the bound is paid with, or saves besides, is named where it is so many times as much."""


@dataclass(frozen=True)
class Rival:
    """Another model: at each value where both fit, the first one's bound over its own. `lost` are places without."""

    point: Point
    ratios: dict[int, float]
    lost: bool

    @property
    def wins(self) -> list[int]:
        """Where the first has the lower bound."""
        return [v for v, ratio in self.ratios.items() if ratio < 1]

    @property
    def turns(self) -> bool:
        """It wins somewhere, and somewhere it does not."""
        return 0 < len(self.wins) < len(self.ratios)


def answer(cast: Cast) -> Answer | None:
    """The heading and the lines below it; None of runs that do not ask so."""
    along, metric = _axis(cast), spreads.decode(cast)
    if along is None or metric is None or fits.asked(cast.run) or cast.run.axes or len({p.base for p in cast.ok}) < 2:
        return None
    first = cast.ok[0]
    rivals = [r for p in cast.ok[1:] if (r := _rival(cast, metric, along, first, p)).ratios]
    if not rivals:
        return None
    rivals.sort(key=lambda r: -len(r.wins) / len(r.ratios))
    at = f"At {_fixed(cast, along, first)}, the" if along is BATCH else "The"
    said = f"{at} bound on a decode step of {first.base} is lower than {_every(cast, along, rivals)}"
    told = next((r for r in rivals if r.turns), rivals[0])
    several = len(metrics.devices(cast.run)) > 1
    on = f"All on {metrics.device_title(cast.run, metric.at['hardware'])}." if several else ""
    more = [_beside(cast, along, first, told), _compared(cast, along, told), *[_clear(r, along) for r in rivals]]
    return Answer(said, tuple(filter(None, (_active(cast, first), *more, on))))


def _axis(cast: Cast) -> Along | None:
    """Context or batch, where the study turns this one alone."""
    found = varied(cast)
    return found[0] if len(found) == 1 and cast.run.meta["kind"] == "study" else None


def _rival(cast: Cast, metric: Metric, along: Along, first: Point, other: Point) -> Rival:
    mine, theirs = (_readings(cast, metric, along, p) for p in (first, other))
    both = sorted(mine.keys() & theirs.keys())
    held = [v for v in both if _fits(mine[v]) and _fits(theirs[v])]
    return Rival(other, {v: _bound(mine[v]) / _bound(theirs[v]) for v in held}, len(held) < len(both))


def _readings(cast: Cast, metric: Metric, along: Along, point: Point) -> dict[int, Record]:
    """Value of the axis -> a row with the bound there: of the points, and of the batches between theirs."""
    at = {k: v for k, v in metric.at.items() if k != "workload"}
    rows = cast.run.rows_at(point.name, status="ok", **at)
    fixed = {r[along.held] for r in rows}
    finer = _between(cast, point, rows, at) if along is BATCH else []
    known = [r for r in (*finer, *rows) if r.get(metric.column) and r[along.held] in fixed]
    return {r[along.key]: r for r in known} if len(fixed) == 1 else {}


def _between(cast: Cast, point: Point, rows: Sequence[Record], at: Mapping[str, str | None]) -> list[Record]:
    """The finer table of batches there, as far as the study's own batches go: up to which one is asked."""
    asked = [r["batch"] for r in rows]
    known = cast.run.batch_rows.get(point.name, []) if asked else []
    return [r for r in known if all(r.get(k) == v for k, v in at.items()) and min(asked) <= r["batch"] <= max(asked)]


def _bound(row: Record) -> float:
    return float(row["decode_bound_s"])


def _fits(row: Record) -> bool:
    return row.get("fits") is not False


# ---------------------------------------------------------------- in words


def _fixed(cast: Cast, along: Along, point: Point) -> str:
    row = cast.run.rows[point.name][0]
    return f"{units.show_tokens(row['context'])} tokens{beyond.of_context(cast.run, row['context'], [point])}"


def _every(cast: Cast, along: Along, rivals: Sequence[Rival]) -> str:
    """'that of A at every batch, that of B up to batch 8 and that of C with batch 1 alone'; of two, by how much."""
    said = [f"that of {r.point.base} {_where(r, along)}" for r in rivals[:MOST]]
    if along is not BATCH:
        last = max(v for r in rivals for v in r.ratios)
        note = beyond.of_context(cast.run, last, (cast.ok[0], *[r.point for r in rivals]))
        said[0] += note.replace("(beyond", "(also beyond")
    if len(rivals) < MOST:
        return ", and ".join(text + _far(r) for text, r in zip(said, rivals, strict=True))
    more = f"; {words.some(len(rivals) - MOST, 'other')} in the tables" if len(rivals) > MOST else ""
    return words.listing(said) + more


def _far(rival: Rival) -> str:
    """', by 8.0 to 84 %', where the first wins."""
    if not rival.wins:
        return ""
    least, most = (words.percent(1 - pick(rival.ratios[v] for v in rival.wins)) for pick in (max, min))
    start = "" if least == most else f"{words.split(least)[0]} to "
    return f", by {start}{most}"


def _at(cast: Cast, along: Along, value: int, rival: Point) -> str:
    if along is BATCH:
        return f"with {say(along.key, value)}"
    return f"at {say(along.key, value)}{beyond.of_context(cast.run, value, (cast.ok[0], rival))}"


def _where(rival: Rival, along: Along) -> str:
    """'at every batch', 'up to batch 8', 'from 32k tokens on', 'at no batch'."""
    values, wins = list(rival.ratios), rival.wins
    if len(wins) == len(values):
        return f"at every {along.key}{' at which both fit' * rival.lost}"
    if not wins:
        return f"at no {along.key}"
    last, first = (say(along.key, v) for v in (wins[-1], wins[0]))
    if wins == values[: len(wins)]:
        return f"{'with' if along is BATCH else 'at'} {last} alone" if len(wins) == 1 else f"up to {last}"
    return (
        f"from {first} on" if wins == values[-len(wins) :] else f"at {len(wins)} of {len(values)} values of {along.key}"
    )


def _active(cast: Cast, first: Point) -> str:
    """'gemma-4-26b-a4b uses 3.8 B of its 25.8 B parameters for a token.'"""
    active, every = (cast.run.value(first.name, c) for c in ("active_params", "params"))
    if not active or not every or every / active < CLEAR:
        return ""
    return f"{first.base} uses {units.show_count(active)} of its {units.show_count(every)} parameters for a token."


def _beside(cast: Cast, along: Along, first: Point, rival: Rival) -> str:
    """'Against A the bound is at most 67 % lower, with batch 1, and at most 46 % higher, with batch 32; with ...'."""
    ends = sorted({pick(rival.ratios, key=lambda v: rival.ratios[v]) for pick in (min, max)})
    found = [(_stands(rival.ratios[v]), _at(cast, along, v, rival.point)) for v in ends]
    far = ", and ".join(f"at most {how}, {at}" for how, at in found) if rival.turns else ""
    mine, theirs = (_by_value(cast, along, p) for p in (first, rival.point))
    both = [v for v in rival.ratios if v in mine and v in theirs]
    best = min(both, key=lambda v: rival.ratios[v], default=None)
    costs = [_cost(c, s, mine[best], theirs[best]) for c, s in _COSTS] if best is not None else []
    more = ""
    if best is not None and (said := [c for c in costs if c]):
        where = ", where" if best == ends[-1] else f"; {_at(cast, along, best, rival.point)}"
        more = f"{where} {first.base} needs {words.listing(said)}"
    both_ends = far or words.listing([f"{how} {at}" for how, at in found])
    return f"Against {rival.point.base} the bound is {both_ends}{more}."


def _compared(cast: Cast, along: Along, rival: Rival) -> str:
    """'Compared at eight batches from 1 to 128, ...', where they are more than the study's own."""
    own = {r[along.key] for r in cast.run.rows[rival.point.name]}
    if rival.ratios.keys() <= own:
        return ""
    n = words.some(len(rival.ratios), "batch", "batches")
    return f"Compared at {n} from {min(rival.ratios):,} to {max(rival.ratios):,}, some of them between those listed."


_COSTS = (("memory_bytes", "memory"), ("kv_cache_bytes", "KV cache"))


def _by_value(cast: Cast, along: Along, point: Point) -> Mapping[int, Record]:
    return {r[along.key]: r for r in cast.run.rows_at(point.name, status="ok")}


def _cost(column: str, said: str, mine: Record, theirs: Record) -> str:
    """'2.1 times the memory (48.60 GiB, not 23.00 GiB)'; '' where it is nearly the same."""
    a, b = mine.get(column), theirs.get(column)
    if not a or not b or max(a / b, b / a) < MUCH:
        return ""
    own, other = words.alike((a, b), words.gib)
    return f"{_share(a / b, said)} ({own}, not {other})"


def _share(ratio: float, said: str) -> str:
    """'2.1 times the memory', 'a third of the memory', '16 % less memory'."""
    if ratio >= 1:
        return f"{words.times(ratio)} times the {said}"
    less = words.less(1 / ratio, "less")
    return f"{less.removesuffix(' than')} {said}" if less.endswith(" than") else f"{less} the {said}"


def _stands(ratio: float) -> str:
    return f"{words.percent(1 - ratio)} lower" if ratio < 1 else f"{words.percent(ratio - 1)} higher"


def _clear(rival: Rival, along: Along) -> str:
    """'That of A is more than 5 % higher from 4k tokens on.', where the first wins everywhere, and barely at first."""
    values = list(rival.ratios)
    clear = [v for v in values if rival.ratios[v] <= 1 / CLEAR]
    if rival.turns or not clear or clear[0] == values[0] or clear != values[-len(clear) :]:
        return ""
    least = words.percent(CLEAR - 1).replace(".0", "")
    return f"That of {rival.point.base} is more than {least} higher from {say(along.key, clear[0])} on."
