"""Weights and cache on top of one another, beside the memory of the devices."""

from __future__ import annotations

from collections.abc import Mapping

from archlab.report import metrics, words
from archlab.report.charts import bars, choices
from archlab.report.parts import CALCULATED, Card, Figure
from archlab.report.points import Cast, Point

PARTS = {
    "weights": "weights_bytes", "global": "kv_global_bytes", "local": "kv_local_bytes",
    "recurrent": "kv_recurrent_bytes", "source": "kv_source_bytes",
}  # fmt: skip
SAID = {
    "weights": "weights",
    "global": "cache of global layers",
    "local": "cache of sliding layers",
    "recurrent": "states of recurrent layers",
    "source": "cache of the encoder's output",
}


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no weights or no cache in bytes."""
    stacks = choices.variants(cast.run, False, lambda at: _stack(cast, at))
    if not stacks:
        return None
    about = "Weights and KV cache in GiB stacked, one bar for each point; the numbers are in the table below."
    drawings = {key: bars.stacked(stack, _rules(cast, stack)) for key, stack in stacks.items()}
    seen = list(dict.fromkeys(part for stack in stacks.values() for part in stack.seen()))
    said = choices.names(cast.run, False)
    return Card(
        "Weights and cache together", (CALCULATED,), "What has to lie in memory at the least, the cache full.",
        figures=(Figure("memory", "", about, drawings),), switches=choices.switches(cast.run, False, stacks),
        legend=bars.legend(seen, SAID),
        numbers=bars.numbers("memory-numbers", "Weights and cache", {said[k]: v for k, v in stacks.items()}),
        notes=("Activations and what an engine sets aside come on top. " + _rule_note(cast),),
    )  # fmt: skip


def _stack(cast: Cast, at: choices.At) -> bars.Stack | None:
    values = {p: parts for p in cast.ok if (parts := _parts(cast, p, at))}
    if not values:
        return None
    scale = words.gib(sum(parts.values()) for parts in values.values())
    title = f"GiB at {metrics.work_words(cast.run, at.get('workload'))}"
    return bars.Stack(values, scale, title, CALCULATED, lambda p, total: scale.full(total))


def _parts(cast: Cast, point: Point, at: choices.At) -> Mapping[str, float]:
    found = {part: cast.run.value(point.name, column, **at) or 0 for part, column in PARTS.items()}
    cache = cast.run.value(point.name, "kv_cache_bytes", **at)
    if cache is None or not found["weights"]:
        return {}
    return found


def _rules(cast: Cast, stack: bars.Stack) -> list[tuple[str, float]]:
    """Up to three devices that the bars reach or nearly reach, their labels apart."""
    most = max(stack.total(p) for p in stack.values)
    known = sorted(
        {
            (d["memory_bytes"], d.get("title") or n)
            for n, d in cast.run.meta["hardware"].items()
            if d.get("memory_bytes")
        }
    )
    reach = [(size, title) for size, title in known if size < most * 2]
    chosen: list[tuple[str, float]] = []
    for size, title in reach:
        room = 0.008 * (len(title) + 3) * max(size for size, _ in reach)
        if size - (chosen[-1][1] if chosen else 0) > room:
            chosen.append((title, size))
    return chosen[:3]


def _rule_note(cast: Cast) -> str:
    return "A dotted rule is the memory that a device's driver reports." if cast.run.meta["hardware"] else ""
