"""Walks a spec once and collects its rows, sized: each distinct block once, with how often and where it stands.

Analyzers are folds over a ledger. They know rows, not blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archlab.algebra import Number, ceil_div, floor_div, is_scalar, minimum, product
from archlab.rows import Op, Operand, Rows, Sizes, State, Weight, extent
from archlab.spec import ModelSpec
from archlab.workload import Workload


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
    context_shards: Number = 1  # ranks that share the slots of states that grow with the context

    def numel(self, row: Weight | State) -> Number:
        """Elements of one copy of a weight, or of one slot of one sequence of a state."""
        return product([self.sizes[a] for a in row.axes])

    def slots(self, state: State, context: Number, source: Number = 0) -> Number:
        """Slots that a sequence of `context` tokens takes here: of a context shared among ranks, one rank's part."""
        return self._share(state, state.slots(context, source))

    def _share(self, state: State, n: Number) -> Number:
        alone = is_scalar(self.context_shards) and self.context_shards == 1
        return n if alone or state.capacity != "context" else ceil_div(n, self.context_shards)

    def row_length(self, weight: Weight) -> Number:
        """Elements of one row of a weight as a matrix: the number of its inputs."""
        return product([self.sizes[a] for a in self.rows.row_axes(weight.name)])

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
                chosen, experts = (self.sizes[letter] for letter in weight.routed)
                touched = experts_touched(chosen, experts, self.sizes["B"] * self.sizes["T"])
                yield weight, floor_div(self.numel(weight), experts) * touched
            elif not (self.may_rest or op.line.may_rest):
                yield weight, extent(operand.axes, self.sizes)
            else:
                yield weight, extent(operand.axes, self.sizes) * minimum(1, made)

    def touched_states(self, operands: tuple[Operand, ...]) -> Iterator[tuple[State, Number]]:
        """(state, elements) of the state operands read or written."""
        for operand in operands:
            state = self.rows.states[operand.name]
            yield state, self._share(state, extent(operand.axes, self.sizes))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The rows of a model, and of a workload on it where one is given; or one rank's, with `whole` the model's."""

    spec: ModelSpec
    work: Workload | None
    entries: tuple[Entry, ...]
    whole: Ledger | None = None

    def positions(self, stack: str, role: str) -> dict[int, int]:
        """Layer -> how many layers of the whole model's stack before it have a weight of that role."""
        having = {
            index
            for entry in (self.whole or self).entries
            if entry.stack == stack and entry.indices is not None
            for weight in entry.rows.weights.values()
            if weight.role == role and weight.use != "vector"
            for index in entry.indices
        }
        return {index: position for position, index in enumerate(sorted(having))}


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

    The expectation of a router without preferences; one with them touches fewer. All of them where a rank's tokens go
    to as many as it has.
    """
    top_k = minimum(top_k, experts)
    return top_k if is_scalar(tokens) and tokens == 1 else experts * (1 - (1 - top_k / experts) ** tokens)


def stored(rows: Ledger) -> list[tuple[Entry, Weight, Number]]:
    """(entry, weight, elements over all layers) of each parameter that has storage of its own."""
    return [(entry, w, entry.numel(w) * entry.count) for entry, w in own_weights(rows) if w.is_parameter]


def own_weights(rows: Ledger) -> Iterator[tuple[Entry, Weight]]:
    """Weights that are not another's storage: parameters, buffers, and those that nothing reads."""
    for entry in rows.entries:
        for weight in entry.rows.weights.values():
            if weight.tied is None:
                yield entry, weight
