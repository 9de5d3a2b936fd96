"""The most memory that activations take in a step: what stands when it is fullest, from the rows alone.

Torch runs a block op by op. A value that a line makes stands until the last line that reads it; beside it stand what
the op says it holds. Around the block stand the residual stream and what lives across layers: masks and angles, the
encoder's output, per-layer embeddings, keys and values that later layers read. In training what autograd saves is
summed over the layers, and the fullest moment is one of the loss, the head, the first or the last layer to go backward,
and the embedding: in between, saved values go and gradients come in proportion.

With attention="fused" what never leaves the chip (`~`) takes nothing: scores, their mask and their copies. With "eager"
it is a dense rectangle of tokens and keys, several times over: what `archlab check --memory` compares with torch's
tracker. An allocator rounds, and a device has a context and workspaces besides: not counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archlab.algebra import Number, is_column, maximum, minimum, where
from archlab.analyzers.liveness import FP32, How, Needs, given_bytes, needs, needs_once
from archlab.errors import SpecError, nearest
from archlab.ledger import Entry, Ledger, ledger
from archlab.precision import Precision, load_precision
from archlab.rows import extent
from archlab.spec import Layer, ModelSpec, Stack, Workload

ATTENTION = ("fused", "eager")
CHECKPOINTING = ("none", "selective", "full")
LOSS = ("full", "chunked", "fused")
GRADIENTS = ("kept", "made")

PARTS = ("stream", "shared", "block", "saved", "logits", "loss", "pending")
"""The residual stream; what lives across layers; the block that runs; what autograd saved of the layers; logits and
what is made of them; the loss; the gradient of a shared table that waits for the table's other use."""

Parts = dict[str, Number]

Group = Mapping[str, Entry]
"""Path -> the block there."""


@dataclass(frozen=True)
class Activations:
    """Bytes at the fullest moment.

    total      activations: all that is neither weights, cache, optimizer states nor gradients of weights
    gradients  of the weights that stand then beside them; 0 without training
    by_part    the total, split as PARTS says
    peak_at    the moment: 'global layers, attention', 'logits', 'loss'; 'varies' over columns
    formula    how it was counted, in words
    """

    total: Number
    gradients: Number
    by_part: Parts
    peak_at: str
    formula: str


def activations(
    spec: ModelSpec,
    work: Workload,
    precision: str | Precision = "bf16",
    attention: str = "fused",
    checkpointing: str = "none",
    loss: str = "full",
    gradients: str = "kept",
    chunk: int = 1024,
    rows: Ledger | None = None,
) -> Activations:
    """Bytes at the peak of a prefill (chunk) or a decode step with its cache, or of forward, loss and backward.

    precision      whose products say how wide an activation is: 2 bytes, or 4 in fp32
    attention      fused: scores stay on the chip | eager: they are stored
    checkpointing  none | selective: scores are computed again (Korthikanti et al., arXiv:2205.05198) | full: one stream
                   a layer is kept, and a layer is run again when it goes backward
    loss           full: cross-entropy in fp32 of all logits | chunked: `chunk` rows of them at a time | fused: no
                   logits are stored (Cut Your Losses, arXiv:2411.09009)
    gradients      kept: they stand throughout (several passes add up) | made: they come as the pass makes them
    rows           the rows of one rank, where several share the model; else all
    The last three and `chunk` (rows of logits) are of work.train. Logits are made of the rows that work.logits says.
    Raises ArchlabError.
    """
    for name, value, known in (("attention", attention, ATTENTION), ("checkpointing", checkpointing, CHECKPOINTING),
                               ("loss", loss, LOSS), ("gradients", gradients, GRADIENTS)):  # fmt: skip
        if value not in known:
            raise SpecError(f"{name}={value!r} must be one of {', '.join(known)}{nearest(str(value), known)}")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise SpecError(f"chunk={chunk!r} must be a whole number of 1 or more: rows of logits")
    width = load_precision(precision).activation_bytes
    how = How(width, attention == "fused", work.train, checkpointing)
    sections = [*_sections(ledger(spec, work) if rows is None else rows, work, how)]
    if not work.train:
        return _fullest([*_inference(sections)], "made", _words(how, loss, work))
    head = Loss(loss, chunk, width)
    found = _fullest([*_training(sections, how, head)], gradients, _words(how, loss, work))
    if gradients == "made":
        return found
    return replace(found, gradients=sum(p.needs.weights * p.count for s in sections for p in s.places))


