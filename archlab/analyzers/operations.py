"""What bounds each kind of operation of a pass: its FLOPs, its bytes and its seconds, as a roofline shows them.

The rows and the bound are those of latency, so the kinds add up to its bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from archlab.algebra import Number, is_scalar
from archlab.analyzers.kernels import op_bytes
from archlab.analyzers.latency import bound
from archlab.hardware import Hardware
from archlab.ledger import Entry, Ledger
from archlab.precision import Precision
from archlab.rows import Op

PROJECTIONS, SCORES, BESIDE = "projections", "scores", "beside"
"""Attention's products with weights, those of queries, keys and values, and what is no product at all."""


@dataclass(frozen=True)
class Operation:
    """All operations of a kind in one pass: exact FLOPs, bytes of weights and state, and the bound in seconds."""

    name: str
    flops: Number
    bytes: Number
    seconds: Number


def operations(rows: Ledger, hardware: Hardware, precision: Precision) -> list[Operation]:
    """Each kind of operation of a pass, in the order in which they first run; kinds without FLOPs and bytes left out.

    Raises SpecError where the device has no rate for the format.
    """
    names = dict.fromkeys(_kind(entry, op) for entry in rows.entries for op in entry.rows.ops)
    found = [_operation(name, _only(rows, name), hardware, precision) for name in names]
    return [x for x in found if not all(is_scalar(n) and n == 0 for n in (x.flops, x.bytes))]


def whole(rows: Ledger, hardware: Hardware, precision: Precision) -> Operation:
    """All operations of a pass as one."""
    return _operation("step", rows, hardware, precision)


def _kind(entry: Entry, op: Op) -> str:
    """What it counts as: attention apart by what it multiplies and how far its keys reach, the rest by part."""
    if op.kind != "matmul":
        return BESIDE
    if entry.stack == "encoder":
        return entry.stack
    if entry.part != "attention":
        return entry.part
    if op.line.weights:
        return PROJECTIONS
    reach = [entry.rows.states[read.name].part for read in op.line.states_read]
    return "_".join([SCORES, *reach])


def _only(rows: Ledger, name: str) -> Ledger:
    """The same blocks and weights with the operations of one kind alone."""
    return replace(rows, entries=tuple(_entry_only(entry, name) for entry in rows.entries))


def _entry_only(entry: Entry, name: str) -> Entry:
    ops = tuple(op for op in entry.rows.ops if _kind(entry, op) == name)
    return replace(entry, rows=replace(entry.rows, ops=ops))


def _operation(name: str, rows: Ledger, hardware: Hardware, precision: Precision) -> Operation:
    every = [(entry, op) for entry in rows.entries for op in entry.rows.ops]
    return Operation(
        name,
        flops=sum(op.flops(entry.sizes) * entry.count for entry, op in every),
        bytes=sum(op_bytes(rows, entry, op, precision) * entry.count for entry, op in every),
        seconds=bound(rows, hardware, precision).seconds,
    )
