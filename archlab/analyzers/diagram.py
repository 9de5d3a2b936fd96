"""A model's blocks as plain data, for whoever draws them: boxes with their facts, in the order in which they run.

Read from the spec's stacks, layers and residuals, and from what each block says of itself: its declared fields, sizes
and weights. Which block it is, is not asked: one that is not known here has its fields' own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from archlab.algebra import Number, is_scalar, product
from archlab.analyzers.diagram_words import Facts, Row, facts_of, norm_name, ratio, rows_of, title_of
from archlab.analyzers.params import params
from archlab.errors import SpecError
from archlab.layers import Block, Branch, Layer, Residual, Stack
from archlab.spec import ModelSpec

MOST_CELLS = 256
"""Layers beyond which their order is told by the pattern alone."""

TOLD_OF_TOWERS = ("image_size", "patch_size", "what")

Json = dict[str, Any]
Member = tuple[Layer, Block]


def diagram(spec: ModelSpec) -> Json:
    """The model as JSON: name, family, parameters, trained context, and its stacks, encoder first.

    A stack has boxes `before` its layers, `slots` (what a layer sums to the stream, in order), `around` them (AltUp),
    boxes `after`, and the `order` of its layers. A box has a title, its parameters in all layers, and rows of
    (key, label, values): one value, or one for each of its `columns`, kinds of layer.
    Raises SpecError where the number of layers is a column or a symbol.
    """
    if not is_scalar(spec.n_layers):
        raise SpecError(f"a diagram is of one model: n_layers={spec.n_layers} must be one number")
    towers = [_tower(stack) for stack in spec.stacks if stack.reads == "images"]
    texts = [stack for stack in spec.stacks if stack.reads != "images"]
    total = params(spec).total
    return {
        "name": spec.name, "family": spec.family, "context": _plain(spec.context), "params": _plain(total),
        "stacks": [_stack(stack, towers if stack is texts[0] else []) for stack in texts],
    }  # fmt: skip


def _plain(value: Any) -> int | None:
    return int(value) if is_scalar(value) else None


def _stack(stack: Stack, towers: list[Json]) -> Json:
    whole = sum(layer.count for layer in stack.layers)
    altup = [(layer, layer.altup) for layer in stack.layers if layer.altup is not None]
    scalars = [(layer, layer.layer_scalar) for layer in stack.layers if layer.layer_scalar is not None]
    return {
        "name": stack.name, "n_layers": whole, **_order(stack),
        "towers": towers,
        "before": [_alone(name, block) for name, block in stack.before],
        "around": _box("altup", altup, whole) if altup else None,
        "slots": [_slot(name, stack.layers, whole) for name in _names(stack.layers, lambda x: x.residuals)],
        "extra": [_slot(name, stack.layers, whole) for name in _names(stack.layers, lambda x: x.after)],
        "scalar": ", ".join(filter(None, ["times the layer's scalar", _some(scalars, whole)])) if scalars else None,
        "after": [_alone(name, block) for name, block in stack.after],
    }  # fmt: skip


def _names(layers: Sequence[Layer], of: Any) -> list[str]:
    """The names of residuals, in the order in which they run."""
    return list(dict.fromkeys(residual.name for layer in layers for residual in of(layer)))


# ---------------------------------------------------------------- the order of layers


def _order(stack: Stack) -> Json:
    """Sorts of layer, runs of (sort, how many), and the pattern in words."""
    sorts = [{"kind": x.kind, "reach": x.reach, "count": x.count, "changed": bool(x.spans)} for x in stack.layers]
    order = stack.in_order()
    pattern = _pattern([layer.kind for layer in order[: 2 * MOST_CELLS]])
    return {"sorts": sorts, "runs": _runs(stack, order) if len(order) <= MOST_CELLS else [], "pattern": pattern}


def _runs(stack: Stack, order: Sequence[Layer]) -> list[list[int]]:
    """[place among the sorts, how many of it follow one another]."""
    places = {id(layer): i for i, layer in enumerate(stack.layers)}
    return [[place, len(list(same))] for place, same in groupby(places[id(layer)] for layer in order)]


def _pattern(kinds: Sequence[str]) -> str:
    """The shortest period in words."""
    period = next(p for p in range(1, len(kinds) + 1) if all(k == kinds[i % p] for i, k in enumerate(kinds)))
    return ratio(kinds[:period])


# ---------------------------------------------------------------- what a layer sums to the stream


def _slot(name: str, layers: Sequence[Layer], whole: Number) -> Json:
    """One residual over all layers that have it: its norms, its boxes (one a sort of block), what stands beside it."""
    held = [(layer, r) for layer in layers for r in (*layer.residuals, *layer.after) if r.name == name]
    sorts: dict[str, list[Member]] = {}
    for layer, residual in held:
        sorts.setdefault(title_of(name, residual.block), []).append((layer, residual.block))
    return {
        "name": name,
        "pre": _norms(r.pre for _, r in held), "post": _norms(r.post for _, r in held),
        "joint": _norms(r.joint for _, r in held),
        "scale": next((f"times {r.scale:.3g}" for _, r in held if r.scale != 1), None),
        "boxes": [_box(name, members, whole) for members in sorts.values()],
        "beside": [_branch(branch, held, whole) for branch in _branches(r for _, r in held)],
    }  # fmt: skip


def _branches(residuals: Iterable[Residual]) -> list[str]:
    return list(dict.fromkeys(branch.name for residual in residuals for branch in residual.beside))


def _branch(name: str, held: Sequence[tuple[Layer, Residual]], whole: Number) -> Json:
    found: list[tuple[Layer, Branch]] = [(layer, b) for layer, r in held for b in r.beside if b.name == name]
    return {
        "name": name, "reads": found[0][1].reads,
        "pre": _norms(b.pre for _, b in found), "post": _norms(b.post for _, b in found),
        "box": _box(name, [(layer, b.block) for layer, b in found], whole),
    }  # fmt: skip


def _norms(blocks: Iterable[Block | None]) -> str | None:
    """The norm that stands there; None where there is none."""
    return " or ".join(dict.fromkeys(norm_name(block) for block in blocks if block is not None)) or None


# ---------------------------------------------------------------- boxes


def _alone(name: str, block: Block) -> Json:
    """A block outside of the layers."""
    rows = _rows(facts_of(name, block))
    return {
        "name": name,
        "part": block.part,
        "title": title_of(name, block),
        "params": _count([(1, block)]),
        "columns": [],
        "rows": rows,
    }


def _rows(facts: Facts) -> list[Row]:
    return [[key, label, [text]] for key, (label, text) in facts.items()]


def _box(name: str, members: Sequence[Member], whole: Number) -> Json:
    """The blocks of one sort of all layers: what is the same once, what differs by kind of layer in columns."""
    columns, rows = rows_of([(layer.kind, layer.count, facts_of(name, block)) for layer, block in members])
    beside = {"some": ("in", _some(members, whole)), "from": ("reads", _source(name, members[0][1]))}
    rows = [*_rows({key: said for key, said in beside.items() if said[1]}), *rows]
    return {
        "name": name, "part": members[0][1].part, "title": title_of(name, members[0][1]),
        "params": _count([(layer.count, block) for layer, block in members]),
        "columns": columns, "rows": rows,
    }  # fmt: skip


def _some(members: Sequence[tuple[Layer, Any]], whole: Number) -> str:
    """'18 of 26 layers'; nothing where it is all of them."""
    count = sum(layer.count for layer, _ in members)
    return f"{count} of {whole} layers" if count != whole else ""


def _source(name: str, block: Block) -> str:
    """What a block reads besides the stream: the encoder's output, which it keeps, or its slice of a table."""
    if any(state.capacity == "source" for state in block.rows.states.values()):
        return "encoder"
    return "per-layer embeddings" if name == "per_layer" else ""


