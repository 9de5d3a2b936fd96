"""How many parameters, and where. A tied table counts once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archlab.algebra import Number, floor_div, octets
from archlab.ledger import Entry, Ledger, ledger
from archlab.rows import Weight
from archlab.spec import ModelSpec, Precision

PARTS = (
    "embedding", "per_layer", "attention", "cross_attention", "recurrent", "mlp", "moe", "altup", "laurel", "norm",
    "head", "vision", "audio", "projector",
)  # fmt: skip
"""The order in which people read parts."""


@dataclass(frozen=True)
class Params:
    """Parameters (exact ints for a plain spec). `by_role` splits a part: ('attention', 'q') -> count.

    by_stack   decoder, encoder, vision, audio -> its parameters by part
    active     touched by one token of text: the total less towers and projectors, and less the experts not reached
    effective  the decoder without the table of per-layer embeddings, which may stay on the host: the E of Gemma 4's
               names (3n's "effective" leaves the token table out too: `effective` less `by_part["embedding"]`)
    checkpoint elements in the released file: the total, buffers, and weights that nothing reads
    """

    total: Number
    by_part: dict[str, Number]
    by_role: dict[tuple[str, str], Number]
    by_stack: dict[str, dict[str, Number]]
    active: Number
    effective: Number
    checkpoint: Number


def params(spec: ModelSpec) -> Params:
    """Counts parameters from the weights that the blocks declare."""
    rows = ledger(spec)
    by_part: dict[str, Number] = {}
    by_role: dict[tuple[str, str], Number] = {}
    by_stack: dict[str, dict[str, Number]] = {}
    active: Number = 0
    effective: Number = 0
    for entry, weight, count in stored(rows):
        part = entry.part_of(weight)
        by_part[part] = by_part.get(part, 0) + count
        by_role[part, weight.role] = by_role.get((part, weight.role), 0) + count
        inside = by_stack.setdefault(entry.stack, {})
        inside[part] = inside.get(part, 0) + count
        if not entry.in_tower:
            reached = count if weight.routed is None else floor_div(count * weight.routed[0], weight.routed[1])
            active = active + reached
            effective = effective + (0 if weight.on_host else count)
    ordered = {p: by_part[p] for p in sorted(by_part, key=_reading_order)}
    total = sum(ordered.values())
    beside = sum(entry.numel(w) * entry.count for entry, w in _all_weights(rows) if not _counts(w))
    return Params(total, ordered, by_role, by_stack, active, effective, total + beside)


def weight_bytes(spec: ModelSpec, precision: Precision) -> Number:
    """Bytes of all stored weights at a precision."""
    return octets(sum(count * precision.bits(weight) for _, weight, count in stored(ledger(spec))))


def stored(rows: Ledger) -> list[tuple[Entry, Weight, Number]]:
    """(entry, weight, elements over all layers) of each parameter that has storage of its own."""
    return [(entry, w, entry.numel(w) * entry.count) for entry, w in _all_weights(rows) if _counts(w)]


def _all_weights(rows: Ledger) -> Iterator[tuple[Entry, Weight]]:
    for entry in rows.entries:
        for weight in entry.rows.weights.values():
            if weight.tied is None:
                yield entry, weight


def _counts(weight: Weight) -> bool:
    """Whether it is a parameter: buffers and weights that nothing reads are not."""
    return weight.trainable and weight.use != "unread"


def _reading_order(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)
