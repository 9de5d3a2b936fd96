"""The roofline bound by part: decode and prefill side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archlab.report import fits, metrics, words
from archlab.report.charts import bars, choices
from archlab.report.parts import BOUND, Card, Figure
from archlab.report.points import Cast, Point

PHASES = {"decode": "Decode, one step", "prefill": "Prefill, the whole context"}
MISFIT = " ‡"
MOST = 48
"""States of the switches: nobody looks through more, and the numbers are in the whole run's download."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no bounds, or too many."""
    stacks = {phase: _stacks(cast, phase) for phase in PHASES if _stacks(cast, phase)}
    if not stacks or max(map(len, stacks.values())) > MOST:
        return None
    seen = dict.fromkeys(part for found in stacks.values() for stack in found.values() for part in stack.seen())
    said = choices.names(cast.run, True)
    columns = {f"{phase} {said[key]}".strip(): stack for phase, found in stacks.items() for key, stack in found.items()}
    return Card(
        "Least time by part", (BOUND,),
        "Each operation takes at least its FLOPs over the peak rate, and at least its bytes over the bandwidth.",
        figures=tuple(_figure(phase, found) for phase, found in stacks.items()), small=True,
        switches=choices.switches(cast.run, True, next(iter(stacks.values()))), legend=bars.legend(list(seen)),
        numbers=bars.numbers("bound-numbers", "Bounds by part", columns),
        notes=("Beside a bar: the whole bound, and which roof is the nearer one for the whole step.", *misfits(cast)),
    )  # fmt: skip


def misfits(cast: Cast, on: Sequence[str] = (), what: str = "bound") -> list[str]:
    """What the double dagger says, where some point does not fit on some device, or on one of these."""
    at = [dict(m.at) for phase in PHASES for m in metrics.bounds(cast.run, phase)]
    at = [a for a in at if not on or a["hardware"] in on]
    if all(metrics.fits(cast.run, p.name, a) for p in cast.ok for a in at):
        return []
    needs = "What it needs exceeds" if fits.known(cast.run) else "Weights and cache alone exceed"
    return [f"‡ {needs} that device's memory: the {what} is arithmetic, the device cannot run it."]


def _stacks(cast: Cast, phase: str) -> dict[str, bars.Stack]:
    return choices.variants(cast.run, True, lambda at: _stack(cast, phase, at))


def _figure(phase: str, found: Mapping[str, bars.Stack]) -> Figure:
    about = f"{PHASES[phase]}: lower bound by part; the numbers are in the table below."
    drawings = {key: bars.stacked(stack) for key, stack in found.items()}
    return Figure(f"bound-{phase}", PHASES[phase], about, drawings, tag=BOUND)


def _stack(cast: Cast, phase: str, at: choices.At) -> bars.Stack | None:
    values = {p: parts for p in cast.ok if (parts := _parts(cast, phase, p, at))}
    if not values:
        return None
    scale = words.seconds(sum(parts.values()) for parts in values.values())
    misfits = {p for p in values if not metrics.fits(cast.run, p.name, at)}
    by = {p: cast.run.value(p.name, f"{phase}_bound_by", **at) for p in values}
    place = f"at {metrics.work_words(cast.run, at.get('workload'))}"
    return bars.Stack(
        values, scale, f"{scale.unit} {place}, a bound", BOUND,
        lambda p, total: scale.full(total) + (f", {by[p]}" if by[p] else "") + MISFIT * (p in misfits),
    )  # fmt: skip


def _parts(cast: Cast, phase: str, point: Point, at: choices.At) -> Mapping[str, float]:
    row = cast.run.row(point.name, status="ok", **at) or {}
    start, end = f"{phase}_bound_", "_s"
    names = [k for k in row if k.startswith(start) and k.endswith(end) and row[k] is not None]
    found = {k[len(start) : -len(end)]: row[k] for k in names if k != f"{phase}_bound_s"}
    return found or ({"all": row[f"{phase}_bound_s"]} if row.get(f"{phase}_bound_s") else {})
