"""Gemma 4, with towers (gemma4), without (gemma4_text), and the 12B, which has embedders instead (gemma4_unified)."""

from __future__ import annotations

import re
from typing import Any

from archlab.blocks import MoE
from archlab.errors import SpecError
from archlab.hf import counted, gemma4_vision
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, FOUR_NORMS, has_head, outside
from archlab.hf.gemma3n import PER_LAYER, per_layer, shared
from archlab.hf.multimodal import tied
from archlab.hf.names import Naming, Part, Table
from archlab.hf.reader import COUNT, FLAG, LAYERS, MAPPING, NUMBER, WHOLE, Reader, short
from archlab.hf.text import (
    ACTIVATION_WORDS,
    ACTIVATIONS,
    FULL,
    KINDS,
    SLIDING,
    Tree,
    attentions_of,
    block,
    layer_type_of,
    layer_types,
    one,
    pattern,
    real,
    rope_of,
    rope_words,
    said,
    top_block,
    unless,
)
from archlab.layers import Stack
from archlab.spec import ModelSpec

ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
AUDIO_TOKENS = 750
"""Tokens of an audio clip at most, by transformers' processor. No key says it."""

# ---------------------------------------------------------------- config.json -> model file


def read(config: Tree) -> Tree:
    """The model file of a Gemma 4 checkpoint: the whole of it, or its text decoder (gemma4_text)."""
    model_type: str = config["model_type"]
    stem = model_type.removesuffix("_text")
    r = Reader(config, DEFAULTS[model_type])
    if model_type.endswith("_text"):
        tree = _text(r, pictures=False)
        heads = {"gemma4": "Gemma4", "gemma4_unified": "Gemma4Unified"}[stem]
        if not has_head(r, (f"{heads}ForCausalLM",), (f"{heads}TextModel",)):
            tree["head"] = {"logits": False}
        r.done()
        return tree
    inner = r.below("text_config", DEFAULTS[f"{stem}_text"])
    tree = _text(inner, pictures=r.given("vision_config"))
    tree["head"]["tied"] = tied(r, inner)
    parts = [inner, r]
    towers = _unified_towers if stem == "gemma4_unified" else _towers
    for name in ("vision", "audio"):
        token = r.take("image_token_id" if name == "vision" else "audio_token_id", COUNT)
        if r.given(f"{name}_config"):
            part = r.below(f"{name}_config", DEFAULTS[f"{stem}_{name}"])
            tree[name] = {**towers(name, part, tree["d_model"]), "token": token}
            parts.append(part)
            if name == "vision" and part.config.get("use_clipped_linears"):
                tree["notes"] = gemma4_vision.CLIPPED
        r.ignore(f"{name}_config", f"{name}_soft_tokens_per_image")
    for part in parts:
        part.done()
    return tree


def _text(r: Reader, pictures: bool) -> Tree:
    n_layers = r.take("num_hidden_layers", LAYERS)
    types = [*layer_types(r, 6, n_layers)[:-1], FULL]  # transformers makes the last one full
    d_ff = r.take("intermediate_size", WHOLE)
    activation = r.word("hidden_activation", ACTIVATIONS)
    r.only("attention_bias", False, why="layers that share keys, or have keys for values, have none to give a bias")
    wide = {"mlp": {"d_ff_factor": 2}} if r.take("use_double_wide_mlp", FLAG) else {}
    spans = shared(r, n_layers, **wide)
    tree = {
        "family": "gemma4",
        "d_model": r.take("hidden_size", WHOLE),
        "n_layers": n_layers,
        "vocab_size": r.take("vocab_size", WHOLE),
        "context": r.take("max_position_embeddings", WHOLE),
        "pattern": pattern([KINDS[t] for t in types]),
        **_attention(r, types, pictures),
        "mlp": {"d_ff": d_ff, "activation": activation},
        **_moe(r, activation),
        **_per_layer(r, activation),
        "layer_scalar": {},
        **({"spans": spans} if spans else {}),
        "norm": {"eps": r.take("rms_norm_eps", NUMBER), "gain": "plain", "post": True},
        "head": {
            "tied": r.take("tie_word_embeddings", FLAG),
            "softcap": r.take("final_logit_softcapping", NUMBER, none=True),
        },
    }
    return tree


