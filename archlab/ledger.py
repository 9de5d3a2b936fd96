"""Walks a spec once and collects its rows, sized: each distinct block once, with how often and where it stands.

Analyzers are folds over a ledger. They know rows, not blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archlab.algebra import Number, floor_div, is_scalar, minimum, product
from archlab.rows import Op, Operand, Rows, Sizes, State, Weight, extent
from archlab.spec import ModelSpec, Workload


@dataclass(frozen=True, slots=True)
class Entry:
    """A block in its place: `count` times, in layers `indices` (None: unknown, or not in a layer)."""

    path: str
    kind: str  # kind of layer, "" outside the layers
    part: str
    stack: str  # decoder | encoder | vision | audio
    count: Number
    indices: tuple[int, ...] | None
    sizes: Sizes
    rows: Rows
    in_tower: bool = False
    may_rest: bool = False  # an encoder's or a tower's: after the first step nothing of it runs

    def numel(self, row: Weight | State) -> Number:
        """Elements of one copy of a weight, or of one slot of one sequence of a state."""
        return product([self.sizes[a] for a in row.axes])

    def part_of(self, weight: Weight) -> str:
        """Where a weight is counted: in a tower, all of it in one place."""
        return self.part if self.in_tower else weight.part or self.part

    def read_weights(self, op: Op) -> Iterator[tuple[Weight, Number]]:
        """(weight, elements read) of one run of an op.

        A lookup reads the rows that it returns, not the table; a mixture the experts that its tokens touch; an op
        that makes nothing (an encoder after the first step) reads nothing.
        """
        for operand in op.line.weights:
            weight = self.rows.weights[operand.name]
            made = extent(op.line.outputs[0].axes, self.sizes)
            if op.kind == "lookup":
                yield weight, made
            elif weight.routed is not None:
                touched = experts_touched(*weight.routed, self.sizes["B"] * self.sizes["T"])
                yield weight, floor_div(self.numel(weight), weight.routed[1]) * touched
            elif not (self.may_rest or op.line.may_rest):
                yield weight, extent(operand.axes, self.sizes)
            else:
                yield weight, extent(operand.axes, self.sizes) * minimum(1, made)

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
    """Collects the rows. Without a workload, operations are listed but cannot be sized.

    Raises SpecError for a workload that the model cannot be given.
    """
    if work is not None:
        spec.admit(work)
    return Ledger(spec, work, tuple(_entries(spec, work)))


def _entries(spec: ModelSpec, work: Workload | None) -> Iterator[Entry]:
    for stack in spec.stacks:
        frame = None if work is None else work.frame(stack)
        for path, block, layer in stack.blocks():
            sizes = block.sizes() if frame is None else block.sizes() | block.bind(frame)
            part = stack.part if stack.part is not None and not block.own_part else block.part
            kind, count, indices = ("", 1, None) if layer is None else (layer.kind, layer.count, layer.indices)
            tower, rests = stack.part is not None, stack.reads != "tokens"
            yield Entry(stack.prefix + path, kind, part, stack.name, count, indices, sizes, block.rows, tower, rests)


def experts_touched(top_k: Number, experts: Number, tokens: Number) -> Number:
    """Distinct experts that so many tokens reach between them, each top_k of them chosen evenly: E(1 - (1 - k/E)^n).

    The expectation of a router without preferences; one with them touches fewer.
    """
    return top_k if is_scalar(tokens) and tokens == 1 else experts * (1 - (1 - top_k / experts) ** tokens)
