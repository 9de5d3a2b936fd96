"""Every block of a stack in its place: what it needs itself, and what stands around it while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archlab.algebra import Number, minimum
from archlab.analyzers.liveness import How, Needs, given_bytes, needs_once
from archlab.layers import Layer, Stack
from archlab.ledger import Entry, Ledger
from archlab.rows import extent
from archlab.workload import Workload

Group = Mapping[str, Entry]
"""Path -> the block there."""


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


def sections_of(rows: Ledger, work: Workload, how: How) -> Iterator[Section]:
    """The stacks, in the order in which they run."""
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
        Place(path, needs_once(entry, how), given_bytes(entry, how), is_head=entry.part == "head", entry=entry)
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
