"""From the keys of a model file to a spec: the sections become blocks, the blocks layers, the layers stacks.

What a block is told by the file is a field with an explanation; what it is told by its stack (d_model, eps, the width
of the encoder ...) is a field without one, and is given to each block that has it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from operator import itemgetter
from typing import Any

from archlab.algebra import Number, is_scalar, is_symbol
from archlab.blocks import (
    MLP,
    AltUp,
    AltUpMerge,
    AltUpSplit,
    Counted,
    CountedProjector,
    CrossAttention,
    Embedding,
    Head,
    Laurel,
    LayerNorm,
    LayerScalar,
    MoE,
    NormSection,
    Patches,
    PerLayerEmbedding,
    PerLayerInput,
    PositionEmbedding,
    Projector,
    RMSNorm,
)
from archlab.errors import SpecError
from archlab.fields import check_fields, fields_of
from archlab.layers import Block, Branch, Layer, Residual, Stack, repeat_pattern
from archlab.schema import (
    MIXER,
    PLAIN_MIXER,
    SPANS,
    TOP,
    TOWERS,
    Tower,
    check_kinds,
    check_span,
    check_tree,
    encoder_tree,
    expand_pattern,
    in_span,
    layers_of,
    mixer,
    refuse_dead,
)
from archlab.spec import ModelSpec

Tree = Mapping[str, Any]


def resolve(data: Tree) -> ModelSpec:
    """Checks the keys and assembles the spec. Raises SpecError with one sentence."""
    check_tree(data)
    top = {k: v for k, v in data.items() if k in TOP}
    check_fields(ModelSpec, "", top)
    refuse_dead(data, data)
    stacks: dict[str, Any] = {}
    encoder = encoder_tree(data) if data.get("encoder") is not None else None
    if encoder is not None:
        refuse_dead(encoder, data["encoder"], "encoder.")
    reader = data if encoder is None else encoder
    for name in TOWERS:
        if data.get(name) is not None:
            stacks[name] = _tower(name, data[name], reader["d_model"])
    image_tokens = stacks["vision"].tokens if "vision" in stacks else None
    if encoder is not None:
        stacks["encoder"] = _stack("encoder", encoder, image_tokens=image_tokens, context=data["context"])
    d_source = encoder["d_model"] if encoder is not None else None
    table = stacks["encoder"].before[0][1] if encoder is not None else None
    given = {"d_source": d_source, "source_table": table, "image_tokens": None if encoder else image_tokens}
    stacks["decoder"] = _stack("decoder", data, **given, context=data["context"])
    spec = ModelSpec(**{**top, "pattern": expand_pattern(top["pattern"])}, **stacks, data=dict(data))
    for path, condition, sentence in rules(spec):
        if condition is False:
            raise SpecError(f"{path}: {sentence()}")
    return spec


def rules(spec: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    """(where, condition, sentence) of every rule of every block. On columns the condition is a mask."""
    for stack in spec.stacks:
        for path, block, layer in stack.blocks():
            for condition, sentence in block.rules():
                where = _where(spec, stack, path, block, layer, sentence()) if condition is False else path
                yield where, condition, sentence
    for stack in spec.stacks:
        yield from _rules_of_sharing(spec, stack)
    for stack in spec.stacks:
        kept = any(block.rows.states for _, block, _ in stack.blocks())
        why = f"it reads whole sequences, so its layers need mask: bidirectional ({stack.name}.attention)"
        yield stack.name, stack.reads == "tokens" or not kept, partial(str, why)
    if spec.encoder is not None:
        read = any(s.capacity == "source" for _, b, _ in spec.decoder.blocks() for s in b.rows.states.values())
        yield "encoder", read, lambda: "nothing reads it; the decoder needs cross_attention or attention.source: merged"


SECTION_OF = {
    "altup_split": "altup",
    "altup_merge": "altup",
    "per_layer": "per_layer_embedding",
    "tower": "counted",
}
"""The section that a block comes from, where it has not the block's name."""


