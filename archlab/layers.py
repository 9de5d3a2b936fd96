"""What a model is built of: blocks, the layers that hold them, the stacks of layers. All of it is data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import Number, ceil_div, maximum
from archlab.fields import Rule, fields_of
from archlab.rows import Op, Rows, Sizes, Split, State, Weight

if TYPE_CHECKING:
    from archlab.workload import Frame, Workload


@dataclass(frozen=True)
class Block:
    """A block type: a frozen dataclass of its sizes that declares rows. See `rows` for the notation.

    `part` is where its weights and operations are counted unless a row says otherwise.
    """

    part: ClassVar[str] = ""
    roles: ClassVar[tuple[str, ...]] = ()  # what its weights may be, the words of a precision's rules
    own_part: ClassVar[bool] = False  # counted under its own part inside a tower too
    splits: ClassVar[Mapping[str, Split]] = {}  # letters that parallelism divides, and how

    @property
    def causal(self) -> bool:
        """Whether a token depends on none that comes after it."""
        return True

    @property
    def longest(self) -> Number | None:
        """Tokens that a sequence may have at most; None where nothing ends it."""
        return None

    def sizes(self) -> dict[str, Number]:
        """The letters that the shape binds."""
        return {}

    def bind(self, work: Workload | Frame) -> dict[str, Number]:
        """The letters that the workload binds: batch, new tokens, context, rows of logits."""
        return {"B": work.batch, "T": work.new, "S": work.context, "R": work.logit_rows}

    def weights(self) -> Iterator[Weight]:
        """What it stores."""
        yield from ()

    def state(self) -> Iterator[State]:
        """What it remembers."""
        yield from ()

    def ops(self) -> Iterator[Op]:
        """What it does to T new tokens ending at context S; decode is T = 1."""
        yield from ()

    def rules(self) -> Iterator[Rule]:
        """What must hold between its fields."""
        yield from ()

    @cached_property
    def rows(self) -> Rows:
        """Weights and states by name, and the operations: read once, however many workloads follow."""
        weights, states = {w.name: w for w in self.weights()}, {s.name: s for s in self.state()}
        return Rows(weights, states, tuple(self.ops()), self.splits)

    def facts(self) -> dict[str, Any]:
        """What the block was told: its declared fields, for readers and tables."""
        return {name: getattr(self, name) for name in fields_of(type(self))}

    def special(self) -> Iterator[tuple[str, str]]:
        """What sets it apart from an ordinary block of its sort: (the field's short name for it, a sentence)."""
        yield from ()

    def shape(self, axes: str) -> tuple[Number, ...]:
        """Sizes of a weight's or a state's axes."""
        sizes: Sizes = self.sizes()
        return tuple(sizes[a] for a in axes)


@dataclass(frozen=True)
class Branch:
    """post(block(pre(x))), summed with the block that it stands beside: LAuReL, or experts beside a dense MLP.

    reads   stream: the residual stream itself | normed: what the neighbour reads, after its norm
    """

    name: str
    block: Block
    reads: str
    pre: Block | None = None
    post: Block | None = None

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """(path, block) in the order in which they run."""
        yield from _wrapped(self.name, self.pre, self.block, self.post)


@dataclass(frozen=True)
class Residual:
    """(x + joint(post(block(pre(x))) + branches)) * scale: one sublayer of a layer. A norm of None is not there."""

    name: str
    block: Block
    pre: Block | None
    post: Block | None = None
    beside: tuple[Branch, ...] = ()
    joint: Block | None = None
    scale: float = 1.0

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """(path, block) in the order in which they run."""
        yield from _wrapped(self.name, self.pre, self.block, self.post)
        for branch in self.beside:
            yield from branch.blocks()
        if self.joint is not None:
            yield f"{self.name}.joint_norm", self.joint


def _wrapped(name: str, pre: Block | None, block: Block, post: Block | None) -> Iterator[tuple[str, Block]]:
    if pre is not None:
        yield f"{name}.pre_norm", pre
    yield name, block
    if post is not None:
        yield f"{name}.post_norm", post


@dataclass(frozen=True)
class Layer:
    """All layers that are alike: what they hold, how many there are, and which.

    `altup` runs before and after the residuals, `after` are residuals that come last, outside of it, and
    `layer_scalar` multiplies the stream that leaves the layer. `spans` are the ranges of layers that changed it.
    """

    kind: str
    residuals: tuple[Residual, ...]
    count: Number
    indices: tuple[int, ...] | None  # None where n_layers is a column or a symbol
    spans: tuple[str, ...] = ()
    altup: Block | None = None
    after: tuple[Residual, ...] = ()
    layer_scalar: Block | None = None

    @property
    def name(self) -> str:
        """'local', or 'local, shared' where a span changed it."""
        return ", ".join((self.kind, *self.spans))

    def facts(self) -> dict[str, Any]:
        """What the layer's blocks were told, the mixer's word first; the window is None where it sees all tokens."""
        told = {name: value for _, block in reversed([*self.blocks()]) for name, value in block.facts().items()}
        return {"window": None} | told

    @property
    def reach(self) -> str:
        """How far back it remembers: global | local | recurrent (a state that does not grow)."""
        if any(state.part == "recurrent" for _, block in self.blocks() for state in block.rows.states.values()):
            return "recurrent"
        return "global" if self.facts()["window"] is None else "local"

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """(path, block) of one layer, in the order in which they run."""
        if self.altup is not None:
            yield "altup", self.altup
        for residual in (*self.residuals, *self.after):
            yield from residual.blocks()
        if self.layer_scalar is not None:
            yield "layer_scalar", self.layer_scalar


@dataclass(frozen=True)
class Stack:
    """Blocks before the layers, the layers, blocks after them: a decoder, an encoder, or a tower.

    reads    tokens: the sequence itself | source: an encoder's own sequence | images: the patches of each image
    length   patches of an image, and
    tokens   tokens of the sequence that it becomes, each of them `token`, where the stack reads images
    part     where all its weights and operations are counted (a tower); None leaves it to the blocks
    counted  the stack has weights that are known by number alone: nothing can be run
    """

    name: str
    before: tuple[tuple[str, Block], ...]
    layers: tuple[Layer, ...]
    after: tuple[tuple[str, Block], ...]
    reads: str = "tokens"
    length: Number = None
    tokens: Number = None
    token: int | None = None
    part: str | None = None
    counted: bool = False

    @property
    def prefix(self) -> str:
        """What stands before the paths of its blocks: nothing for the decoder."""
        return "" if self.name == "decoder" else f"{self.name}."

    def blocks(self) -> Iterator[tuple[str, Block, Layer | None]]:
        """(path, block, layer) of each distinct block, in the order in which they run."""
        for path, block in self.before:
            yield path, block, None
        for layer in self.layers:
            for path, block in layer.blocks():
                yield path, block, layer
        for path, block in self.after:
            yield path, block, None

    def in_order(self) -> list[Layer]:
        """The layer at each position. Needs a plain n_layers."""
        at = {index: layer for layer in self.layers for index in layer.indices or ()}
        return [at[index] for index in range(len(at))]


def repeat_pattern(pattern: tuple[str, ...], n_layers: Number) -> dict[str, Number]:
    """Layers of each kind when the pattern is repeated and then cut at n_layers; on columns too."""
    period = len(pattern)
    counts: dict[str, Number] = {}
    for position, kind in enumerate(pattern):
        here = ceil_div(n_layers - position, period)  # positions p, p + period, ... below n_layers
        counts[kind] = counts.get(kind, 0) + maximum(0, here)
    return counts
