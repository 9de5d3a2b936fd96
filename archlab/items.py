"""An item of a memory ledger: bytes, with the formula and the source that they come from."""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number

CALCULATED, ESTIMATE, MEASURED, ASSUMED = "calculated", "estimate", "measured", "assumed"
"""What a number is worth: exact from the model; an estimate from its rows; someone's measurement; a plain guess."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the ledger.

    part     weights | kv_cache | activations | runtime | gradients | optimizer
    kind     what of that part: global, local, mlp ...
    formula  how the bytes were had, in words and numbers
    source   where the rule or the number comes from
    basis    calculated | estimate | measured | assumed
    on       device | host
    """

    part: str
    kind: str
    bytes: Number
    formula: str
    source: str
    basis: str = CALCULATED
    on: str = "device"


def by_part(items: tuple[Item, ...]) -> dict[str, Number]:
    """Bytes of each part, in the order in which they come."""
    found: dict[str, Number] = {}
    for item in items:
        found[item.part] = found.get(item.part, 0) + item.bytes
    return found


def by_kind(items: tuple[Item, ...]) -> dict[str, Number]:
    """Bytes of each kind, in the order in which they come."""
    found: dict[str, Number] = {}
    for item in items:
        found[item.kind] = found.get(item.kind, 0) + item.bytes
    return found