def _where(spec: ModelSpec, stack: Stack, path: str, block: Block, layer: Layer | None, sentence: str) -> str:
    """The section whose key breaks a rule: the last that sets a field of which the sentence tells the value."""
    fields = fields_of(type(block))
    compared = [name for name in re.findall(r"(\w+) \(", sentence) if name in fields]
    named = compared or [name for name in re.findall(r"\w+", sentence) if name in fields][:1]
    section = SECTION_OF.get(path, path)
    if stack.name == "encoder":
        tree: Tree = encoder_tree(spec.data)
    else:
        tree = spec.data if stack.name == "decoder" else spec.data[stack.name]
    for place in _places(section, layer):
        entry: Any = tree
        for name in place:
            entry = entry.get(name) or {}
        if any(name in entry for name in named):
            return stack.prefix + ".".join(place)
    return stack.prefix + section


def _places(section: str, layer: Layer | None) -> Iterator[tuple[str, ...]]:
    """Where the keys of a block may stand, what wins first."""
    sections = (layer.kind, MIXER) if layer is not None and section == MIXER else (section,)
    for span in reversed(layer.spans if layer is not None else ()):
        for name in sections:
            yield SPANS, span, name
    for name in sections:
        yield (name,)


@cache
def _given_names(schema: type) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(schema) if "doc" not in f.metadata)


@dataclass(frozen=True)
class Sections:
    """The keys of one stack, and what the stack gives to its blocks. `prefix` stands before paths in sentences."""

    tree: Tree
    given: Tree
    prefix: str = ""

    def has(self, name: str) -> bool:
        """Whether the file has a section of that name."""
        return self.tree.get(name) is not None

    def keys(self, name: str) -> Tree:
        """What a section says; nothing where there is none."""
        entry: Tree = self.tree[name] if self.has(name) else {}
        return entry

    def make(self, schema: Any, name: str, keys: Tree | None = None) -> Any:
        """A block of its section's keys (or of those given) and of what the stack gives. Raises SpecError."""
        told = self.keys(name) if keys is None else keys
        check_fields(schema, self.prefix + name, told)
        names = _given_names(schema)
        return schema(**told, **{name: value for name, value in self.given.items() if name in names})

    def optional(self, schema: Any, name: str) -> Any:
        """The same, or None where the file has no such section."""
        return self.make(schema, name) if self.has(name) else None

    def changed(self, spans: Iterable[str]) -> Sections:
        """The sections as the layers of some spans have them."""
        tree = self.tree
        for name in spans:
            tree = in_span(tree, name)
        return dataclasses.replace(self, tree=tree)


def _sections(tree: Tree, prefix: str, given: Tree) -> tuple[Sections, NormSection]:
    """A stack's sections, with what its norms say among what it gives."""
    norms: NormSection = Sections(tree, {}, prefix).make(NormSection, "norm")
    own = {k: tree[k] for k in ("d_model", "n_layers", "vocab_size") if k in tree}
    told = {"norm_eps": norms.eps, "norm_plus_one": norms.gain == "one_plus"}
    return Sections(tree, {**given, **own, **told}, prefix), norms


def _norm(section: NormSection, d_model: Number) -> Block:
    if section.type == "layer":
        return LayerNorm(d_model=d_model, eps=section.eps)
    return RMSNorm(d_model=d_model, eps=section.eps, plus_one=section.gain == "one_plus")


# ---------------------------------------------------------------- an encoder or a decoder


def _stack(name: str, tree: Tree, **given: Any) -> Stack:
    pattern = expand_pattern(tree["pattern"])
    check_kinds(dict.fromkeys(pattern), tree)
    sections, norms = _sections(tree, "" if name == "decoder" else f"{name}.", given)
    before: dict[str, Block | None] = {
        "embedding": sections.make(Embedding, "embedding"),
        "position_embedding": sections.optional(PositionEmbedding, "position_embedding"),
        "per_layer_embedding": sections.optional(PerLayerEmbedding, "per_layer_embedding"),
        "altup_split": sections.optional(AltUpSplit, "altup"),
    }
    head: Head = sections.make(Head, "head")
    after: dict[str, Block | None] = {
        "altup_merge": sections.optional(AltUpMerge, "altup"),
        "final_norm": _norm(norms, tree["d_model"]),
        "head": head if name == "decoder" and head.logits else None,
    }
    layers = tuple(_layers(sections, pattern, norms))
    return Stack(name, _there(before), layers, _there(after), reads="source" if name == "encoder" else "tokens")


