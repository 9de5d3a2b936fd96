"""What a fused, packed implementation launches for a workload: the ledger's rows, gathered into kernels.

Rows stay logical (q, k, v; gate, up). A program that is made for speed runs some of them as one, and three rules of
the rows alone say which:

    linear     a product with a weight; those of a block that read the same value, with weights that are no mixture's,
               are one (q, k and v; gate and up)
    attention  what has an operand that never leaves the chip: scores, their cap, softmax, values
    vector     everything else, element by element; what stands between two of the others is one kernel

A residual sum is no row. It runs with a norm, of which there is one for each, and is in what a norm takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from archlab.algebra import Number, choose, is_scalar, minimum, product
from archlab.calibration import Laws, operation_key
from archlab.ledger import Entry, Ledger
from archlab.precision import Precision
from archlab.rows import Op, Operand, Rows, extent


@dataclass(frozen=True, slots=True)
class Kernel:
    """`count` runs a pass. Of one run: exact FLOPs, bytes of weights and state, bytes of activations read and left."""

    kind: ClassVar[str]

    part: str
    count: Number
    flops: Number
    stored_bytes: Number
    activation_bytes: Number

    @property
    def bytes(self) -> Number:
        """All that one run reads and writes."""
        return self.stored_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class Linear(Kernel):
    """`batch` products of m rows (tokens) with matrices of n outputs and k inputs: 1, or a mixture's experts."""

    kind = "linear"

    batch: Number
    m: Number
    n: Number
    k: Number

    @property
    def key(self) -> str:
        """What its exact shape is found by. For scalars."""
        return operation_key("linear", batch=self.batch, m=self.m, n=self.n, k=self.k)

    @property
    def results(self) -> Number:
        """Outputs."""
        return self.batch * self.m * self.n

    def alone(self, laws: Laws) -> Number:
        """Seconds of one run by itself."""
        return laws.linear.seconds(self.batch, self.m, self.n, self.k, self.bytes)

    def in_step(self, laws: Laws, known: Mapping[str, float]) -> Number:
        """Seconds of one run among others, from what is known of its shape alone, else by the law."""
        return laws.step.linear * (known[self.key] if known else self.alone(laws))


@dataclass(frozen=True, slots=True)
class Attention(Kernel):
    """`new` queries of each of `batch` sequences over `keys` keys, `pairs` of them kept; G query heads a KV head.

    window  tokens that a token sees, where the layer has one; `cut`: it hides some of the keys
    causal  keys and values are a cache's, whose tokens come before the new ones
    """

    kind = "attention"

    batch: Number
    kv_heads: Number
    groups: Number
    head_dim: Number
    new: Number
    keys: Number
    pairs: Number
    window: Number
    cut: Number
    causal: bool
    capped: bool

    @property
    def key(self) -> str:
        """What its exact shape is found by. For scalars."""
        shape = {"batch": self.batch, "kv": self.kv_heads, "group": self.groups, "dim": self.head_dim}
        if self.new == 1:
            return operation_key("step_attention", **shape, keys=self.keys, cap=int(self.capped))
        shape |= {"new": self.new, "keys": self.keys, "pairs": self.pairs}
        return operation_key("attention", **shape, cap=int(self.capped))

    @property
    def results(self) -> Number:
        """Scores."""
        return self.batch * self.kv_heads * self.groups * self.pairs

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of attention that it is: of columns it may be several."""
        if is_scalar(self.new):
            return ("step",) if self.new == 1 else _hiding(self.cut)
        return ("step", *_hiding(self.cut))

    def alone(self, laws: Laws) -> Number:
        """Seconds of one run by itself."""
        return choose(self.new == 1, lambda: self._by("step", laws), lambda: self._first_pass(laws))

    def in_step(self, laws: Laws, known: Mapping[str, float]) -> Number:
        """Seconds of one run among others, from what is known of its shape alone, else by the law."""
        factor = choose(self.new == 1, lambda: laws.step.step_attention, lambda: laws.step.attention)
        return factor * (known[self.key] if known else self.alone(laws))

    def _first_pass(self, laws: Laws) -> Number:
        return choose(self.cut, lambda: self._by("windowed", laws), lambda: self._by("causal", laws))

    def _by(self, kind: str, laws: Laws) -> Number:
        return laws.attention_law(kind, self.capped).seconds(self.bytes, self.flops, self.results)


def _hiding(cut: Any) -> tuple[str, ...]:
    """Whether some keys are hidden, of all columns, of none, or of some."""
    return (("windowed",) if cut else ("causal",)) if isinstance(cut, bool) else ("causal", "windowed")


@dataclass(frozen=True, slots=True)
class Vector(Kernel):
    """Elementwise work: `operations` of it. Rows taken from a table, and rows written to a cache, are here too."""

    kind = "vector"

    operations: Number

    @property
    def key(self) -> None:
        """None: no shapes are kept of it, the law is near enough."""

    def alone(self, laws: Laws) -> Number:
        """Seconds of one run."""
        return laws.vector.seconds(self.bytes, self.operations)

    def in_step(self, laws: Laws, known: Mapping[str, float]) -> Number:
        """The same: its law is that of whole steps."""
        return self.alone(laws)


AnyKernel = Linear | Attention | Vector


def kernels(rows: Ledger, precision: Precision) -> list[AnyKernel]:
    """The kernels of a pass, those of alike layers once, with their count."""
    return [kernel for entry in rows.entries for kernel in _of_entry(rows, entry, precision)]


def op_bytes(rows: Ledger, entry: Entry, op: Op, precision: Precision) -> Number:
    """Bytes of weights read and of state read and written by one run of an op."""
    weights = sum(n * precision.bits(rows, entry, w) for w, n in entry.read_weights(op))
    states = sum(
        n / entry.numel(s) * precision.state_bits(entry, s)
        for s, n in entry.touched_states((*op.line.states_read, *op.line.states_written))
    )
    return (weights + states) / 8


# ---------------------------------------------------------------- which rows run together


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are one kernel: what they read of what was made before, and what of theirs is left."""

    kind: str
    ops: tuple[Op, ...]
    reads: tuple[Operand, ...]
    leaves: tuple[Operand, ...]


