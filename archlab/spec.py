"""What a model, a workload and a precision are: data, and the rules that they keep.

A field is declared once, with its type and one line of explanation; the loader's type checks, `archlab new`'s
comments and the sweep's key check all read that declaration. A rule is a condition and a sentence: on numbers a
broken rule raises the sentence, on columns it masks the points that break it.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from archlab.algebra import Number, ceil_div, divides, is_column, is_scalar, is_symbol, maximum, plain
from archlab.errors import SpecError, nearest
from archlab.rows import Op, Rows, Sizes, Split, State, Weight
from archlab.shown import Shown

# ---------------------------------------------------------------- fields and rules

MOST_LAYERS = 100_000
MOST_TOKENS = 10**15

Rule = tuple[Any, Callable[[], str]]
"""(condition, sentence): the condition is a bool, or a column of them."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """A kind of value: what it must be, in words, and the test."""

    words: str
    test: Callable[[Any], bool]
    none: bool = False
    choices: tuple[str, ...] = ()
    of_column: Callable[[Any], Any] | None = None  # the test, of a float64 column

    def mask(self, values: Any) -> Any:
        """Which numbers of a float64 column pass: bools, of its shape."""
        import numpy

        if self.of_column is not None:
            return self.of_column(values)
        distinct, places = numpy.unique(values, return_inverse=True)
        return numpy.array([bool(self.test(int(v) if v == v // 1 else float(v))) for v in distinct])[places]

    def check(self, path: str, value: Any, of: str = "") -> None:
        """Raises SpecError unless the value (or the column, or the symbol) is of this type. `of`: whose it is."""
        if is_column(value) or is_symbol(value) or (self.none and value is None) or self.test(value):
            return
        hint = nearest(value, self.choices) if isinstance(value, str) else ""
        raise SpecError(f"{path}={value!r}{of} must be {self.words}{hint}")


def _is_int(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def size(doc: str, default: Any = dataclasses.MISSING, none: bool = False, most: int = 10**15, least: int = 1) -> Any:
    """A field that counts something: an int from `least` to `most` (or null, where `none`)."""
    words = f"a whole number of {least} or more" if most == 10**15 else f"a whole number from {least} to {most:,}"
    kind = FieldType(
        words + (" or null" if none else ""), lambda x: _is_int(x) and least <= x <= most, none,
        of_column=lambda x: (x >= least) & (x <= most) & (x % 1 == 0),
    )  # fmt: skip
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def real(doc: str, default: Any = dataclasses.MISSING, none: bool = False, zero: bool = False) -> Any:
    """A field that measures something: a number above 0 (or 0, where `zero`; or null, where `none`)."""
    kind = FieldType(
        ("a number of 0 or more" if zero else "a number above 0") + (" or null" if none else ""),
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < float("inf") and (zero or x > 0),
        none,
        of_column=lambda x: (x >= 0 if zero else x > 0) & (x < float("inf")),
    )
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def flag(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is true or false."""
    kind = FieldType("true or false", lambda x: isinstance(x, bool))
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def text(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field for people: a name or a sentence. A control character would turn what stands around it, on any screen."""
    kind = FieldType("text, without control characters", lambda x: isinstance(x, str) and bool(x.strip()) and _plain(x))
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def _plain(x: str) -> bool:
    return x.isprintable() or all(unicodedata.category(c) not in ("Cc", "Cf") or c in "\n\t" for c in x)


def names(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is a list of names, not empty."""
    kind = FieldType(
        "a list of names", lambda x: isinstance(x, list | tuple) and bool(x) and all(isinstance(n, str) for n in x)
    )
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def choice(doc: str, options: tuple[str, ...], default: Any = dataclasses.MISSING) -> Any:
    """A field that is one of a few words."""
    kind = FieldType("one of " + ", ".join(options), lambda x: x in options, choices=options)
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def fields_of(schema: type) -> dict[str, dataclasses.Field]:
    """The fields that a file may set: those declared with a type and a line of explanation."""
    return {f.name: f for f in dataclasses.fields(schema) if "doc" in f.metadata}


def check_fields(schema: type, path: str, values: Mapping[str, Any]) -> None:
    """Raises SpecError for an unknown field, a missing one, or one of the wrong type."""
    known = fields_of(schema)
    prefix = f"{path}." if path else ""
    for name, value in values.items():
        if name not in known:
            raise SpecError(f"unknown key {prefix}{name}{nearest(name, known)} (known: {', '.join(known)})")
        known[name].metadata["type"].check(prefix + name, value)
    for name, f in known.items():
        if f.default is dataclasses.MISSING and name not in values:
            raise SpecError(f"{prefix}{name} is missing: {f.metadata['doc']}")


def multiple_of(a_name: str, a: Number, b_name: str, b: Number) -> Rule:
    """The rule that b divides a."""
    return divides(b, a), lambda: f"{a_name} ({a}) must be a multiple of {b_name} ({b}){_nearest_divisors(a, b)}"


def _nearest_divisors(n: Number, to: Number) -> str:
    """'; 2 or 4 would do' of 4 and 3: the divisors on either side, where there are two; nothing of a letter."""
    if not (is_scalar(n) and is_scalar(to)):
        return ""
    divisors = [d for d in range(1, min(int(n), 4096) + 1) if n % d == 0]
    near = [*[d for d in divisors if d < to][-1:], *[d for d in divisors if d > to][:1]]
    return f"; {' or '.join(map(str, near))} would do"


# ---------------------------------------------------------------- blocks


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


@dataclass(frozen=True)
class ModelSpec(Shown):
    """A model as data: what `load` returns. Read by the ledger and by the builder, written by neither.

    `data` is the resolved YAML, from which overrides and sweeps start. Sizes are ints, or columns of them.
    `decoder` and `encoder` are stacks of layers with their blocks, `vision` and `audio` towers; None: not there.
    """

    name: str = text("how the model is called")
    family: str = text("gemma, gemma2, gemma3 ... : whose tensors it has")
    source: str = text("where the numbers come from")
    d_model: Number = size("width of the residual stream")
    n_layers: Number = size("layers", most=MOST_LAYERS)
    vocab_size: Number = size("rows of the token table")
    context: Number = size("trained context, tokens")
    pattern: tuple[str, ...] = names("kinds of layer, repeated and then cut at n_layers; local*5 is five of them")
    notes: str = text("what a reader should know about the numbers", "none")
    decoder: Stack = field(kw_only=True)
    encoder: Stack | None = field(default=None, kw_only=True)
    vision: Stack | None = field(default=None, kw_only=True)
    audio: Stack | None = field(default=None, kw_only=True)
    data: Mapping[str, Any] = field(kw_only=True, repr=False, compare=False)

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Towers, encoder, decoder: those that there are, in the order in which they run."""
        return tuple(s for s in (self.vision, self.audio, self.encoder, self.decoder) if s is not None)

    @property
    def decodes(self) -> bool:
        """Whether it makes one token after another; an encoder alone reads whole sequences."""
        return all(block.causal for _, block, _ in self.decoder.blocks())

    @property
    def has_prefix(self) -> bool:
        """Whether a prefix may be given, whose tokens all see each other."""
        return any(
            block.facts().get("mask") == "prefix" for layer in self.decoder.layers for _, block in layer.blocks()
        )

    def kinds(self) -> list[str]:
        """The kind of each layer of the decoder, in order. Needs a plain n_layers."""
        return [layer.kind for layer in self.decoder.in_order()]

    def layer(self, kind: str) -> Layer:
        """The decoder's layers of one kind (the first of them, where spans make them differ)."""
        return next(layer for layer in self.decoder.layers if layer.kind == kind)

    def admit(self, work: Workload) -> None:
        """Raises SpecError for a workload that this model cannot be given."""
        for condition, sentence in self.work_rules(work):
            if condition is False:
                raise SpecError(sentence())

    def work_rules(self, work: Workload) -> Iterator[Rule]:
        """What must hold between the model and a workload; on columns a condition is a mask. Symbols pass."""
        yield from work.rules()
        if self.vision is None:
            yield same(work.images, 0), lambda: f"images={work.images} cannot be: {self.name} has no vision tower"
        elif self.vision.counted:
            yield (
                same(work.images, 0),
                lambda: (
                    f"images={work.images} cannot be computed: the vision tower of {self.name} is known by the number "
                    "of its parameters only"
                ),
            )
        else:
            where = ("source", "new_source") if self.encoder else ("context", "new")
            for what, room in zip(("images", "new_images"), where, strict=True):
                yield self._fits(what, getattr(work, what), room, getattr(work, room))
        if self.encoder is None:
            yield same(work.source, 0), lambda: f"source={work.source} cannot be: {self.name} has no encoder"
        if not self.has_prefix:
            yield (
                same(work.prefix, 0),
                lambda: f"prefix={work.prefix} cannot be: {self.name} has no layers whose mask is prefix",
            )
        for stack in (s for s in self.stacks if s.reads != "images"):
            for _, block in stack.before:
                if block.longest is not None:
                    yield self._reached("source" if stack.reads == "source" else "context", work, block.longest)
        if not self.decodes:
            yield (
                same(work.new, work.context),
                lambda: f"new={work.new} must equal context={work.context}: {self.name} reads whole sequences",
            )

    def _reached(self, what: str, work: Workload, longest: Number) -> Rule:
        length = getattr(work, what)
        return at_most(length, longest), lambda: f"{what}={length} cannot be: {self.name} has {longest} positions"

    def _fits(self, what: str, images: Number, where: str, room: Number) -> Rule:
        needed = images * self.vision.tokens if self.vision is not None else 0
        return at_most(needed, room), lambda: f"{what}={images} take {needed} tokens, more than {where}={room}"


def same(a: Number, b: Number) -> Any:
    """Whether two sizes are equal: a bool, or a mask; symbols are the same where they are one."""
    return bool(a == b) if is_symbol(a) or is_symbol(b) else a == b


def at_most(a: Number, b: Number) -> Any:
    """Whether a size does not exceed another: a bool, or a mask; a symbol is given the benefit of the doubt."""
    return True if is_symbol(a) or is_symbol(b) else a <= b


# ---------------------------------------------------------------- workload


@dataclass(frozen=True)
class Frame:
    """What the rows of one stack see of a workload: T = `new` tokens of `batch` sequences that end at `context`.

    For a tower the sequences are the new images, their tokens the patches; for an encoder the new source tokens. Sizes
    may be 0: nothing is read after the first step.
    """

    batch: Number
    new: Number
    context: Number
    logit_rows: Number
    source: Number = 0
    new_source: Number = 0
    new_images: Number = 0
    new_prefix: Number = 0


@dataclass(frozen=True)
class Workload:
    """T = `new` tokens for each of `batch` sequences, ending at `context` tokens.

    Prefill has new = context, a decode step new = 1. `train` adds the backward pass and has new = context.
    `logits` is 'all' or 'last'. A sequence may have an encoder's `source` tokens, `images` in its context, and a
    `prefix` whose tokens all see each other (an image and its question). They are read with the first tokens:
    `new_source`, `new_images` and `new_prefix` say how much of each is among the new, by default all of it where
    new = context and none otherwise.
    Raises SpecError for sizes that cannot be.
    """

    batch: Number = 1
    new: Number = None
    context: Number = None
    train: bool = False
    logits: str = "all"
    source: Number = 0
    images: Number = 0
    prefix: Number = 0
    new_source: Number = None
    new_images: Number = None
    new_prefix: Number = None

    def __post_init__(self) -> None:
        new, context = plain(self.new), plain(self.context)
        object.__setattr__(self, "batch", plain(self.batch))
        if new is None and context is None:
            raise SpecError("a workload needs new (tokens to process) or context (tokens in all)")
        object.__setattr__(self, "new", context if new is None else new)
        object.__setattr__(self, "context", new if context is None else context)
        for name in ("batch", "context", "new"):
            _check_count(name, getattr(self, name), least=1)
        first = self.new is self.context or (is_scalar(self.new) and is_scalar(self.context) and new == context)
        for name in ("source", "images", "prefix"):
            whole, fresh = plain(getattr(self, name)), plain(getattr(self, f"new_{name}"))
            fresh = (whole if first else 0) if fresh is None else fresh
            for key, value in ((name, whole), (f"new_{name}", fresh)):
                _check_count(key, value, least=0)
                object.__setattr__(self, key, value)
        if not isinstance(self.train, bool):
            raise SpecError(f"train={self.train!r} must be true or false")
        if self.logits not in ("all", "last"):
            raise SpecError(f"logits={self.logits!r} must be all or last")
        for condition, sentence in self.rules():
            if condition is False:
                raise SpecError(sentence())

    def rules(self) -> Iterator[Rule]:
        """What must hold between its sizes; on columns a condition is a mask."""
        new, context = self.new, self.context
        yield (
            at_most(new, context),
            lambda: f"new={new} must not exceed context={context}, which counts the new tokens too",
        )
        if self.train:
            yield same(new, context), lambda: f"training needs new = context, not new={new} and context={context}"
        yield (
            at_most(self.prefix, context),
            lambda: f"prefix={self.prefix} must not exceed context={context}, which counts it too",
        )
        yield (
            same(self.new_prefix, 0) | same(new, context),
            lambda: (
                f"new_prefix={self.new_prefix} needs new = context, not new={new}: a prefix comes with the first tokens"
            ),
        )
        yield (
            at_most(self.new_images, self.images),
            lambda: f"new_images={self.new_images} must not exceed images={self.images}",
        )
        yield self._whole("source", "an encoder reads it whole")
        yield self._whole("prefix", "its tokens all see each other")

    def _whole(self, name: str, why: str) -> Rule:
        whole, fresh = getattr(self, name), getattr(self, f"new_{name}")
        return same(fresh, 0) | same(fresh, whole), lambda: f"new_{name}={fresh} must be 0 or {name}={whole}: {why}"

    @property
    def logit_rows(self) -> Number:
        """Rows of logits a sequence."""
        return self.new if self.logits == "all" else 1

    def resized(self, batch: Number, context: Number) -> Workload:
        """The prefill of other sizes. A source or a prefix as long as the context stays as long as it."""
        sizes = {}
        for name in ("source", "prefix"):
            own = getattr(self, name)
            follows = own is self.context or (is_scalar(self.context) and self.context == own)
            sizes[name] = sizes[f"new_{name}"] = context if follows else own
        return dataclasses.replace(self, batch=batch, new=context, context=context, new_images=self.images, **sizes)

    def frame(self, stack: Stack) -> Workload | Frame:
        """What the rows of a stack see of it."""
        if stack.reads == "images":
            return Frame(self.batch * self.new_images, stack.length, stack.length, 0)
        if stack.reads == "source":
            return Frame(self.batch, self.new_source, self.source, self.new_source, new_images=self.new_images)
        return self

    def decode(self) -> Workload:
        """One decode step that ends at the same context: nothing of source, images and prefix is new."""
        return dataclasses.replace(self, new=1, train=False, new_source=0, new_images=0, new_prefix=0)

    def prefill(self) -> Workload:
        """The whole context at once."""
        whole = {"new_source": self.source, "new_images": self.images, "new_prefix": self.prefix}
        return dataclasses.replace(self, new=self.context, train=False, **whole)


def _check_count(name: str, value: Any, least: int) -> None:
    if not (is_column(value) or is_symbol(value) or (_is_int(value) and value >= least)):
        raise SpecError(f"{name}={value!r} must be a whole number of {least} or more")
    if _is_int(value) and value > MOST_TOKENS:
        raise SpecError(f"{name}={value} must be at most {MOST_TOKENS:,}")