def _there(blocks: Mapping[str, Block | None]) -> tuple[tuple[str, Block], ...]:
    return tuple((name, block) for name, block in blocks.items() if block is not None)


def _layers(sections: Sections, pattern: tuple[str, ...], norms: NormSection) -> Iterator[Layer]:
    """Layers that are alike, in the order in which the first of each comes."""
    n_layers = sections.tree["n_layers"]
    if not sections.keys(SPANS):
        for kind, count in repeat_pattern(pattern, n_layers).items():
            indices = _indices(pattern, kind, n_layers)
            if indices != ():
                yield _layer(sections, kind, (), count, indices, norms)
        return
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index, held in enumerate(_held(sections, pattern, n_layers)):
        groups.setdefault((pattern[index % len(pattern)], held), []).append(index)
    for (kind, held), members in groups.items():
        yield _layer(sections.changed(held), kind, held, len(members), tuple(members), norms)


def _held(sections: Sections, pattern: tuple[str, ...], n_layers: Number) -> Iterator[tuple[str, ...]]:
    """The spans that hold each layer."""
    where = f"{sections.prefix}{SPANS}"
    if not is_scalar(n_layers):
        raise SpecError(f"{sections.prefix}n_layers must be one number where spans name layers by their position")
    within = {}
    for name, entry in sections.keys(SPANS).items():
        if "layers" not in entry:
            raise SpecError(f"{where}.{name}.layers is missing: which layers it changes, such as '-10:'")
        within[name] = layers_of(entry["layers"], n_layers, f"{where}.{name}.layers")
        check_span(sections.tree, name, {pattern[i % len(pattern)] for i in within[name]}, f"{where}.{name}")
    for index in range(n_layers):
        yield tuple(name for name, layers in within.items() if index in layers)


def _layer(
    sections: Sections,
    kind: str,
    spans: tuple[str, ...],
    count: Number,
    indices: tuple[int, ...] | None,
    norms: NormSection,
) -> Layer:
    """The layers of one kind, wired: what is summed with what, and which norms stand where."""
    norm = _norm(norms, sections.given["d_model"])
    post = norm if norms.post else None
    residuals = [_mixing(sections, kind, norm, post)]
    if sections.has("cross_attention"):
        told = {k: v for k, v in sections.keys(MIXER).items() if k in fields_of(CrossAttention)}
        cross = sections.make(CrossAttention, "cross_attention", {**told, **sections.keys("cross_attention")})
        residuals.append(Residual("cross_attention", cross, norm, post))
    residuals.append(_feed_forward(sections, norm, post))
    own = sections.optional(PerLayerInput, "per_layer_embedding")
    return Layer(
        kind, tuple(residuals), count, indices, spans,
        altup=sections.optional(AltUp, "altup"),
        after=() if own is None else (Residual("per_layer", own, None),),
        layer_scalar=sections.optional(LayerScalar, "layer_scalar"),
    )  # fmt: skip


def _mixing(sections: Sections, kind: str, norm: Block, post: Block | None) -> Residual:
    """What mixes tokens; with LAuReL beside it the sum is over the square root of 2."""
    schema = mixer(sections.tree, kind)
    own = {k: v for k, v in sections.keys(kind).items() if k != "block"}
    shared = sections.keys(MIXER)
    if schema is not PLAIN_MIXER:  # another block takes what it knows of the attention's keys
        shared = {k: v for k, v in shared.items() if k in fields_of(schema) and k not in own}
        foreign = next((k for k in own if k not in fields_of(schema)), None)
        if foreign is not None:
            raise SpecError(
                f"{sections.prefix}{kind}.{foreign} has no effect with block: {sections.keys(kind)['block']}, which "
                f"has no {foreign}; name a kind of its own in the pattern"
            )
    block = sections.make(schema, MIXER if schema is PLAIN_MIXER else kind, {**shared, **own})
    laurel: Laurel | None = sections.optional(Laurel, "laurel")
    if laurel is None:
        return Residual(MIXER, block, norm, post)
    return Residual(MIXER, block, norm, post, beside=(Branch("laurel", laurel, "normed"),), scale=2**-0.5)