def _attention(r: Reader, types: list[str], pictures: bool) -> Tree:
    """The sections `attention`, `local` and `global`; what both kinds have alike goes to the first."""
    same = r.take("attention_k_eq_v", FLAG)
    sizes = _sizes(r, types, same)
    window = r.take("sliding_window", WHOLE)
    both_ways = r.word("use_bidirectional_attention", {None: False, "vision": pictures})
    kinds = {
        SLIDING: said(window=window, **_rope(r, SLIDING, types), image_blocks=unless(both_ways, False)),
        FULL: said(k_is_v=unless(same, False), **_rope(r, FULL, types)),
    }
    used = [t for t in (SLIDING, FULL) if t in types]
    common = {key: sizes[FULL][key] for key in sizes[FULL] if len({sizes[t][key] for t in used}) == 1}
    sections = {KINDS[t]: {k: v for k, v in sizes[t].items() if k not in common} | kinds[t] for t in used}
    n_heads = r.take("num_attention_heads", WHOLE)
    return {
        "attention": {"n_heads": n_heads, **common, "query_scale": 1, "qk_norm": True, "v_norm": True},
        **sections,
    }


def _sizes(r: Reader, types: list[str], same: bool) -> dict[str, Tree]:
    """Key/value heads and width of a head for each type: global_ keys in released files, per_layer_config in others."""
    n_kv_heads, head_dim = r.take("num_key_value_heads", WHOLE), r.take("head_dim", WHOLE)
    found = {t: {"n_kv_heads": n_kv_heads, "head_dim": head_dim} for t in (SLIDING, FULL)}
    layers = r.take("per_layer_config", MAPPING, none=True)
    head_dim, n_kv_heads = (
        r.take("global_head_dim", WHOLE, none=True), r.take("num_global_key_value_heads", WHOLE, none=True)
    )  # fmt: skip
    if layers is None:
        found[FULL] |= said(head_dim=head_dim, n_kv_heads=n_kv_heads if same else None)
        return found
    changes = _layers_sizes(r, layers, len(types))
    for kind in (SLIDING, FULL):
        of_kind = [change for change, t in zip(changes, types, strict=True) if t == kind]
        if any(change != of_kind[0] for change in of_kind):
            raise SpecError(f"{r.where}per_layer_config must give all {kind} layers the same sizes")
        found[kind] |= of_kind[0] if of_kind else {}
    return found


def _layers_sizes(r: Reader, layers: Tree, n_layers: int) -> list[Tree]:
    """What per_layer_config changes in each layer. Its keys are indices, padded with zeros or not."""
    keys = {int(key): key for key in layers if re.fullmatch("[0-9]{1,9}", str(key))}
    if len(keys) != len(layers) or any(i >= n_layers for i in keys):
        raise SpecError(f"{r.where}per_layer_config must have indices of the {n_layers} layers as keys")
    outer = Reader(layers, {}, f"{r.where}per_layer_config.")
    return [_layer_sizes(outer.below(keys[i], {})) if i in keys else {} for i in range(n_layers)]


def _layer_sizes(r: Reader) -> Tree:
    sizes = said(
        head_dim=r.take("head_dim", WHOLE, none=True),
        n_kv_heads=r.take("num_key_value_heads", WHOLE, none=True),
    )
    r.done()
    return sizes


def _rope(r: Reader, kind: str, types: list[str]) -> Tree:
    sections = r.take("rope_parameters", MAPPING, none=True)
    sections = ROPES if sections is None else sections
    for key in sections:
        if key not in KINDS:
            raise SpecError(f"{r.where}rope_parameters has {short(str(key))}; it must be of {SLIDING} and {FULL}")
    if kind not in sections:
        if kind in types:
            raise SpecError(f"{r.where}rope_parameters.{kind} is missing")
        return {}
    inner = Reader(sections, {}, f"{r.where}rope_parameters.").below(kind, {})
    rope = rope_of(inner)
    if "rope_spread" not in rope and "rope_fraction" in rope:
        raise SpecError(f"{inner.where}partial_rotary_factor has no effect unless rope_type is proportional")
    return rope


def _moe(r: Reader, activation: str) -> Tree:
    if "expert_intermediate_size" in r.config:  # in files older than the class
        r.only("expert_intermediate_size", None, why="moe_intermediate_size says it")
    if "enable_moe_block" not in r.defaults or not r.take("enable_moe_block", FLAG):
        r.ignore("num_experts", "top_k_experts", "moe_intermediate_size")
        return {}
    keys = ("num_experts", "top_k_experts", "moe_intermediate_size")
    experts, top_k, d_ff = (r.take(key, WHOLE) for key in keys)
    other = said(activation=unless(activation, "gelu_tanh"))
    return {"moe": {"experts": experts, "top_k": top_k, "d_ff": d_ff, **other}}


