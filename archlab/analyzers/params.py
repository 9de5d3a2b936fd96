"""How many parameters, and where. A tied table counts once."""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number, floor_div, octets
from archlab.ledger import ledger, own_weights, stored
from archlab.precision import Precision
from archlab.shown import Shown
from archlab.spec import ModelSpec

PARTS = (
    "embedding", "per_layer", "attention", "cross_attention", "recurrent", "mlp", "moe", "altup", "laurel", "norm",
    "head", "vision", "audio", "projector",
)  # fmt: skip
"""The order in which people read parts."""


@dataclass(frozen=True)
class Params(Shown):
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
    """Counts parameters from the weights that the blocks declare: exact ints, or columns for a spec of columns.

    A tied table counts once, buffers and weights that nothing reads only in `checkpoint`. Nothing is raised: a spec
    that `load` returned can be counted.
    """
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
            reached = count
            if weight.routed is not None:
                chosen, experts = (entry.sizes[letter] for letter in weight.routed)
                reached = floor_div(count * chosen, experts)
            active = active + reached
            effective = effective + (0 if weight.on_host else count)
    ordered = {p: by_part[p] for p in sorted(by_part, key=_reading_order)}
    total = sum(ordered.values())
    beside = sum(entry.numel(w) * entry.count for entry, w in own_weights(rows) if not w.is_parameter)
    return Params(total, ordered, by_role, by_stack, active, effective, total + beside)


def weight_bytes(spec: ModelSpec, precision: Precision) -> Number:
    """Bytes of all stored weights at a precision."""
    rows = ledger(spec)
    return octets(sum(precision.weight_bits(rows, entry, weight) for entry, weight, _ in stored(rows)))


def _reading_order(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)
