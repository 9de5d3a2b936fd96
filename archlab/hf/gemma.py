"""Gemma, Gemma 2, Gemma 3 (text) with EmbeddingGemma, and VaultGemma: decoders and one encoder of ordinary blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archlab.errors import SpecError
from archlab.hf.defaults import DEFAULTS
from archlab.hf.names import Naming, Table
from archlab.hf.reader import FLAG, LAYERS, NUMBER, WHOLE, Reader, shown
from archlab.hf.text import (
    ACTIVATION_WORDS,
    ACTIVATIONS,
    FULL,
    KINDS,
    SLIDING,
    Tree,
    attentions_of,
    block,
    flat_rope,
    layer_type_of,
    layer_types,
    one,
    pattern,
    real,
    rope_by_type,
    rope_words,
    said,
    top_block,
    unless,
    whole,
    widths_fit,
)
from archlab.layers import Stack
from archlab.spec import ModelSpec

THETAS = {SLIDING: 10_000.0, FULL: 1_000_000.0}


@dataclass(frozen=True)
class Traits:
    """What sets a generation's config.json apart.

    family       its name here
    activation   the key of the activation
    every        a layer is full at every so many where the file does not list types; None: the family has one type
    post, qk_norm, caps, scalar   whether it has post norms, QK-norm, soft caps, query_pre_attn_scalar
    ropes        whether each type of layer has its own RoPE
    heads, bare  transformers' classes with a head and without one
    """

    family: str
    activation: str = "hidden_activation"
    every: int | None = None
    post: bool = False
    qk_norm: bool = False
    caps: bool = False
    scalar: bool = True
    ropes: bool = False
    heads: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()


GEMMA = Traits("gemma", activation="hidden_act", scalar=False, heads=("GemmaForCausalLM",), bare=("GemmaModel",))
GEMMA2 = Traits("gemma2", every=2, post=True, caps=True, heads=("Gemma2ForCausalLM",), bare=("Gemma2Model",))
GEMMA3 = Traits(
    "gemma3", every=6, post=True, qk_norm=True, ropes=True, heads=("Gemma3ForCausalLM",), bare=("Gemma3TextModel",)
)
VAULT = Traits("vaultgemma", every=2, caps=True, heads=("VaultGemmaForCausalLM",), bare=("VaultGemmaModel",))

TRAITS = {"gemma": GEMMA, "gemma2": GEMMA2, "gemma3_text": GEMMA3, "vaultgemma": VAULT}
"""model_type -> its traits."""


# ---------------------------------------------------------------- config.json -> model file


def read(config: Tree) -> Tree:
    """The model file of a text checkpoint."""
    model_type = config["model_type"]
    traits = TRAITS[model_type]
    r = Reader(config, DEFAULTS[model_type])
    tree = {"family": traits.family, **text(r, traits)}
    _direction(r, traits, tree)
    if not has_head(r, traits.heads, traits.bare):
        tree["head"] = {"logits": False}
    r.done()
    return tree


def has_head(r: Reader, heads: tuple[str, ...], bare: tuple[str, ...]) -> bool:
    """Whether the class that the file names makes logits. Raises SpecError for a class that does something else."""
    classes = r.take("architectures") if r.given("architectures") else list(heads[:1])
    if not isinstance(classes, list) or not classes or classes[0] not in (*heads, *bare):
        raise SpecError(f"architectures={shown(classes)} is not read; it must be {' or '.join((*heads, *bare))}")
    return classes[0] in heads


def text(r: Reader, traits: Traits) -> Tree:
    """The sections of a decoder, or of the text part of a larger model."""
    n_layers = r.take("num_hidden_layers", LAYERS)
    types = layer_types(r, traits.every, n_layers, heeds=traits.ropes) if traits.every else [FULL] * n_layers
    head_dim = r.take("head_dim", WHOLE)
    scale = r.take("query_pre_attn_scalar", NUMBER) if traits.scalar else head_dim
    attention = said(
        n_heads=r.take("num_attention_heads", WHOLE),
        n_kv_heads=r.take("num_key_value_heads", WHOLE),
        head_dim=head_dim,
        query_scale=unless(scale, head_dim),
        softcap=_cap(r, traits),
        qk_norm=unless(traits.qk_norm, False),
        bias="all" if r.take("attention_bias", FLAG) else None,
    )
    softcap = r.take("final_logit_softcapping", NUMBER, none=True) if traits.every else None
    tree = {
        "d_model": r.take("hidden_size", WHOLE),
        "n_layers": n_layers,
        "vocab_size": r.take("vocab_size", WHOLE),
        "context": r.take("max_position_embeddings", WHOLE),
        "pattern": pattern([KINDS[t] for t in types]),
        "attention": attention,
        **_kinds(r, traits, types, attention),
        "mlp": {"d_ff": r.take("intermediate_size", WHOLE), "activation": activation(r, traits)},
        "norm": said(eps=r.take("rms_norm_eps", NUMBER), gain="one_plus", post=unless(traits.post, False)),
        "head": said(tied=r.take("tie_word_embeddings", FLAG), softcap=softcap),
    }
    return tree


def _cap(r: Reader, traits: Traits) -> float | None:
    if traits.caps:
        cap: float | None = r.take("attn_logit_softcapping", NUMBER, none=True)
        return cap
    if traits.every:
        r.only("attn_logit_softcapping", None, why="transformers' Gemma 3 takes the key and never caps its scores")
    return None


def activation(r: Reader, traits: Traits) -> str:
    """What the gate goes through. Gemma 1 files that say gelu mean its tanh form."""
    meanings = ACTIVATIONS if traits.activation == "hidden_activation" else ACTIVATIONS | {"gelu": "gelu_tanh"}
    found: str = r.word(traits.activation, meanings)
    other = "hidden_act" if traits.activation == "hidden_activation" else "hidden_activation"
    if r.given(other):  # released Gemma 1 and 2 files say it under both names; one of them is read
        alike = [word for word, meant in meanings.items() if meant == found]
        r.only(other, *alike, why=f"{traits.activation} says {found}")
    r.ignore(other)
    return found


def _kinds(r: Reader, traits: Traits, types: list[str], attention: Tree) -> Tree:
    """The sections `local` and `global`; RoPE that all layers share goes to the attention."""
    window = r.take("sliding_window", WHOLE, none=True) if traits.every else None
    if window is None and SLIDING in types:
        raise SpecError(f"{r.where}sliding_window is null, and layer_types has {SLIDING}")
    local = said(window=window)
    if traits.ropes:
        ropes = rope_by_type(r, THETAS)
        sections = {"local": local | ropes[SLIDING], "global": ropes[FULL]}
    else:
        rope = flat_rope(r)
        attention |= said(rope_theta=unless(rope.pop("rope_theta"), 10_000.0)) | rope
        sections = {"local": local, "global": {}}
    used = {KINDS[t] for t in types}
    return {kind: section for kind, section in sections.items() if kind in used and section}


def _direction(r: Reader, traits: Traits, tree: Tree) -> None:
    """Gemma 3's bidirectional form: half the file's window to either side."""
    if "use_bidirectional_attention" not in r.defaults:
        return
    if traits is not GEMMA3:
        r.only(
            "use_bidirectional_attention", None, False,
            why="transformers' eager attention stays causal, its other kernels do not",
        )  # fmt: skip
        return
    if r.take("use_bidirectional_attention", FLAG, none=True):
        tree["family"] = "embeddinggemma"
        tree["attention"]["mask"] = "bidirectional"
        if "local" in tree:
            tree["local"]["window"] = tree["local"]["window"] // 2 + 1


# ---------------------------------------------------------------- spec -> config.json


def write(spec: ModelSpec) -> Tree:
    """The config.json of a text model."""
    model_type = {"gemma3": "gemma3_text", "embeddinggemma": "gemma3_text"}.get(spec.family, spec.family)
    traits = TRAITS[model_type]
    logits = top_block(spec.decoder, "head") is not None
    classes = traits.heads if logits else traits.bare
    config = {"architectures": [classes[0]], "model_type": model_type, **text_words(spec, spec.decoder, traits)}
    if spec.family == "embeddinggemma":
        config["use_bidirectional_attention"] = True
        config["sliding_window"] = 2 * (config["sliding_window"] - 1)
    return config


def text_words(spec: ModelSpec, stack: Stack, traits: Traits) -> Tree:
    """The keys of a decoder, or of the text part of a larger model."""
    layers = stack.in_order()
    attentions = attentions_of(layers)
    mlps = [block(layer, "mlp") for layer in layers]
    table, head = top_block(stack, "embedding"), top_block(stack, "head")
    types = [layer_type_of(attention) for attention in attentions]
    of_type = dict(zip(types, attentions, strict=True))
    config = {
        "vocab_size": table.vocab_size,
        "hidden_size": table.d_model,
        "intermediate_size": one([mlp.sizes()["F"] for mlp in mlps], "mlp.d_ff"),
        "num_hidden_layers": len(layers),
        "num_attention_heads": one([a.n_heads for a in attentions], "attention.n_heads"),
        "num_key_value_heads": one([a.n_kv_heads for a in attentions], "attention.n_kv_heads"),
        "head_dim": one([a.head_dim for a in attentions], "attention.head_dim"),
        traits.activation: ACTIVATION_WORDS[one([mlp.activation for mlp in mlps], "mlp.activation")],
        "max_position_embeddings": spec.context,
        "rms_norm_eps": top_block(stack, "final_norm").eps,
        "tie_word_embeddings": head is None or head.tied,
        "attention_bias": attentions[0].bias == "all",
        **_rope(traits, of_type, attentions),
    }
    if traits.scalar:
        scales = [a.head_dim if a.query_scale is None else a.query_scale for a in attentions]
        config["query_pre_attn_scalar"] = whole(one(scales, "attention.query_scale"), "attention.query_scale")
        widths_fit(spec, config["hidden_size"], config["num_attention_heads"])
    if traits.every:
        windows = [a.window for a in attentions if a.window is not None]
        config |= {"layer_types": types, "sliding_window": one(windows, "local.window") if windows else 4096}
        config["final_logit_softcapping"] = None if head is None else real(head.softcap)
    if traits.caps:
        config["attn_logit_softcapping"] = real(one([a.softcap for a in attentions], "attention.softcap"))
    return config


def _rope(traits: Traits, of_type: dict[str, Any], attentions: list[Any]) -> Tree:
    if traits.ropes:
        default = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in THETAS.items()}
        return {"rope_parameters": default | {kind: rope_words(a) for kind, a in of_type.items()}}
    for key in ("rope_theta", "rope_factor", "rope_fraction", "rope_spread"):
        one([getattr(a, key) for a in attentions], f"attention.{key}")
    return {"rope_parameters": rope_words(attentions[0])}


# ---------------------------------------------------------------- names of tensors

BLOCKS: Table = {
    "attention.q": "self_attn.q_proj.weight",
    "attention.k": "self_attn.k_proj.weight",
    "attention.v": "self_attn.v_proj.weight",
    "attention.o": "self_attn.o_proj.weight D(NH)",
    "attention.q_bias": "self_attn.q_proj.bias",
    "attention.k_bias": "self_attn.k_proj.bias",
    "attention.v_bias": "self_attn.v_proj.bias",
    "attention.o_bias": "self_attn.o_proj.bias",
    "attention.q_norm": "self_attn.q_norm.weight",
    "attention.k_norm": "self_attn.k_norm.weight",
    "mlp.gate": "mlp.gate_proj.weight",
    "mlp.up": "mlp.up_proj.weight",
    "mlp.down": "mlp.down_proj.weight",
}
TWO_NORMS: Table = {
    "attention.pre_norm.gain": "input_layernorm.weight",
    "mlp.pre_norm.gain": "post_attention_layernorm.weight",  # it stands before the MLP
}
PRE_NORMS: Table = {
    "attention.pre_norm.gain": "input_layernorm.weight",
    "mlp.pre_norm.gain": "pre_feedforward_layernorm.weight",
}
FOUR_NORMS: Table = {
    **PRE_NORMS,
    "attention.post_norm.gain": "post_attention_layernorm.weight",
    "mlp.post_norm.gain": "post_feedforward_layernorm.weight",
}
NORMS = {
    "gemma": TWO_NORMS,
    "gemma2": FOUR_NORMS,
    "gemma3": FOUR_NORMS,
    "embeddinggemma": FOUR_NORMS,
    "vaultgemma": PRE_NORMS,
}
"""family -> the names of its norms."""


def naming(spec: ModelSpec) -> Naming:
    """Names as in the state dict of the class that `write` names."""
    before = "" if top_block(spec.decoder, "head") is None else "model."
    return Naming(
        layers={"decoder": f"{before}layers.{{}}."},
        rows={"decoder": {**BLOCKS, **NORMS[spec.family]}},
        outside=outside(before, "lm_head.weight"),
    )


def outside(before: str, head: str) -> Table:
    """Table, final norm and head of a decoder."""
    return {
        "embedding.table": f"{before}embed_tokens.weight",
        "final_norm.gain": f"{before}norm.weight",
        "head.table": head,
    }