def _words(how: How, loss: str, work: Workload) -> str:
    scores = "attention fused, scores on the chip" if how.fused else "attention eager, scores stored"
    each = f"{how.width} bytes an activation, fp32 where the model computes in it"
    if not work.train:
        return f"stream + what lives across layers + the fullest block, or logits; {each}; {scores}"
    kept = {
        "none": "all that autograd saves, over all layers", "selective": "what autograd saves without scores",
        "full": "one stream a layer + one layer run again",
    }[how.checkpointing]  # fmt: skip
    return f"{kept} + the fullest moment of loss or backward; loss {loss}; {each}; {scores}"


# ---------------------------------------------------------------- stacks


@dataclass(frozen=True)
class Place:
    """A block in its place, with what stands around it: streams, the normed stream that it reads."""

    label: str
    needs: Needs
    around: Number
    count: Number = 1
    of_layer: int | None = None
    is_head: bool = False
    entry: Entry | None = None


@dataclass(frozen=True)
class Section:
    """A stack: blocks before the layers, of the layers, after them; what lives across its layers; its residual stream
    as it enters a layer.
    """

    before: tuple[Place, ...]
    layers: tuple[Place, ...]
    after: tuple[Place, ...]
    shared: Number
    stream: Number

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them."""
        return (*self.before, *self.layers, *self.after)

    def scaled(self, runs: Number) -> Section:
        """With the gradients of its weights so many times."""
        places = ([replace(p, needs=replace(p.needs, weights=p.needs.weights * runs)) for p in part]
                  for part in (self.before, self.layers, self.after))  # fmt: skip
        before, layers, after = map(tuple, places)
        return replace(self, before=before, layers=layers, after=after)


def _sections(rows: Ledger, work: Workload, how: How) -> Iterator[Section]:
    by_path: dict[str, list[Entry]] = {}
    for entry in rows.entries:
        by_path.setdefault(entry.path, []).append(entry)
    for stack in rows.spec.stacks:
        section = _section(stack, by_path, how)
        if stack.reads == "images" and how.train:  # a tower that reads nothing gets no gradients
            section = section.scaled(minimum(1, work.new_images))
        yield section


def _section(stack: Stack, entries: Mapping[str, Sequence[Entry]], how: How) -> Section:
    """The stack's places, in the order in which they run; of a rank's rows, those that are there."""

    def found(blocks: Iterable[tuple[str, Any]], layer: Layer | None = None) -> Group:
        paths = ((path, entries.get(stack.prefix + path, ())) for path, _ in blocks)
        return {path: e for path, there in paths for e in there if layer is None or _is_of(e, layer)}

    before, after = found(stack.before), found(stack.after)
    groups = [(layer, found(layer.blocks(), layer)) for layer in stack.layers]
    groups = [(layer, group) for layer, group in groups if group]
    stream = _stream([entry for _, group in groups for entry in group.values()], how)
    first = [Place(path, needs_once(entry, how), stream * (i > 0)) for i, (path, entry) in enumerate(before.items())]
    inside = [p for i, (layer, group) in enumerate(groups) for p in _layer_places(i, layer, group, stream, how)]
    ends = [
        Place(path, needs_once(entry, how), given_bytes(entry, how), is_head=path == "head", entry=entry)
        for path, entry in after.items()
    ]
    lasting = sum(place.needs.lasting for place in (*first, *inside))
    return Section(tuple(first), tuple(inside), tuple(ends), lasting + _shared(groups, inside, how), stream)


def _is_of(entry: Entry, layer: Layer) -> bool:
    """Whether an entry stands in such layers."""
    if entry.indices is None or layer.indices is None:
        return entry.kind == layer.kind
    return bool(entry.indices) and entry.indices[0] in layer.indices


def _stream(entries: Sequence[Entry], how: How) -> Number:
    """Bytes of one residual stream: what the first block of a layer reads."""
    return given_bytes(entries[0], how) if entries else 0


def _layer_places(index: int, layer: Layer, group: Group, stream: Number, how: How) -> Iterator[Place]:
    """The blocks of a layer. The stream that entered it stands until it ends, beside the one that it has become, the
    normed stream that the block reads, and what stands beside the block.
    """
    entering = stream
    if layer.altup is not None:
        streams = extent(group["altup"].rows.ops[-1].line.outputs[0].axes, group["altup"].sizes) * how.width
        yield _place(index, layer, "altup", group, 2 * streams, how)
        entering = 2 * streams
    for i, residual in enumerate((*layer.residuals, *layer.after)):
        current = entering + (stream if i or layer.altup is not None else 0)
        for path, _ in residual.blocks():
            beside = not path.startswith(residual.name) or path.endswith("joint_norm")  # what the block made stands by
            reads = path.endswith(("post_norm", "joint_norm")) or (residual.pre is not None and "pre_norm" not in path)
            yield _place(index, layer, path, group, current + stream * (beside + reads), how)
    if layer.layer_scalar is not None:
        yield _place(index, layer, "layer_scalar", group, entering + stream, how)


def _place(index: int, layer: Layer, path: str, group: Group, around: Number, how: How) -> Place:
    label = f"{layer.name} layers, {path}"
    return Place(label, needs_once(group[path], how), around, group[path].count, index, entry=group[path])


def _shared(groups: Sequence[tuple[Layer, Group]], places: Sequence[Place], how: How) -> Number:
    """Masks and angles, one for each kind of layer; the encoder's output; keys and values that later layers read."""
    made: dict[object, Number] = {}
    for place in places:
        for value, n in place.needs.shared.items():
            made[groups[place.of_layer or 0][0].kind, value] = n
    for layer, group in groups:
        for entry in group.values():
            for op in entry.rows.ops:
                for operand in op.line.inputs:
                    if operand.name == "e" and not operand.place:
                        made["e"] = extent(operand.axes, entry.sizes) * how.width
                    lent = operand.place == "cache" and not entry.rows.states[operand.name].stored
                    if lent and entry.rows.states[operand.name].capacity == "window" and not how.train:
                        made[layer.kind, operand.name] = extent(operand.axes, entry.sizes) * how.width
    return sum(made.values())


