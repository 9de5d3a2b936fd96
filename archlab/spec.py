"""What a model is: its sizes, its stacks of layers, and which workloads it can be given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.algebra import Number
from archlab.errors import SpecError
from archlab.fields import MOST_LAYERS, Rule, at_most, line, names, same, size, text
from archlab.layers import Layer, Stack
from archlab.shown import Shown
from archlab.workload import Workload


@dataclass(frozen=True)
class ModelSpec(Shown):
    """A model as data: what `load` returns. Read by the ledger and by the builder, written by neither.

    `data` is the resolved YAML, from which overrides and sweeps start. Sizes are ints, or columns of them.
    `decoder` and `encoder` are stacks of layers with their blocks, `vision` and `audio` towers; None: not there.
    """

    name: str = line("how the model is called")
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
