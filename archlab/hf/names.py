"""Where a checkpoint keeps a weight: names and axes as data, resolved for a spec into moves of tensors.

A table says for a weight of ours ("attention.o") the tensor of theirs and, where it needs saying, its axes in the
letters of our row: "self_attn.o_proj.weight D(NH)". From the letters follow shape, transposition and reshape. Unsaid, a
.weight has its last axis apart and the others as one, a .bias all as one, and anything else our own axes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from archlab.algebra import product
from archlab.errors import SpecError
from archlab.layers import Block, Stack
from archlab.rows import Weight, split_axes
from archlab.spec import ModelSpec

Axes = tuple[str, ...]
"""Axes of a tensor, each one or more letters: ("D", "NH")."""


@dataclass(frozen=True)
class Part:
    """A weight that is one of `of` equal parts of their tensor along an axis: gate, then up, of gate_up_proj."""

    name: str
    axis: str
    index: int
    of: int


@dataclass(frozen=True)
class Each:
    """A weight whose first axis is a list of their tensors, named with its index: altup_projections.{}.weight."""

    name: str


Name = str | Part | Each
Table = Mapping[str, Name]


@dataclass(frozen=True)
class Naming:
    """The names of a family.

    layers    stack -> what stands before a layer's tensors: "model.layers.{}."
    rows      stack -> table of the weights in its layers
    outside   full path of a weight outside the layers -> name
    counted   stack -> what the names of a tower that is known by its number begin with
    aliases   (pattern, replacement): other names for the same tensors, in released files and in older versions
    unused    patterns of tensors that a checkpoint may have beside and that nothing needs
    left_out  pattern of tensors that the model goes without unless they are infinite -> what that changes
    """

    layers: Mapping[str, str]
    rows: Mapping[str, Table]
    outside: Table
    counted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = (r"\.rotary_emb\.inv_freq$", r"\.position_ids$")
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """One tensor of theirs (or a part of it), and the weight of ours (or a slice of its first axis) that it is.

    shape   of their whole tensor
    start   (axis of theirs, first row, rows) where it is a part
    index   of our first axis, where their tensors are a list
    view    sizes of their part, letter by letter; `order` permutes these to ours
    weight  our row
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    order: tuple[int, ...]
    weight: Weight
    index: int | None = None
    start: tuple[int, int, int] | None = None


def moves(spec: ModelSpec, naming: Naming) -> list[Move]:
    """Every move between a checkpoint and a model. Raises SpecError for a weight that the family has no name for."""
    return [move for stack in spec.stacks for move in _stack_moves(spec, stack, naming)]


def _stack_moves(spec: ModelSpec, stack: Stack, naming: Naming) -> Iterator[Move]:
    for path, block in (*stack.before, *stack.after):
        for weight in block.weights():
            if weight.use != "counted":
                ours = f"{stack.prefix}{path}.{weight.name}"
                yield from _weight_moves(spec, block, weight, ours, naming.outside.get(ours), "")
    table, before = naming.rows.get(stack.name, {}), naming.layers.get(stack.name, "")
    for index, layer in enumerate(stack.in_order()):
        for path, block in layer.blocks():
            for weight in block.weights():
                ours = f"{stack.prefix}layers.{index}.{path}.{weight.name}"
                yield from _weight_moves(
                    spec, block, weight, ours, table.get(f"{path}.{weight.name}"), before.format(index)
                )


def _weight_moves(
    spec: ModelSpec, block: Block, weight: Weight, ours: str, name: Name | None, before: str
) -> Iterator[Move]:
    if name is None:
        raise SpecError(f"{ours} of {spec.name} has no name in checkpoints of family {spec.family}")
    text = name if isinstance(name, str) else name.name
    stem, _, said = text.partition(" ")
    axes = split_axes(weight.axes)
    sizes = {**block.sizes(), "1": 1}
    if isinstance(name, Each):
        each = axes[1:]
        for i in range(sizes[axes[0]]):
            yield _move(ours, before + stem.format(i), each, _theirs(stem, said, each), sizes, weight, index=i)
    else:
        part = name if isinstance(name, Part) else None
        yield _move(ours, before + stem, axes, _theirs(stem, said, axes), sizes, weight, part=part)


def _theirs(stem: str, said: str, axes: Axes) -> Axes:
    if said:
        return split_axes(said)
    if stem.endswith(".bias"):
        return ("".join(axes),)
    return ("".join(axes[:-1]), axes[-1]) if stem.endswith(".weight") and len(axes) > 1 else axes


def _move(
    ours: str,
    theirs: str,
    axes: Axes,
    their_axes: Axes,
    sizes: Mapping[str, int],
    weight: Weight,
    index: int | None = None,
    part: Part | None = None,
) -> Move:
    letters = [letter for axis in their_axes for letter in axis]
    shape = [product([sizes[letter] for letter in axis]) for axis in their_axes]
    start = None
    if part is not None:
        at = their_axes.index(part.axis)
        start = (at, shape[at] * part.index, shape[at])
        shape[at] *= part.of
    real = [letter for letter in letters if letter != "1"]
    return Move(
        ours,
        theirs,
        tuple(shape),
        view=tuple(sizes[letter] for letter in real),
        order=tuple(real.index(letter) for letter in axes),
        weight=weight,
        index=index,
        start=start,
    )


def canonical(name: str, known: Mapping[str, object], naming: Naming) -> str | None:
    """The name in `known` that a checkpoint's name stands for: itself, an alias, or either with another `model.`."""
    spellings = [name]
    for pattern, replacement in naming.aliases:
        changed = re.sub(pattern, replacement, spellings[-1])
        if changed != spellings[-1]:
            spellings.append(changed)
    for spelling in reversed(spellings):
        for candidate in (spelling, f"model.{spelling}", spelling.removeprefix("model.")):
            if candidate in known:
                return candidate
    return None
