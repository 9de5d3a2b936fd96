"""The moments at which memory may be fullest: of a forward pass, and of a loss and the backward pass after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from archlab.algebra import Number, maximum, minimum
from archlab.analyzers.activation_places import Place, Section
from archlab.analyzers.liveness import FP32, How, given_bytes, needs
from archlab.ledger import Entry
from archlab.rows import extent

PARTS = ("stream", "shared", "block", "saved", "logits", "loss", "pending")
"""The residual stream; what lives across layers; the block that runs; what autograd saved of the layers; logits and
what is made of them; the loss; the gradient of a shared table that waits for the table's other use."""

Parts = dict[str, Number]


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


def inference(sections: Sequence[Section]) -> Iterator[Moment]:
    """Every block as it runs; of a stack of which logits are made, those too."""
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


def training(sections: Sequence[Section], how: How, loss: Loss) -> Iterator[Moment]:
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