def _per_layer(r: Reader, activation: str) -> Tree:
    if "hidden_size_per_layer_input" not in r.defaults or not r.take("hidden_size_per_layer_input", COUNT):
        r.ignore("vocab_size_per_layer_input")
        return {}
    if activation != "gelu_tanh":
        raise SpecError(f"{r.where}hidden_activation must be gelu_pytorch_tanh where there are per-layer embeddings")
    width, rows = r.take("hidden_size_per_layer_input", WHOLE), r.take("vocab_size_per_layer_input", WHOLE)
    return {"per_layer_embedding": {"width": width, "table_rows": rows}}


def _unified_towers(name: str, r: Reader, d_model: int) -> Tree:
    return {"counted": counted.unified_vision(r, d_model) if name == "vision" else counted.unified_audio(r, d_model)}


def _towers(name: str, r: Reader, d_model: int) -> Tree:
    if name == "vision":
        return gemma4_vision.tower(r)
    return {"counted": counted.gemma4_conformer(r, d_model, AUDIO_TOKENS)}


# ---------------------------------------------------------------- spec -> config.json


def write(spec: ModelSpec) -> Tree:
    """The config.json of a Gemma 4: of its text decoder where it has no towers."""
    towers = {name: getattr(spec, name) for name in ("vision", "audio") if getattr(spec, name) is not None}
    stem = "gemma4_unified" if _is_unified(spec) else "gemma4"
    words = _text_words(spec, stem)
    if not towers:
        made = "Gemma4TextModel" if top_block(spec.decoder, "head") is None else "Gemma4ForCausalLM"
        return {"architectures": [made], "model_type": "gemma4_text", **words}
    config: Tree = {
        "architectures": [f"Gemma4{'Unified' if stem == 'gemma4_unified' else ''}ForConditionalGeneration"],
        "model_type": stem,
        "text_config": {"model_type": f"{stem}_text", **words},
        "vision_config": None,
        "audio_config": None,
        "tie_word_embeddings": words["tie_word_embeddings"],
    }
    for name, tower in towers.items():
        if tower.token is not None:
            config["image_token_id" if name == "vision" else "audio_token_id"] = tower.token
        config[f"{name}_config"] = {"model_type": f"{stem}_{name}", **_tower_words(spec, name, tower, stem)}
    return config


def _is_unified(spec: ModelSpec) -> bool:
    """Whether its pictures are embedded without a tower."""
    return any(tower.counted and top_block(tower, "tower").parameters is None for tower in spec.stacks if tower.counted)


def _tower_words(spec: ModelSpec, name: str, tower: Stack, stem: str) -> Tree:
    if stem == "gemma4" and not tower.counted:
        return gemma4_vision.words(tower)
    if stem == "gemma4_unified" and name == "vision":
        return {"mm_embed_dim": spec.d_model, "output_proj_dims": spec.d_model, "num_soft_tokens": tower.tokens}
    return {}  # the class's own; another one shows when it is read back


def _text_words(spec: ModelSpec, stem: str) -> Tree:
    layers = spec.decoder.in_order()
    attentions = attentions_of(layers)
    types = [layer_type_of(attention) for attention in attentions]
    _last_is_full(types)
    of_type = dict(zip(types, attentions, strict=True))
    local, full = of_type.get(SLIDING, attentions[-1]), of_type.get(FULL, attentions[-1])
    mlps, head = [block(layer, "mlp") for layer in layers], top_block(spec.decoder, "head")
    words: Tree = {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": mlps[0].sizes()["F"],
        "num_hidden_layers": len(layers),
        "num_attention_heads": one([a.n_heads for a in attentions], "attention.n_heads"),
        "num_key_value_heads": local.n_kv_heads,
        "head_dim": local.head_dim,
        "hidden_activation": ACTIVATION_WORDS[mlps[0].activation],
        "max_position_embeddings": spec.context,
        "rms_norm_eps": top_block(spec.decoder, "final_norm").eps,
        "tie_word_embeddings": head is None or head.tied,
        "rope_parameters": {**ROPES, **{t: rope_words(a) for t, a in of_type.items()}},
        "sliding_window": 512 if local.window is None else local.window,
        "layer_types": types,
        "final_logit_softcapping": None if head is None else real(head.softcap),
        "use_bidirectional_attention": "vision" if local.image_blocks else None,
        "attention_k_eq_v": full.k_is_v,
        "num_kv_shared_layers": sum(a.kv == "shared" for a in attentions),
        "use_double_wide_mlp": mlps[-1].sizes()["F"] != mlps[0].sizes()["F"],
        **_global_words(local, full, types),
    }
    return words if stem == "gemma4_unified" else words | _extras(spec)


