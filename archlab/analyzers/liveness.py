"""What one block takes in memory while it runs, and what autograd keeps of it: a walk over its lines.

A value that a line makes stands until the last line that reads it. A name that is made anew is another value; a line
without work is a view. Beside the values stands what an op says that it holds (`rows.Op`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archlab.algebra import Number, floor_div, maximum, minimum
from archlab.ledger import Entry
from archlab.rows import Op, Operand, Value, extent

FP32 = 4
"""Bytes."""


@dataclass(frozen=True)
class How:
    """Bytes of an activation, and how the step is run."""

    width: int
    fused: bool
    train: bool
    checkpointing: str = "none"
    known: dict[tuple[str, int], Needs] = field(default_factory=dict, compare=False, repr=False)


@dataclass(eq=False)
class Tensor:
    """A value of a block: its elements, bytes each, and whether the block was given it."""

    elements: Number
    width: int
    given: str | None = None

    @property
    def bytes(self) -> Number:
        """All of it."""
        return self.elements * self.width


@dataclass(frozen=True)
class Needs:
    """Bytes that a block needs beside what it was given.

    forward   at its fullest moment; made is what it leaves
    saved     by autograd, in training; `scores` of them on the chip in a fused attention
    backward  at the fullest moment of its backward pass, beside what it saved; 0 without training
    shared    made once a pass for all layers alike: what it is -> bytes
    lasting   what it makes that stands until the pass ends
    weights   bytes of the gradients of its own weights; `tied` of those that wait for another's
    """

    forward: Number
    made: Number
    saved: Number
    scores: Number
    backward: Number
    shared: Mapping[Value, Number]
    lasting: Number
    weights: Number
    tied: Number


@dataclass
class _Step:
    """An op with the values that it reads and makes."""

    op: Op
    reads: dict[str, Tensor]
    makes: dict[str, Tensor]
    hidden: bool  # in a fused attention
    fresh: list[Tensor] = field(default_factory=list)

    def named(self, name: str) -> Tensor:
        """A value that it reads, or makes."""
        return self.reads.get(name) or self.makes[name]


def needs_once(entry: Entry, how: How) -> Needs:
    """The same for all entries of a stack that have the same rows, as all its norms do: computed once."""
    key = entry.stack, id(entry.rows)
    if key not in how.known:
        how.known[key] = needs(entry, how)
    return how.known[key]


def needs(entry: Entry, how: How) -> Needs:
    """What the block of an entry needs: a walk over its ops."""
    steps = [*_resolved(entry, how)]
    last = {id(tensor): i for i, step in enumerate(steps) for tensor in (*step.reads.values(), *step.fresh)}
    if steps:
        last |= {id(tensor): len(steps) for tensor in steps[-1].makes.values()}
    live: Number = 0
    forward: Number = 0
    backward: Number = 0
    alive: list[Tensor] = []
    for i, step in enumerate(steps):
        made = sum(t.bytes for t in step.fresh)
        held = _held(step, entry, how)
        forward = maximum(forward, live + maximum(held, made))
        if how.train:
            read = sum(t.bytes for t in step.reads.values())
            backward = maximum(backward, sum(t.bytes for t in step.makes.values()) + maximum(held, read))
        alive = [t for t in (*alive, *step.fresh) if last[id(t)] > i]
        live = sum(t.bytes for t in alive)
    saved, scores = _saved(steps, entry, how) if how.train else (0, 0)
    own = [w for w in entry.rows.weights.values() if w.trainable and w.use not in ("unread", "counted")]
    return Needs(
        forward, live, saved, scores, backward,
        shared={v: _size(v, step, entry, how) for step in steps if not step.hidden for v in step.op.shares},
        lasting=sum(t.bytes for step in steps if step.op.lasts for t in step.makes.values()),
        weights=sum(entry.numel(w) for w in own if w.tied is None) * how.width,
        tied=sum(entry.numel(w) for w in own if w.tied is not None) * how.width,
    )  # fmt: skip


def _resolved(entry: Entry, how: How) -> Iterator[_Step]:
    """The ops with their values: a name that is made anew is another value, a view is the same."""
    now: dict[str, Tensor] = {}
    for op in entry.rows.ops:
        reads: dict[str, Tensor] = {}
        for operand in op.line.inputs:
            key = _key(operand)
            if operand.place != "w" and key not in now:
                seen = 0 if operand.place == "cache" else how.width  # a state is the cache's
                now[key] = Tensor(_elements(operand, entry, how), seen, given=key)
            if operand.place != "w":
                reads[operand.name] = now[key]
        hidden = how.fused and any(o.on_chip for o in (*op.line.inputs, *op.line.outputs))
        step = _Step(op, reads, {}, hidden)
        for operand in op.line.outputs:
            tensor = _made(op, operand, reads, entry, how)
            now[_key(operand)] = step.makes[operand.name] = tensor
            if tensor not in reads.values():
                step.fresh.append(tensor)
        yield step


def _key(operand: Operand) -> str:
    return f"cache.{operand.name}" if operand.place == "cache" else operand.name


def _elements(operand: Operand, entry: Entry, how: How) -> Number:
    """Dense: rectangles of scores. Experts run one after another: where nothing is saved, one's share stands."""
    elements = extent(operand.axes, entry.sizes, dense=True)
    return _turn(elements, operand.axes, entry, how)