def _count(blocks: Iterable[tuple[Number, Block]]) -> int | None:
    """Parameters that have storage of their own, in all layers."""
    sizes: list[tuple[Number, Block, Mapping[str, Number]]] = [(n, block, block.sizes()) for n, block in blocks]
    found = sum(
        n * product([letters[axis] for axis in weight.axes])
        for n, block, letters in sizes
        for weight in block.rows.weights.values()
        if weight.tied is None and weight.is_parameter
    )
    return _plain(found)


def _tower(stack: Stack) -> Json:
    """A tower as one box: what it reads, how many layers, what it makes of an image."""
    _, first = stack.before[0]
    facts = {key: said for key, said in facts_of("tower", first).items() if key in TOLD_OF_TOWERS}
    if not stack.counted:
        layers = sum(layer.count for layer in stack.layers)
        facts |= {"n_layers": ("layers", f"{layers:,}"), "d_model": ("d_model", f"{first.sizes()['D']:,}")}
    facts |= {"tokens": ("tokens an image" if stack.name == "vision" else "tokens, at most", f"{stack.tokens:,}")}
    blocks = [(1 if layer is None else layer.count, block) for _, block, layer in stack.blocks()]
    facts |= {"counted": ("known by", "its size alone")} if stack.counted else {}
    return {
        "name": stack.name,
        "part": stack.name,
        "title": f"{stack.name.capitalize()} tower",
        "params": _count(blocks),
        "columns": [],
        "rows": _rows(facts),
    }
