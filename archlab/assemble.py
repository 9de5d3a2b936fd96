"""From the keys of a model file to a spec: the sections become blocks, the blocks layers, the layers stacks.

What a block is told by the file is a field with an explanation; what it is told by its stack (d_model, eps, the width
of the encoder ...) is a field without one, and is given to each block that has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from archlab.algebra import Number, is_scalar
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
    Projector,
    RMSNorm,
)
from archlab.errors import SpecError
from archlab.schema import (
    MIXER,
    TOP,
    TOWERS,
    Tower,
    check_kinds,
    check_tree,
    encoder_tree,
    expand_pattern,
    layers_of,
    merged,
    mixer,
    refuse_dead,
)
from archlab.spec import (
    Block,
    Branch,
    Layer,
    ModelSpec,
    Residual,
    Stack,
    check_fields,
    fields_of,
    repeat_pattern,
)

Tree = Mapping[str, Any]


def resolve(data: Tree) -> ModelSpec:
    """Checks the keys and assembles the spec. Raises SpecError with one sentence."""
    check_tree(data)
    top = {k: v for k, v in data.items() if k in TOP}
    check_fields(ModelSpec, "", top)
    refuse_dead(data)
    stacks: dict[str, Any] = {}
    encoder = encoder_tree(data) if data.get("encoder") is not None else None
    reader = data if encoder is None else encoder
    for name in TOWERS:
        if data.get(name) is not None:
            stacks[name] = _tower(name, data[name], reader["d_model"])
    image_tokens = stacks["vision"].tokens if "vision" in stacks else 0
    if encoder is not None:
        stacks["encoder"] = _stack("encoder", encoder, image_tokens=image_tokens)
    d_source = encoder["d_model"] if encoder is not None else None
    table = stacks["encoder"].before[0][1] if encoder is not None else None
    given = {"d_source": d_source, "source_table": table, "image_tokens": 0 if encoder else image_tokens}
    stacks["decoder"] = _stack("decoder", data, **given)
    spec = ModelSpec(**{**top, "pattern": expand_pattern(top["pattern"])}, **stacks, data=dict(data))
    for path, condition, sentence in rules(spec):
        if condition is False:
            raise SpecError(f"{path}: {sentence()}")
    for stack in spec.stacks:
        _check_shared(stack.layers, stack.prefix)
    return spec


def rules(spec: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    """(where, condition, sentence) of every rule of every block. On columns the condition is a mask."""
    for stack in spec.stacks:
        for path, block, layer in stack.blocks():
            mixing = layer is not None and path == MIXER and len(stack.layers) > 1
            where = layer.kind if layer is not None and mixing else path
            for condition, sentence in block.rules():
                yield stack.prefix + where, condition, sentence
    for stack in spec.stacks:
        kept = any(block.rows.states for _, block, _ in stack.blocks())
        yield (
            stack.name,
            stack.reads == "tokens" or not kept,
            lambda name=stack.name: (
                f"it reads whole sequences, so its layers need mask: bidirectional ({name}.attention)"
            ),
        )
    if spec.encoder is not None:
        read = any(s.capacity == "source" for _, b, _ in spec.decoder.blocks() for s in b.rows.states.values())
        yield "encoder", read, lambda: "nothing reads it; the decoder needs cross_attention or attention.source: merged"


@cache
def _given_names(schema: type) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(schema) if "doc" not in f.metadata)


def _make(schema: Any, path: str, keys: Tree, given: Tree) -> Any:
    """A block of its section's keys and of what its stack gives."""
    check_fields(schema, path, keys)
    names = _given_names(schema)
    return schema(**keys, **{name: value for name, value in given.items() if name in names})


def _section(tree: Tree, name: str) -> Tree:
    entry = tree.get(name)
    return {} if entry is None else entry


def _norm(section: NormSection, d_model: Number) -> Block:
    if section.type == "layer":
        return LayerNorm(d_model=d_model, eps=section.eps)
    return RMSNorm(d_model=d_model, eps=section.eps, plus_one=section.gain == "one_plus")


# ---------------------------------------------------------------- an encoder or a decoder