def grouped(rows: Rows) -> list[Group]:
    """The rows of a block as kernels, in the order in which they start."""
    kinds, members, places = _gather(rows)
    made: dict[str, int] = {}  # name -> the op that made its value
    reads: list[dict[tuple[str, int], Operand]] = [{} for _ in kinds]
    leaves: list[dict[str, Operand]] = [{} for _ in kinds]
    for i, op in enumerate(rows.ops):
        place = places[i]
        for operand in op.line.inputs:
            source = made.get(operand.name, -1)
            if not operand.place and not operand.on_chip and (source < 0 or places[source] != place):
                reads[place].setdefault((operand.name, source), operand)
        for operand in op.line.outputs:
            made[operand.name] = i
            if not operand.place and not operand.on_chip:
                leaves[place][operand.name] = operand
    return [
        Group(kind, tuple(ops), tuple(reads[g].values()), tuple(leaves[g].values()))
        for g, (kind, ops) in enumerate(zip(kinds, members, strict=True))
    ]


def _gather(rows: Rows) -> tuple[list[str], list[list[Op]], list[int]]:
    """(kind of each group, its ops, the group of each op)."""
    kinds: list[str] = []
    members: list[list[Op]] = []
    places: list[int] = []
    versions: dict[str, int] = {}
    packs: dict[tuple, int] = {}
    run = -1  # the vector kernel that the next elementwise op joins; -1: none is open
    for op in rows.ops:
        kind = _kind(rows, op)
        value = _reads_of(op, versions) if kind == "linear" and _is_plain(rows, op) else None
        if kind == "vector":
            place = run
        elif kind == "attention":
            place = len(kinds) - 1 if kinds and kinds[-1] == "attention" else -1
        else:
            place = packs.get(value, -1) if value is not None else -1
        if place < 0:
            place = len(kinds)
            kinds.append(kind)
            members.append([])
            run = place if kind == "vector" else -1
        if value is not None:
            packs[value] = place
        members[place].append(op)
        places.append(place)
        for operand in op.line.outputs:
            versions[operand.name] = versions.get(operand.name, 0) + 1
    return kinds, members, places


def _kind(rows: Rows, op: Op) -> str:
    if any(operand.on_chip for operand in (*op.line.inputs, *op.line.outputs)):
        return "attention"
    return "linear" if op.kind == "matmul" and op.line.weights and _axes(rows, op).n else "vector"


def _is_plain(rows: Rows, op: Op) -> bool:
    return rows.weights[op.line.weights[0].name].routed is None


def _reads_of(op: Op, versions: dict[str, int]) -> tuple:
    """The value that a product reads, and how: products of which this is equal can be one."""
    x, weight = _input(op), op.line.weights[0]
    summed = tuple(a for a in x.axes if a in weight.axes)
    return x.name, x.axes, versions.get(x.name, 0), summed


def _input(op: Op) -> Operand:
    return next(operand for operand in op.line.inputs if operand.place != "w")


