"""What sets a model apart, in its blocks' own words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archlab.algebra import Number
from archlab.layers import Stack
from archlab.spec import ModelSpec


@dataclass(frozen=True)
class Special:
    """One thing: its short name, a sentence, and of how many layers of which stack it is true (None: of the stack)."""

    stack: str
    what: str
    words: str
    layers: Number | None
    of: Number

    def __str__(self) -> str:
        who = ["encoder"] if self.stack == "encoder" else []
        some = [f"{self.layers} of {self.of} layers"] if self.layers not in (None, self.of) else []
        where = f" ({', '.join(who + some)})" if who or some else ""
        return f"{self.what}{where}: {self.words}"


def special(spec: ModelSpec) -> Iterator[Special]:
    """Each thing that a block of the encoder or the decoder says of itself, once."""
    for stack in (spec.encoder, spec.decoder):
        if stack is not None:
            yield from _of_stack(stack)


def _of_stack(stack: Stack) -> Iterator[Special]:
    found: dict[tuple[str, str], Number | None] = {}
    for _, block, layer in stack.blocks():
        for said in block.special():
            found[said] = None if layer is None else (found.get(said) or 0) + layer.count
    whole = sum(layer.count for layer in stack.layers)
    for (what, words), count in found.items():
        yield Special(stack.name, what, words, count, whole)


def short(spec: ModelSpec) -> list[str]:
    """The short names alone, towers included: 'per-layer embeddings', 'KV sharing', 'vision'."""
    names = [*dict.fromkeys(item.what for item in special(spec))]
    towers = [stack for stack in spec.stacks if stack.reads == "images"]
    return names + [f"{tower.name} (counted)" if tower.counted else tower.name for tower in towers]