# ---------------------------------------------------------------- moments


@dataclass(frozen=True)
class Moment:
    """What stands at one time."""

    label: str
    parts: Parts
    gradients: Number = 0

    @property
    def total(self) -> Number:
        """The activations."""
        return sum(self.parts.values())


def _inference(sections: Sequence[Section]) -> Iterator[Moment]:
    for section in sections:
        for place in (*section.before, *section.layers):
            parts = {"stream": place.around, "shared": section.shared, "block": place.needs.forward}
            yield Moment(place.label, parts)
        for place in section.after:
            part = "logits" if place.is_head else "block"
            yield Moment("logits" if place.is_head else place.label,
                         {"stream": place.around, "shared": section.shared, part: place.needs.forward})  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """How the loss is computed."""

    kind: str
    chunk: int
    width: int

    def rows(self, entry: Entry) -> Entry:
        """The head on the rows that it works on at once."""
        if self.kind == "full":
            return entry
        rows = entry.sizes["B"] * entry.sizes["R"]
        return replace(entry, sizes={**entry.sizes, "B": 1, "R": minimum(self.chunk, rows)})

    def logits(self, entry: Entry) -> Number:
        """Logits that stand at once."""
        return extent(entry.rows.ops[-1].line.outputs[0].axes, entry.sizes)

    def forward(self, logits: Number) -> Number:
        """Logits, a copy in fp32, the logarithms of the softmax in fp32."""
        return logits * (self.width + FP32 + (FP32 if self.width < FP32 else 0) - (FP32 if self.width == FP32 else 0))

    def backward(self, logits: Number) -> Number:
        """The logarithms, their gradient, and that of the logits, in fp32."""
        return 3 * FP32 * logits


def _training(sections: Sequence[Section], how: How, loss: Loss) -> Iterator[Moment]:
    """Of each stack the fullest moments of its backward pass; the loss comes with the last."""
    shared = sum(section.shared for section in sections)
    ends = sum(p.needs.saved for s in sections for p in (*s.before, *s.after) if not p.is_head)
    everything = ends + sum(_saved_by_layers(section, how) for section in sections)
    gradients: Number = 0
    pending: Number = 0
    for section in reversed(sections):
        for place in reversed(section.after):
            if place.is_head:
                yield from _head(place, everything, shared, how, loss)
                pending = pending + place.needs.tied
            gradients = gradients + place.needs.weights
            everything = everything - (0 if place.is_head else place.needs.saved)
        rest = {"shared": shared, "pending": pending}
        below = everything - _saved_by_layers(section, how) - sum(p.needs.saved for p in section.before)
        own = sum(p.needs.weights * p.count for p in section.layers)
        for place in section.layers:
            yield from _of_last_and_first(section, place, everything, below, gradients, own, rest, how)
        everything, gradients = below, gradients + own
        for place in reversed(section.before):
            table = place.needs.weights
            waits = minimum(pending, table + place.needs.tied) if place is section.before[0] else 0
            # a table used twice: the gradient that waited, the one of this use, and their sum
            fresh = 2 * waits + maximum(table - waits, 0)
            parts = rest | {"saved": everything, "block": place.needs.backward + fresh, "pending": pending}
            yield Moment(f"backward, {place.label}", parts, gradients)
            gradients = gradients + table
            pending = pending - minimum(waits, table)