@dataclass(frozen=True, slots=True)
class _Axes:
    """The letters of a product with a weight: of its matrices, rows, outputs and inputs."""

    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]


def _axes(rows: Rows, op: Op) -> _Axes:
    x, weight, out = _input(op), op.line.weights[0], op.line.outputs[0]
    routed = rows.weights[weight.name].routed
    chosen = () if routed is None else routed[:1]
    shared = tuple(a for a in weight.axes if a in x.axes and a in out.axes and a not in chosen)
    return _Axes(
        batch=shared,
        m=tuple(a for a in out.axes if a not in weight.axes or a in chosen),
        n=tuple(a for a in weight.axes if a in out.axes and a not in x.axes and a not in chosen),
        k=tuple(a for a in weight.axes if a not in out.axes),
    )


# ---------------------------------------------------------------- a group's sizes


Common = dict[str, Any]
"""What every kernel has: the fields of `Kernel`."""


def _of_entry(rows: Ledger, entry: Entry, precision: Precision) -> Iterator[AnyKernel]:
    for group in grouped(entry.rows):
        count = entry.count * _runs(entry, group)
        if is_scalar(count) and count == 0:
            continue
        stored = sum(op_bytes(rows, entry, op, precision) for op in group.ops)
        moved = precision.activation_bytes * sum(extent(o.axes, entry.sizes) for o in (*group.reads, *group.leaves))
        flops = sum(op.flops(entry.sizes) for op in group.ops)
        common = {"part": entry.part, "count": count, "flops": flops, "stored_bytes": stored, "activation_bytes": moved}
        yield _MAKE[group.kind](entry, group, common)


def _runs(entry: Entry, group: Group) -> Number:
    """1, or 0 where nothing is there to do: an encoder after the first step."""
    if not entry.may_rest and not all(op.line.may_rest for op in group.ops):
        return 1
    return minimum(1, sum(extent(op.line.outputs[0].axes, entry.sizes) for op in group.ops))


def _linear(entry: Entry, group: Group, common: Common) -> Linear:
    op, sizes = group.ops[0], entry.sizes
    axes = _axes(entry.rows, op)
    batch, m, k = (extent(letters, sizes) for letters in (axes.batch, axes.m, axes.k))
    n = sum(extent(_axes(entry.rows, other).n, sizes) for other in group.ops)
    routed = entry.rows.weights[op.line.weights[0].name].routed
    if routed is not None:
        batch = _touched(entry, op)
        m = m / batch
    return Linear(**common, batch=batch, m=m, n=n, k=k)


def _touched(entry: Entry, op: Op) -> Number:
    """Experts that the tokens reach between them."""
    weight, read = next(iter(entry.read_weights(op)))
    assert weight.routed is not None
    return read / entry.numel(weight) * entry.sizes[weight.routed[1]]


def _attention(entry: Entry, group: Group, common: Common) -> Attention:
    sizes = entry.sizes
    scores = [op for op in group.ops if op.kind == "matmul" and op.line.outputs[0].on_chip]
    (q, k), out = scores[0].line.inputs, scores[0].line.outputs[0]
    shared = [a for a in q.axes if a in k.axes]
    groups = [a for a in q.axes if a in out.axes and a not in (*k.axes, "T")]
    window = entry.rows.states[k.name].window if k.place == "cache" else None
    batch, new = sizes["B"], sizes["T"]
    keys = sum(product(sizes[a] for a in op.line.inputs[1].axes if a not in q.axes) for op in scores)
    pairs = sum(product(sizes[a] for a in op.line.outputs[0].axes if a not in (*shared, *groups)) for op in scores)
    return Attention(
        **common,
        batch=batch,
        kv_heads=product(sizes[a] for a in shared if a in out.axes and a != "B"),
        groups=product(sizes[a] for a in groups),
        head_dim=product(sizes[a] for a in shared if a not in out.axes),
        new=new,
        keys=keys,
        pairs=pairs,
        window=window,
        cut=pairs < new * keys if k.place != "cache" else False if window is None else sizes["S"] > window,
        causal=k.place == "cache",
        capped=any(op.kind == "vector" and op.line.outputs[0] == op.line.inputs[0] for op in group.ops),
    )


def _vector(entry: Entry, group: Group, common: Common) -> Vector:
    work = (op.vector(entry.sizes) + op.flops(entry.sizes) for op in group.ops)
    return Vector(**common, operations=sum(work))


_MAKE: Mapping[str, Callable[[Entry, Group, Common], AnyKernel]] = {
    "linear": _linear,
    "attention": _attention,
    "vector": _vector,
}
