"""Weights, cache and what comes on top of them, stacked, beside the memory of the devices."""

from __future__ import annotations

from collections.abc import Mapping

from archlab.report import fits, metrics, words
from archlab.report.charts import bars, choices
from archlab.report.parts import CALCULATED, ESTIMATE, Card, Figure
from archlab.report.points import Cast, Point

PARTS = {
    "weights": "weights_bytes", "global": "kv_global_bytes", "local": "kv_local_bytes",
    "recurrent": "kv_recurrent_bytes", "source": "kv_source_bytes", "padding": "kv_padding_bytes",
    "activations": "memory_activations_bytes", "runtime": "memory_runtime_bytes",
}  # fmt: skip
SAID = {
    "weights": "weights",
    "global": "cache of global layers",
    "local": "cache of sliding layers",
    "recurrent": "states of recurrent layers",
    "source": "cache of the encoder's output",
    "padding": "padding of the cache",
    "activations": "activations",
    "runtime": "what the process takes besides",
}


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no weights or no cache in bytes."""
    stacks = choices.variants(cast.run, False, lambda at: _stack(cast, at))
    if not stacks:
        return None
    whole = fits.known(cast.run)
    what = "Weights, KV cache, activations and runtime" if whole else "Weights and KV cache"
    about = f"{what} in GiB stacked, one bar for each point; the numbers are in the table below."
    drawings = {key: bars.stacked(stack, _rules(cast, stack)) for key, stack in stacks.items()}
    seen = list(dict.fromkeys(part for stack in stacks.values() for part in stack.seen()))
    said = choices.names(cast.run, False)
    caption = "What has to lie in memory" + (", the cache full." if whole else " at the least, the cache full.")
    notes = f"Weights and cache are calculated, the rest an estimate{_on(cast)}." if whole else (
        "Activations and what an engine sets aside come on top.")  # fmt: skip
    return Card(
        "Memory by part" if whole else "Weights and cache together", (CALCULATED, *[ESTIMATE] * whole), caption,
        figures=(Figure("memory", "", about, drawings),), switches=choices.switches(cast.run, False, stacks),
        legend=bars.legend(seen, SAID),
        numbers=bars.numbers("memory-numbers", "Memory by part", {said[k]: v for k, v in stacks.items()}),
        notes=(f"{notes} {_rule_note(cast)}".strip(),),
    )  # fmt: skip


def _on(cast: Cast) -> str:
    """Where what a process takes depends on the device."""
    many = len(metrics.devices(cast.run)) > 1 and metrics.engines(cast.run) != ["ideal"]
    return f", as on {metrics.device_title(cast.run, metrics.roomiest(cast.run)[0])}" if many else ""


def _stack(cast: Cast, at: choices.At) -> bars.Stack | None:
    values = {p: parts for p in cast.ok if (parts := _parts(cast, p, at))}
    if not values:
        return None
    scale = words.gib(sum(parts.values()) for parts in values.values())
    title = f"GiB at {metrics.work_words(cast.run, at.get('workload'))}"
    return bars.Stack(values, scale, title, CALCULATED, lambda p, total: scale.full(total))


def _parts(cast: Cast, point: Point, at: choices.At) -> Mapping[str, float]:
    on = {**at, "hardware": next(iter(metrics.roomiest(cast.run)), None)}
    row = cast.run.row(point.name, status="ok", **on) or cast.run.row(point.name, status="ok", **at) or {}
    found = {part: row.get(column) or 0 for part, column in PARTS.items()}
    if row.get("memory_weights_bytes") is not None:  # what lies in the host's memory is not on the device
        found["weights"] = row["memory_weights_bytes"]
    return found if row.get("kv_cache_bytes") is not None and found["weights"] else {}


def _rules(cast: Cast, stack: bars.Stack) -> list[tuple[str, float]]:
    """Up to three devices that the bars reach or nearly reach, their labels apart."""
    most = max(stack.total(p) for p in stack.values)
    reach = [(size, title) for size, title in metrics.rooms(cast.run) if size < most * 2]
    chosen: list[tuple[str, float]] = []
    for size, title in reach:
        room = 0.008 * (len(title) + 3) * max(size for size, _ in reach)
        if size - (chosen[-1][1] if chosen else 0) > room:
            chosen.append((title, size))
    return chosen[:3]


def _rule_note(cast: Cast) -> str:
    return "A dotted rule is what a program can have of a device's memory." if cast.run.meta["hardware"] else ""