def _saved_by_layers(section: Section, how: How) -> Number:
    """What all layers keep from the forward pass: all that autograd saves, all but scores, or the streams."""
    if how.checkpointing == "full":
        return section.stream * sum({p.of_layer: p.count for p in section.layers}.values())
    without = how.checkpointing == "selective"
    return sum((p.needs.saved - (p.needs.scores if without else 0)) * p.count for p in section.layers)


def _of_last_and_first(
    section: Section,
    place: Place,
    everything: Number,
    below: Number,
    gradients: Number,
    own: Number,
    rest: Parts,
    how: How,
) -> Iterator[Moment]:
    """A block of a layer going backward: with what all layers saved and no gradients of theirs, as if the last layer
    were of its kind, and with what is below the layers and all gradients, as if the first were. What is saved is let go
    from the layer's end.
    """
    layer = [p for p in section.layers if p.of_layer == place.of_layer]
    at = layer.index(place)
    saved = sum(p.needs.saved for p in layer[: at + 1])
    again = {"full": saved, "selective": place.needs.scores, "none": 0}[how.checkpointing]
    gone = 0 if how.checkpointing == "full" else sum(p.needs.saved for p in layer[at + 1 :])
    block = {"block": place.needs.backward + section.stream}
    yield Moment(f"backward, {place.label}", {"saved": everything + again - gone} | block | rest, gradients)
    bottom = below + sum(p.needs.saved for p in section.before) + saved
    made = gradients + own - sum(p.needs.weights for p in layer[:at])
    yield Moment(f"backward, {place.label}", {"saved": bottom} | block | rest, made)


def _head(place: Place, saved: Number, shared: Number, how: How, loss: Loss) -> Iterator[Moment]:
    """Logits and loss, forward and backward."""
    assert place.entry is not None
    base = {"saved": saved, "shared": shared}
    if loss.kind == "fused":
        parts = {"logits": place.around, "loss": place.around, "pending": place.needs.tied}
        yield Moment("backward, loss", base | parts, place.needs.weights)
        return
    entry = loss.rows(place.entry)
    head, logits = needs(entry, how), loss.logits(entry)
    own = head.saved - given_bytes(entry, how) + place.around  # the stream that it reads is whole
    yield Moment("logits", base | {"stream": place.around, "logits": head.forward})
    yield Moment("loss", base | {"logits": own, "loss": loss.forward(logits)})
    yield Moment("backward, loss", base | {"logits": own, "loss": loss.backward(logits)})
    yield Moment("backward, logits", base | {"logits": own + head.backward, "pending": head.tied}, head.weights)


def _fullest(moments: Sequence[Moment], gradients: str, formula: str) -> Activations:
    """The moment that is largest: with the gradients made by then, or by activations alone."""
    if not moments:  # a rank without layers
        return Activations(0, 0, {}, "nowhere", formula)
    every = dict.fromkeys(PARTS, 0)
    best = moments[0]
    parts, made, label = every | best.parts, best.gradients, best.label
    top = best.total + (best.gradients if gradients == "made" else 0)
    for moment in moments[1:]:
        size = moment.total + (moment.gradients if gradients == "made" else 0)
        larger = size > top
        if is_column(larger):
            label = "varies"
        elif larger:
            label = moment.label
        new = every | moment.parts
        parts = {part: where(larger, new[part], parts[part]) for part in PARTS}
        made = where(larger, moment.gradients, made)
        top = maximum(top, size)
    total = top - made if gradients == "made" else top
    return Activations(total, made, {p: n for p, n in parts.items() if is_column(n) or n}, label, formula)
