"""Walks a spec once and collects its rows, sized: each distinct block once, with how often and where it stands.

Analyzers are folds over a ledger. They know rows, not blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archlab.algebra import Number, product
from archlab.rows import Op, Operand, Rows, Sizes, State, Weight, extent
from archlab.spec import Block, ModelSpec, Workload


@dataclass(frozen=True, slots=True)
class Entry:
    """A block in its place: `count` times, in layers `indices` (None: unknown, or not in a layer)."""

    path: str
    kind: str  # kind of layer, "" outside the layers
    part: str
    count: Number
    indices: tuple[int, ...] | None
    sizes: Sizes
    rows: Rows

    def numel(self, row: Weight | State) -> Number:
        """Elements of one copy of a weight, or of one slot of one sequence of a state."""
        return product([self.sizes[a] for a in row.axes])

    def part_of(self, weight: Weight) -> str:
        """Where a weight is counted."""
        return weight.part or self.part

    def read_weights(self, op: Op) -> Iterator[tuple[Weight, Number]]:
        """(weight, elements read) of one run of an op: a lookup reads the rows that it returns, not the table."""
        for operand in op.line.weights:
            weight = self.rows.weights[operand.name]
            if op.kind == "lookup":
                yield weight, extent(op.line.outputs[0].axes, self.sizes)
            else:
                yield weight, extent(operand.axes, self.sizes)

    def touched_states(self, operands: tuple[Operand, ...]) -> Iterator[tuple[State, Number]]:
        """(state, elements) of the state operands read or written."""
        for operand in operands:
            yield self.rows.states[operand.name], extent(operand.axes, self.sizes)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of a model, and of a workload on it where one is given."""

    spec: ModelSpec
    work: Workload | None
    entries: tuple[Entry, ...]


def ledger(spec: ModelSpec, work: Workload | None = None) -> Ledger:
    """Collects the rows. Without a workload, operations are listed but cannot be sized."""
    return Ledger(spec, work, tuple(_entries(spec, work)))


def _entries(spec: ModelSpec, work: Workload | None) -> Iterator[Entry]:
    stack = spec.decoder
    yield _entry("embedding", stack.embedding, work)
    for layer in stack.layers:
        for path, block in layer.blocks():
            yield _entry(path, block, work, layer.kind, layer.count, layer.indices)
    for path, block in stack.head:
        yield _entry(path, block, work)


def _entry(
    path: str,
    block: Block,
    work: Workload | None,
    kind: str = "",
    count: Number = 1,
    indices: tuple[int, ...] | None = None,
) -> Entry:
    sizes = block.sizes() if work is None else block.sizes() | block.bind(work)
    return Entry(path, kind, block.part, count, indices, sizes, block.rows)
