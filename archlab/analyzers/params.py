"""How many parameters, and where. A tied table counts once."""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number, floor_div, octets
from archlab.ledger import Entry, Ledger, ledger
from archlab.rows import Weight
from archlab.spec import ModelSpec, Precision

PARTS = ("embedding", "attention", "mlp", "norm", "head")
"""The order in which people read parts."""


@dataclass(frozen=True)
class Params:
    """Parameters (exact ints for a plain spec). `by_role` splits a part: ('attention', 'q') -> count."""

    total: Number
    by_part: dict[str, Number]
    by_role: dict[tuple[str, str], Number]
    active: Number  # touched by one token: the total, less the experts that it does not reach


def params(spec: ModelSpec) -> Params:
    """Counts parameters from the weights that the blocks declare."""
    rows = ledger(spec)
    by_part: dict[str, Number] = {}
    by_role: dict[tuple[str, str], Number] = {}
    active: Number = 0
    for entry, weight, count in stored(rows):
        part = entry.part_of(weight)
        by_part[part] = by_part.get(part, 0) + count
        by_role[part, weight.role] = by_role.get((part, weight.role), 0) + count
        active = active + (count if weight.routed is None else floor_div(count * weight.routed[0], weight.routed[1]))
    ordered = {p: by_part[p] for p in sorted(by_part, key=_reading_order)}
    return Params(sum(ordered.values()), ordered, by_role, active)


def weight_bytes(spec: ModelSpec, precision: Precision) -> Number:
    """Bytes of all stored weights at a precision."""
    return octets(sum(count * precision.bits(weight) for _, weight, count in stored(ledger(spec))))


def stored(rows: Ledger) -> list[tuple[Entry, Weight, Number]]:
    """(entry, weight, elements over all layers) of each weight that has storage of its own."""
    return [
        (entry, weight, entry.numel(weight) * entry.count)
        for entry in rows.entries
        for weight in entry.rows.weights.values()
        if weight.tied is None and weight.trainable
    ]


def _reading_order(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)