def _turn(elements: Number, axes: tuple[str, ...], entry: Entry, how: How) -> Number:
    if how.train or "Y" not in axes or "X" not in entry.sizes:
        return elements
    return floor_div(elements, minimum(entry.sizes["X"], elements))


def _made(op: Op, operand: Operand, reads: Mapping[str, Tensor], entry: Entry, how: How) -> Tensor:
    """The value of an output: a view of an input, the cache's own, or a new one."""
    first = next(iter(reads.values()), None)
    if operand.place == "cache":
        return _cached(operand, first, entry, how)
    if op.kind == "vector" and op.per == 0 and first is not None and op.line.inputs[0].axes == operand.axes:
        return first
    on_chip = how.fused and operand.on_chip
    return Tensor(_elements(operand, entry, how), 0 if on_chip else FP32 if op.wide else how.width)


def _cached(operand: Operand, fresh: Tensor | None, entry: Entry, how: How) -> Tensor:
    """What is read of a state after the new tokens were written: themselves where nothing is remembered (training), the
    cache itself, or a copy of a ring, with the tokens in order.
    """
    if how.train and fresh is not None:
        return fresh
    if entry.rows.states[operand.name].capacity != "window":
        return Tensor(0, 0)
    for op in entry.rows.ops:
        for reader in op.line.states_read:
            if reader.name == operand.name:
                return Tensor(extent(reader.axes, entry.sizes, dense=True), how.width)
    return Tensor(0, 0)


def _held(step: _Step, entry: Entry, how: How) -> Number:
    """What an op holds at its fullest moment. A ring is read before its new tokens are put behind what was there."""
    if step.op.kind == "append":
        fresh = sum(tensor.elements for tensor in step.reads.values())
        return sum((2 * ring.elements - fresh) * ring.width for ring in step.fresh if ring.width)
    return 0 if step.hidden else sum(_size(value, step, entry, how) for value in step.op.holds)


def _size(value: Value, step: _Step, entry: Entry, how: How) -> Number:
    """Bytes of a value of an op."""
    if value.axes:
        some = 1 if "B" in value.axes else minimum(1, entry.sizes["B"])  # no sequences, no mask
        elements = _turn(extent(value.axes, entry.sizes, dense=True), value.axes, entry, how) * some
    elif value.operand is not None:
        elements = step.named(value.operand).elements
    else:
        elements = next(iter(step.makes.values())).elements
    widths = {"own": how.width, "same": how.width, "fp32": FP32, "byte": 1, "wide": FP32 if how.width < FP32 else 0}
    if value.kind == "repeat":
        return elements * how.width * minimum(1, entry.sizes["B"] - 1)
    return elements * widths[value.kind]


def _saved(steps: Sequence[_Step], entry: Entry, how: How) -> tuple[Number, Number]:
    """(bytes that autograd saves, how much of it on the chip in a fused attention), each value once."""
    found: dict[object, Number] = {}
    chip: dict[object, bool] = {}
    for i, step in enumerate(steps):
        inside = any(o.on_chip for o in (*step.op.line.inputs, *step.op.line.outputs))
        if step.op.kind == "matmul":
            for operand in step.op.line.inputs:
                if operand.place != "w":
                    tensor = step.reads[operand.name]
                    found[id(tensor)], chip[id(tensor)] = tensor.bytes * _counts(tensor), operand.on_chip
        for j, value in enumerate(() if step.hidden else step.op.saves):
            key: object = (i, j)
            n = _size(value, step, entry, how)
            if value.kind == "same" or (value.kind == "wide" and how.width == FP32):
                tensor = step.named(value.operand or "")
                key, n = id(tensor), tensor.bytes * _counts(tensor)
            found[key], chip[key] = n, chip.get(key, inside)
    return sum(found.values()), sum(n for key, n in found.items() if chip[key])


def _counts(tensor: Tensor) -> int:
    """What a block reads as x was made for it; whatever else it is given stands for the whole pass."""
    return int(tensor.given in (None, "x"))


def given_bytes(entry: Entry, how: How) -> Number:
    """Bytes of the x that a block reads; 0 of one that reads none."""
    for op in entry.rows.ops:
        for operand in op.line.inputs:
            if operand.name == "x" and not operand.place:
                return extent(operand.axes, entry.sizes, dense=True) * how.width
    return 0