def _stack(name: str, tree: Tree, **given: Any) -> Stack:
    prefix = "" if name == "decoder" else f"{name}."
    pattern = expand_pattern(tree["pattern"])
    check_kinds(dict.fromkeys(pattern), tree)
    norms: NormSection = _make(NormSection, f"{prefix}norm", _section(tree, "norm"), {})
    given = {**given, **{k: tree[k] for k in ("d_model", "n_layers", "vocab_size")}}
    given |= {"norm_eps": norms.eps, "norm_plus_one": norms.gain == "one_plus"}
    after: list[tuple[str, Block]] = [("final_norm", _norm(norms, tree["d_model"]))]
    before: list[tuple[str, Block]] = [
        ("embedding", _make(Embedding, f"{prefix}embedding", _section(tree, "embedding"), given))
    ]
    if tree.get("per_layer_embedding") is not None:
        keys = tree["per_layer_embedding"]
        before.append(("per_layer_embedding", _make(PerLayerEmbedding, f"{prefix}per_layer_embedding", keys, given)))
    if tree.get("altup") is not None:
        before.append(("altup_split", _make(AltUpSplit, f"{prefix}altup", tree["altup"], given)))
        after.insert(0, ("altup_merge", _make(AltUpMerge, f"{prefix}altup", tree["altup"], given)))
    head: Head = _make(Head, f"{prefix}head", _section(tree, "head"), given)
    if name == "decoder" and head.logits:
        after.append(("head", head))
    layers = tuple(_layers(tree, pattern, norms, given, prefix))
    reads = "source" if name == "encoder" else "tokens"
    return Stack(name, tuple(before), layers, tuple(after), reads=reads)


def _layers(tree: Tree, pattern: tuple[str, ...], norms: NormSection, given: Tree, prefix: str) -> Iterator[Layer]:
    """Layers that are alike, in the order in which the first of each comes."""
    n_layers, spans = tree["n_layers"], _section(tree, "spans")
    if not spans:
        for kind, count in repeat_pattern(pattern, n_layers).items():
            indices = _indices(pattern, kind, n_layers)
            if indices != ():
                yield _layer(tree, kind, (), count, indices, norms, given, prefix)
        return
    if not is_scalar(n_layers):
        raise SpecError(f"{prefix}n_layers must be one number where spans name layers by their position")
    for name, entry in spans.items():
        if "layers" not in entry:
            raise SpecError(f"{prefix}spans.{name}.layers is missing: which layers it changes, such as '-10:'")
    within = {name: layers_of(s["layers"], n_layers, f"{prefix}spans.{name}.layers") for name, s in spans.items()}
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index in range(n_layers):
        held = tuple(name for name, layers in within.items() if index in layers)
        groups.setdefault((pattern[index % len(pattern)], held), []).append(index)
    for (kind, held), members in groups.items():
        changed = tree
        for name in held:
            changed = merged(changed, {k: v for k, v in spans[name].items() if k != "layers"})
        yield _layer(changed, kind, held, len(members), tuple(members), norms, given, prefix)


def _layer(
    tree: Tree,
    kind: str,
    spans: tuple[str, ...],
    count: Number,
    indices: tuple[int, ...] | None,
    norms: NormSection,
    given: Tree,
    prefix: str,
) -> Layer:
    norm = _norm(norms, given["d_model"])
    post = norm if norms.post else None
    schema = mixer(tree, kind)
    own = {k: v for k, v in _section(tree, kind).items() if k != "block"}
    shared = _section(tree, MIXER)
    if schema is not mixer({}, ""):  # another block takes what it knows of the attention's keys
        shared = {k: v for k, v in shared.items() if k in fields_of(schema) and k not in own}
    where = MIXER if schema is mixer({}, "") else kind
    attention = _make(schema, prefix + where, {**shared, **own}, given)
    residuals = [_residual(MIXER, attention, norm, post, _laurel(tree, given, prefix))]
    if tree.get("cross_attention") is not None:
        keys = {k: v for k, v in _section(tree, MIXER).items() if k in fields_of(CrossAttention)}
        cross = _make(CrossAttention, f"{prefix}cross_attention", {**keys, **tree["cross_attention"]}, given)
        residuals.append(Residual("cross_attention", cross, norm, post))
    mlp: MLP = _make(MLP, f"{prefix}mlp", _section(tree, "mlp"), given)
    if tree.get("moe") is not None:
        moe = Branch("moe", _make(MoE, f"{prefix}moe", tree["moe"], given), "stream", post=post)
        residuals.append(Residual("mlp", mlp, norm, post, beside=(moe,), joint=norm))
    else:
        residuals.append(Residual("mlp", mlp, norm, post))
    after: tuple[Residual, ...] = ()
    if tree.get("per_layer_embedding") is not None:
        keys = tree["per_layer_embedding"]
        after = (Residual("per_layer", _make(PerLayerInput, f"{prefix}per_layer_embedding", keys, given), None),)
    altup = _make(AltUp, f"{prefix}altup", tree["altup"], given) if tree.get("altup") is not None else None
    scalar = (
        _make(LayerScalar, f"{prefix}layer_scalar", tree["layer_scalar"], given)
        if tree.get("layer_scalar") is not None
        else None
    )
    return Layer(kind, tuple(residuals), count, indices, spans, altup, after, scalar)