def _last_is_full(types: list[str]) -> None:
    if types[-1] == FULL:
        return
    fits = max((i + 1 for i, kind in enumerate(types) if kind == FULL), default=None)
    hint = "" if fits is None else f"; n_layers={fits} would end on one"
    raise SpecError(
        f"transformers makes the last layer a full one, and the last of {len(types)} here has a window{hint}"
    )


def _global_words(local: Any, full: Any, types: list[str]) -> Tree:
    """Sizes of the full layers: under the released names where these can say them, else layer by layer."""
    if full.k_is_v or full.n_kv_heads == local.n_kv_heads:
        return {
            "global_head_dim": full.head_dim,
            "num_global_key_value_heads": full.n_kv_heads if full.k_is_v else None,
        }
    sizes = {"head_dim": full.head_dim, "num_key_value_heads": full.n_kv_heads}
    return {"per_layer_config": {str(i): sizes for i, t in enumerate(types) if t == FULL}}


def _extras(spec: ModelSpec) -> Tree:
    """Experts and per-layer embeddings, or that there are none."""
    embedding = top_block(spec.decoder, "per_layer_embedding")
    if embedding is not None and embedding.table_rows is None:
        raise SpecError("per_layer_embedding.table_rows is null, and its per-layer embeddings have a table")
    words: Tree = {"hidden_size_per_layer_input": 0 if embedding is None else embedding.width}
    if embedding is not None:
        words["vocab_size_per_layer_input"] = embedding.table_rows
    moe = next((found for _, found in spec.decoder.in_order()[0].blocks() if isinstance(found, MoE)), None)
    if moe is None:
        return words | {"enable_moe_block": False}
    sizes = {"num_experts": moe.experts, "top_k_experts": moe.top_k, "moe_intermediate_size": moe.d_ff}
    return words | {"enable_moe_block": True, **sizes}


# ---------------------------------------------------------------- names of tensors

LAYER: Table = {**BLOCKS, **FOUR_NORMS, **PER_LAYER, "layer_scalar.scalar": "layer_scalar 1"}
WITH_EXPERTS: Table = {
    **LAYER,
    "mlp.post_norm.gain": "post_feedforward_layernorm_1.weight",
    "mlp.joint_norm.gain": "post_feedforward_layernorm.weight",
    "moe.norm": "pre_feedforward_layernorm_2.weight",
    "moe.post_norm.gain": "post_feedforward_layernorm_2.weight",
    "moe.router": "router.proj.weight",
    "moe.router_scale": "router.scale",
    "moe.expert_scale": "router.per_expert_scale",
    "moe.gate": Part("experts.gate_up_proj", axis="F", index=0, of=2),
    "moe.up": Part("experts.gate_up_proj", axis="F", index=1, of=2),
    "moe.down": "experts.down_proj",
}


def naming(spec: ModelSpec) -> Naming:
    """Names as in Gemma4ForCausalLM, or Gemma4ForConditionalGeneration where there are towers."""
    before = "model.language_model." if spec.vision or spec.audio else "model."
    before = before if top_block(spec.decoder, "head") is not None else ""
    experts = any(path == "moe" for path, _ in spec.decoder.layers[0].blocks())
    tower = "model.vision_tower."
    return Naming(
        layers={"decoder": f"{before}layers.{{}}.", "vision": f"{tower}encoder.layers.{{}}."},
        rows={"decoder": WITH_EXPERTS if experts else LAYER, "vision": gemma4_vision.LAYER},
        outside={
            **outside(before, "lm_head.weight"),
            **per_layer(before),
            **gemma4_vision.outside(tower),
        },
        counted={
            "vision": ("model.embed_vision.", "model.vision_embedder."),
            "audio": ("model.audio_tower.", "model.embed_audio."),
        },
        left_out={r"\.(input|output)_(min|max)$": gemma4_vision.CLIPPED},
    )
