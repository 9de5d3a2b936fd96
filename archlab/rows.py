"""The waist: what a block stores, remembers and does. Analyzers see these rows and nothing else.

Rows are written in axis letters (the legend is in `algebra`); a block binds the letters to sizes once, for its
weights, its state and its operations alike.

An operation is a line such as

    q BTKGH, cache.k BUKH -> ~s BKG(TU)

Each operand is a name and its axes. `w.` reads a weight, `cache.` reads or writes a state; `~` marks what never
leaves the chip in a fused attention. `(TU)` is a pair axis: its exact size is the number of (token, key) pairs
that the mask keeps, its dense size T x U. From the line follow exact and dense FLOPs, the weights and the state
that are read, the state that is written, and the size of what is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from archlab.algebra import Number, minimum, product

EMPTY = "Q"
"""Axes that may have no points in a step (new tokens of a source): an op over them then does nothing, reads nothing."""

DATA = ("pixels", "ids")
"""Operands that are given to the model: no gradient is wanted of them."""

Sizes = Mapping[str, Number]
"""Axis letter -> size. A pair axis is bound under both letters: sizes["TU"]."""


@dataclass(frozen=True, slots=True)
class Split:
    """How parallelism divides an axis. What has no such axis is stored whole on each rank.

    how     even      tp equal shares
            heads     tp equal shares, of one head at least: beyond that each is stored several times
            padded    tp equal shares of the rows, rounded up to whole blocks first
            experts   ep equal shares | width: what ep leaves of tp divides each expert's width
            chosen    on average min(tp, ep) equal shares of the experts that a token goes to
            quotient  not divided itself: the first of the two letters of `what` over the second
    what    the axis in words, for sentences
    """

    how: str
    what: str


def divided(**letters: str) -> Mapping[str, Split]:
    """Letters and how each is divided: N="even n_heads"."""
    return {letter: Split(*text.split()) for letter, text in letters.items()}


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor that the block stores.

    role    what precision and sharding rules look at: q, k, v, o, gate, up, down, norm, embedding, head ...
    part    where it is counted, when that is not the block's own part (a QK-norm's gain counts as norm)
    use     matmul | lookup | vector | unread (released files carry K/V weights that no layer reads: in the file, in
            no count) | counted (a tower known by its number of parameters: in the count, in no module)
    routed  (Y, Z): letters; a token touches Y of the Z slices of the first axis (experts)
    tied    path of the weight whose storage this one shares; it counts no storage of its own
    """

    name: str
    axes: str
    role: str
    part: str | None = None
    use: str = "matmul"
    routed: tuple[str, str] | None = None
    tied: str | None = None
    trainable: bool = True
    on_host: bool = False

    @property
    def is_parameter(self) -> bool:
        """Whether it is one: buffers and weights that nothing reads are not."""
        return self.trainable and self.use != "unread"


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that the block remembers between tokens: `axes` is one slot of one sequence.

    capacity  context (a slot a token) | window (at most `window` slots) | source (a slot a source token)
              | constant (one slot)
    part      where it is counted: global | local | recurrent | source
    stored    False where an earlier layer keeps it and this one only reads (KV sharing)
    bits      set where the state has a format of its own (RG-LRU keeps fp32); else the KV precision's
    """

    name: str
    axes: str
    capacity: str
    part: str
    role: str
    window: Number = None
    stored: bool = True
    bits: int | None = None

    def slots(self, context: Number, source: Number = 0) -> Number:
        """Slots held once `context` tokens (and `source` source tokens) have gone by."""
        if self.capacity == "window":
            return minimum(context, self.window)
        return {"context": context, "source": source, "constant": 1}[self.capacity]


@dataclass(frozen=True, slots=True)
class Operand:
    """One name of a line with its axes, pair axes kept as one item: ("B", "K", "G", "TU")."""

    name: str
    axes: tuple[str, ...]
    place: str  # "" | "w" | "cache"
    on_chip: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A parsed line; `axes` are the distinct axes over all operands, the last three what it reads and writes."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    axes: tuple[str, ...]
    weights: tuple[Operand, ...]
    states_read: tuple[Operand, ...]
    states_written: tuple[Operand, ...]
    may_rest: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """All that a block declares; `splits` says which letters parallelism divides."""

    weights: Mapping[str, Weight]
    states: Mapping[str, State]
    ops: tuple[Op, ...]
    splits: Mapping[str, Split] = field(default_factory=dict)

    def row_axes(self, name: str) -> str:
        """Axes of one row of a weight as a matrix: what its product sums over, what its lookup returns.

        All of them where neither is done; the last where nothing reads it.
        """
        weight = self.weights[name]
        for op in self.ops:
            for operand in op.line.weights:
                if operand.name == name and op.kind in ("matmul", "lookup"):
                    made = {axis for out in op.line.outputs for axis in out.axes}
                    return "".join(
                        axis
                        for axis, read in zip(weight.axes, operand.axes, strict=True)
                        if (read in made) == (op.kind == "lookup")
                    )
        return weight.axes if weight.use == "vector" else weight.axes[-1:]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that an op holds besides its operands, or keeps for the backward pass: "own", "fp32(q)", "byte[TU]".

    kind     own: in the format of the activations | fp32 | byte | wide: an operand in fp32, which is the operand
             itself where activations are fp32 already | repeat: an operand made contiguous, needed where there are
             several sequences | same: an operand as it is
    operand  whose size it has; None for that of the op's first output, unless
    axes     say it
    """

    kind: str
    operand: str | None = None
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Op:
    """A step of the block. kind: matmul | vector | lookup | append. `per` counts vector operations an element.

    What it takes in memory when it runs as torch runs it, one kernel after another:
    holds    what stands at its fullest moment beside its inputs; its outputs, if nothing is said
    saves    what autograd keeps of it, beside the inputs of a product
    shares   what it makes once a pass for all layers alike: masks, angles
    lasts    its output stands until the pass ends
    wide     its output is in fp32
    """

    kind: str
    line: Line
    text: str
    per: int = 0
    holds: tuple[Value, ...] = ()
    saves: tuple[Value, ...] = ()
    shares: tuple[Value, ...] = ()
    lasts: bool = False
    wide: bool = False

    def flops(self, sizes: Sizes, dense: bool = False) -> Number:
        """Matrix-product FLOPs of the forward pass, 2 a multiply-add."""
        return 2 * extent(self.line.axes, sizes, dense) if self.kind == "matmul" else 0

    def vector(self, sizes: Sizes) -> Number:
        """Elementwise operations, over the pairs that the mask keeps."""
        return self.per * extent(self.line.axes, sizes) if self.per else 0