def _laurel(tree: Tree, given: Tree, prefix: str) -> Laurel | None:
    return None if tree.get("laurel") is None else _make(Laurel, f"{prefix}laurel", tree["laurel"], given)


def _residual(name: str, block: Block, norm: Block, post: Block | None, laurel: Laurel | None) -> Residual:
    if laurel is None:
        return Residual(name, block, norm, post)
    return Residual(name, block, norm, post, beside=(Branch("laurel", laurel, "normed"),), scale=2**-0.5)


def _check_shared(layers: tuple[Layer, ...], prefix: str) -> None:
    """A layer that shares K/V has an earlier one of its kind with K/V of its own, and of its sizes."""
    mixers = [(layer, layer.residuals[0].block) for layer in layers]
    if all(getattr(mixing, "kv", "own") == "own" for _, mixing in mixers):
        return
    owners: dict[str, tuple[int, Block]] = {}
    in_order = sorted(((i, *pair) for pair in mixers for i in pair[0].indices or (0,)), key=lambda entry: entry[0])
    for index, layer, mixing in in_order:
        if getattr(mixing, "kv", "own") == "own":
            owners[layer.kind] = (index, mixing)
            continue
        where = f"{prefix}spans.{layer.spans[-1]}: " if layer.spans else prefix
        if layer.kind not in owners:
            raise SpecError(f"{where}layer {index} shares K/V, but no {layer.kind} layer before it has its own")
        at, owner = owners[layer.kind]
        for name in ("n_kv_heads", "head_dim", "window"):
            mine, kept = mixing.facts()[name], owner.facts()[name]
            if (mine is None or is_scalar(mine)) and (kept is None or is_scalar(kept)) and mine != kept:
                raise SpecError(f"{where}layer {index} reads the K/V of layer {at}, so {name} ({mine}) must be {kept}")


def _indices(pattern: tuple[str, ...], kind: str, n_layers: Number) -> tuple[int, ...] | None:
    if not is_scalar(n_layers):
        return None
    return tuple(i for i in range(n_layers) if pattern[i % len(pattern)] == kind)


# ---------------------------------------------------------------- a tower


def _tower(name: str, tree: Tree, d_out: Number) -> Stack:
    """Patches, layers, projector; or a number of parameters."""
    if tree.get("counted") is not None:
        others = [key for key in tree if key not in ("counted", "token")]
        if others:
            raise SpecError(f"{name}.{others[0]} has no effect: {name}.counted says that only a number is known")
        keys = tree["counted"]
        tower = _make(Counted, f"{name}.counted", keys, {})
        project = _make(CountedProjector, f"{name}.counted", keys, {})
        return Stack(
            name, (("tower", tower),), (), (("projector", project),),
            reads="images", tokens=tower.tokens, token=tree.get("token"), part=name, counted=True,
        )  # fmt: skip
    check_fields(Tower, name, {k: v for k, v in tree.items() if k in fields_of(Tower)})
    norms: NormSection = _make(NormSection, f"{name}.norm", _section(tree, "norm"), {})
    given = {k: tree[k] for k in ("d_model", "n_layers")}
    given |= {"norm_eps": norms.eps, "norm_plus_one": norms.gain == "one_plus"}
    patches: Patches = _make(Patches, f"{name}.patches", _section(tree, "patches"), given)
    given |= {"side": patches.side, "d_out": d_out}
    projector: Projector = _make(Projector, f"{name}.projector", _section(tree, "projector"), given)
    bare = {k: v for k, v in tree.items() if k in ("attention", "mlp")}
    indices = _indices(("global",), "global", tree["n_layers"])
    layer = _layer(bare, "global", (), tree["n_layers"], indices, norms, given, f"{name}.")
    after: list[tuple[str, Block]] = [("projector", projector)]
    if tree.get("final_norm", True):
        after.insert(0, ("final_norm", _norm(norms, tree["d_model"])))
    return Stack(
        name, (("patches", patches),), (layer,), tuple(after),
        reads="images", length=patches.side * patches.side, tokens=projector.tokens, token=tree.get("token"), part=name,
    )  # fmt: skip