def _feed_forward(sections: Sections, norm: Block, post: Block | None) -> Residual:
    """The dense MLP; experts beside it read the stream, and the sum has a norm of its own."""
    mlp: MLP = sections.make(MLP, "mlp")
    moe: MoE | None = sections.optional(MoE, "moe")
    if moe is None:
        return Residual("mlp", mlp, norm, post)
    return Residual("mlp", mlp, norm, post, beside=(Branch("moe", moe, "stream", post=post),), joint=norm)


def _rules_of_sharing(spec: ModelSpec, stack: Stack) -> Iterator[tuple[str, Any, Any]]:
    """A layer that shares K/V has an earlier one of its kind with K/V of its own, and of its sizes."""
    owners: dict[str, tuple[int, Block]] = {}
    seen: set[tuple[int, int]] = set()
    layers = [(index, layer) for layer in stack.layers for index in layer.indices or (0,)]
    for index, layer in sorted(layers, key=itemgetter(0)):
        mixing = layer.residuals[0].block
        if getattr(mixing, "kv", "own") == "own":
            owners[layer.kind] = (index, mixing)
            continue
        at, owner = owners.get(layer.kind, (index, mixing))
        if (id(mixing), id(owner)) in seen:
            continue
        seen.add((id(mixing), id(owner)))
        where = _where(spec, stack, MIXER, mixing, layer, "kv")
        alone = f"layer {index} shares K/V, but no {layer.kind} layer before it has its own"
        yield where, layer.kind in owners, partial(str, alone)
        for name in ("n_kv_heads", "head_dim", "window"):
            mine, kept = mixing.facts()[name], owner.facts()[name]
            differs = f"layer {index} reads the K/V of layer {at}, so {name} ({mine}) must be {kept}"
            yield where, _equal(mine, kept), partial(str, differs)


def _equal(a: Number, b: Number) -> Any:
    """Whether two sizes (None: none) are equal: a bool, or a column. A symbol is given the benefit of the doubt."""
    return True if is_symbol(a) or is_symbol(b) else a is b if a is None or b is None else a == b


def _indices(pattern: tuple[str, ...], kind: str, n_layers: Number) -> tuple[int, ...] | None:
    if not is_scalar(n_layers):
        return None
    return tuple(i for i in range(n_layers) if pattern[i % len(pattern)] == kind)


# ---------------------------------------------------------------- a tower


def _tower(name: str, tree: Tree, d_out: Number) -> Stack:
    """Patches, layers, projector; or a number of parameters."""
    if tree.get("counted") is not None:
        return _counted(name, tree)
    check_fields(Tower, name, {k: v for k, v in tree.items() if k in fields_of(Tower)})
    sections, norms = _sections(tree, f"{name}.", {"d_out": d_out})
    patches: Patches = sections.make(Patches, "patches")
    sections = dataclasses.replace(sections, given={**sections.given, "side": patches.side})
    projector: Projector = sections.make(Projector, "projector")
    n_layers = tree["n_layers"]
    layer = _layer(sections, "global", (), n_layers, _indices(("global",), "global", n_layers), norms)
    norm = _norm(norms, tree["d_model"]) if tree.get("final_norm", True) else None
    return Stack(
        name, (("patches", patches),), (layer,), _there({"final_norm": norm, "projector": projector}),
        reads="images", length=patches.side * patches.side, tokens=projector.tokens, token=tree.get("token"), part=name,
    )  # fmt: skip


def _counted(name: str, tree: Tree) -> Stack:
    others = [key for key in tree if key not in ("counted", "token")]
    if others:
        raise SpecError(f"{name}.{others[0]} has no effect: {name}.counted says that only a number is known")
    sections = Sections(tree, {}, f"{name}.")
    tower: Counted = sections.make(Counted, "counted")
    project: CountedProjector = sections.make(CountedProjector, "counted")
    return Stack(
        name, (("tower", tower),), (), (("projector", project),),
        reads="images", tokens=tower.tokens, token=tree.get("token"), part=name, counted=True,
    )  # fmt: skip