def matmul(text: str, **memory: Any) -> Op:
    """A contraction: 2 FLOPs for each point of the axes' product. `memory`: see `needs`."""
    return Op("matmul", parse(text), text, **needs(**memory))


def vector(text: str, per: int = 1, **memory: Any) -> Op:
    """Elementwise work: `per` operations for each point of the axes' product. `memory`: see `needs`."""
    return Op("vector", parse(text), text, per, **needs(**memory))


def norm(text: str, per: int = 4, of: str | None = None, lasts: bool = False) -> Op:
    """An RMSNorm of the first operand (or `of`): in fp32, its square or its product with the gain beside it."""
    name = of or parse(text).inputs[0].name
    wide = f"wide({name}) fp32({name})"
    return vector(text, per, holds=wide, saves=wide, lasts=lasts)


def lookup(text: str, **memory: Any) -> Op:
    """Rows taken from a table: reads what it returns, not the table; no FLOPs. `memory`: see `needs`."""
    return Op("lookup", parse(text), text, **needs(**memory))


def append(text: str) -> Op:
    """New tokens written to a state; its token axis says how many."""
    return Op("append", parse(text), text)


def needs(holds: str = "", saves: str = "", shares: str = "", **flags: bool) -> dict[str, Any]:
    """What an op takes in memory (see `Op`), from values written with a blank between them: "wide(s) fp32 byte[TU]"."""
    return {"holds": values(holds), "saves": values(saves), "shares": values(shares)} | flags


_VALUE = re.compile(r"^(?:(own|fp32|byte|wide|repeat)(?:\((\w+)\)|\[(\S+)\])?|(\w+))$")


@cache
def values(text: str) -> tuple[Value, ...]:
    """'own(q) fp32 g' -> three values, the last the operand g as it is. Raises ValueError for a text of no values."""
    found = []
    for word in text.split():
        match = _VALUE.match(word)
        if match is None:
            raise ValueError(f"{word!r} is no value of an op")
        kind, operand, axes, same = match.groups()
        found.append(Value("same", same) if same else Value(kind, operand, split_axes(axes or "")))
    return tuple(found)


def extent(axes: tuple[str, ...], sizes: Sizes, dense: bool = False) -> Number:
    """Number of points of a product of axes; a pair axis counts its kept pairs, or all of them if dense."""
    if dense:
        return product([sizes[letter] for axis in axes for letter in axis])
    return product([sizes[axis] for axis in axes])


@cache
def split_axes(text: str) -> tuple[str, ...]:
    """'BKG(TU)' -> ('B', 'K', 'G', 'TU')."""
    axes: list[str] = []
    group: str | None = None
    for letter in text:
        if letter == "(":
            group = ""
        elif letter == ")":
            axes.append(group or "")
            group = None
        elif group is None:
            axes.append(letter)
        else:
            group += letter
    return tuple(axes)


@cache
def parse(text: str) -> Line:
    """Compile a line once."""
    left, _, right = text.partition("->")
    inputs, outputs = (tuple(_operand(o) for o in side.split(",") if o.strip()) for side in (left, right))
    distinct = dict.fromkeys(a for operand in (*inputs, *outputs) for a in operand.axes)
    paired = {letter for axis in distinct if len(axis) > 1 for letter in axis}  # T and U live on inside (TU)
    return Line(
        inputs,
        outputs,
        axes=tuple(a for a in distinct if a not in paired),
        weights=tuple(o for o in inputs if o.place == "w"),
        states_read=tuple(o for o in inputs if o.place == "cache"),
        states_written=tuple(o for o in outputs if o.place == "cache"),
        may_rest=any(letter in axis for axis in distinct for letter in EMPTY),
    )


def _operand(text: str) -> Operand:
    name, axes = text.split()
    place, _, local = name.rpartition(".")
    return Operand(local.lstrip("~"), split_axes(axes), place, name.startswith("~"))
