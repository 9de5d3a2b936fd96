"""Gemma 3n: AltUp streams, LAuReL, per-layer embeddings, shared keys and values, sparse first layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from archlab.errors import SpecError
from archlab.fields import FieldType
from archlab.hf import counted
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, FOUR_NORMS, THETAS, has_head, outside
from archlab.hf.multimodal import tied
from archlab.hf.names import Each, Naming, Table
from archlab.hf.reader import COUNT, FLAG, LAYERS, NUMBER, SHARE, WHOLE, Reader
from archlab.hf.text import (
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
    rope_by_type,
    rope_words,
    slices,
    top_block,
    widths_fit,
)
from archlab.spec import ModelSpec

# ---------------------------------------------------------------- config.json -> model file


def read(config: Tree) -> Tree:
    """The model file of a Gemma 3n checkpoint: the whole of it, or its text decoder (gemma3n_text)."""
    if config["model_type"] == "gemma3n_text":
        r = Reader(config, DEFAULTS["gemma3n_text"])
        tree = _text(r)
        if not has_head(r, ("Gemma3nForCausalLM",), ("Gemma3nTextModel",)):
            tree["head"] = {"logits": False}
        r.done()
        return tree
    r = Reader(config, DEFAULTS["gemma3n"])
    inner, vision, audio = (r.below(f"{n}_config", DEFAULTS[f"gemma3n_{n}"]) for n in ("text", "vision", "audio"))
    tree = _text(inner)
    tree["head"]["tied"] = tied(r, inner)
    d_model = tree["d_model"]
    tree["vision"] = {
        "counted": counted.mobilenet(vision, d_model, r.take("vision_soft_tokens_per_image", WHOLE)),
        "token": r.take("image_token_id", COUNT),
    }
    tree["audio"] = {
        "counted": counted.gemma3n_conformer(audio, d_model, r.take("audio_soft_tokens_per_image", WHOLE)),
        "token": r.take("audio_token_id", COUNT),
    }
    for part in (inner, vision, audio, r):
        part.done()
    return tree


def _text(r: Reader) -> Tree:
    n_layers = r.take("num_hidden_layers", LAYERS)
    types = layer_types(r, 5, n_layers)
    ropes = rope_by_type(r, THETAS)
    kinds = {SLIDING: {"window": r.take("sliding_window", WHOLE), **ropes[SLIDING]}, FULL: ropes[FULL]}
    widths = _listed(r, "intermediate_size", WHOLE, n_layers)
    usual = Counter(widths).most_common(1)[0][0]
    r.word("hidden_activation", {"gelu_pytorch_tanh": "gelu_tanh"})
    r.only("attention_bias", False, why="layers that share keys have none to give a bias")
    r.only("altup_correct_scale", True, why="transformers keeps the weights of a scale that it then does not apply")
    r.ignore("altup_coef_clip")
    return {
        "family": "gemma3n",
        "d_model": r.take("hidden_size", WHOLE),
        "n_layers": n_layers,
        "vocab_size": r.take("vocab_size", WHOLE),
        "context": r.take("max_position_embeddings", WHOLE),
        "pattern": pattern([KINDS[t] for t in types]),
        "attention": {
            "n_heads": r.take("num_attention_heads", WHOLE),
            "n_kv_heads": r.take("num_key_value_heads", WHOLE),
            "head_dim": r.take("head_dim", WHOLE),
            "query_scale": 1,
            "qk_norm": True,
            "v_norm": True,
        },
        **{KINDS[t]: kinds[t] for t in (SLIDING, FULL) if t in types},
        "mlp": {"d_ff": usual, "activation": "gelu_tanh"},
        "norm": {"eps": r.take("rms_norm_eps", NUMBER), "gain": "plain", "post": True},
        "altup": {
            "streams": r.take("altup_num_inputs", WHOLE),
            "active": r.take("altup_active_idx", COUNT) + 1,
            "scaled": True,
        },
        "laurel": {"rank": r.take("laurel_rank", WHOLE)},
        "per_layer_embedding": {
            "width": r.take("hidden_size_per_layer_input", WHOLE),
            "table_rows": r.take("vocab_size_per_layer_input", WHOLE),
        },
        **_spans(r, widths, usual, n_layers),
        "head": {
            "tied": r.take("tie_word_embeddings", FLAG),
            "softcap": r.take("final_logit_softcapping", NUMBER),
        },
    }


def _listed(r: Reader, key: str, kind: FieldType, n_layers: int) -> list[Any]:
    """A value for each layer, from a list or from one for all. Raises SpecError for a list of another length."""
    value = r.take(key)
    if value is None and key == "activation_sparsity_pattern":  # the class's own: the first ten of more than ten
        value = [0.95 if i < 10 < n_layers else 0.0 for i in range(n_layers)]
    values = value if isinstance(value, list) else [value] * n_layers
    if len(values) != n_layers or not all(kind.test(v) for v in values):
        raise SpecError(f"{r.where}{key} must be {kind.words}, or a list of {n_layers} of them")
    return values


def _spans(r: Reader, widths: list[int], usual: int, n_layers: int) -> Tree:
    """Layers that are sparse, of another width, or without keys and values of their own."""
    shares = _listed(r, "activation_sparsity_pattern", SHARE, n_layers)
    spans = _groups("sparse", "sparsity", shares, 0, n_layers) | _groups("wide", "d_ff", widths, usual, n_layers)
    spans |= shared(r, n_layers)
    return {"spans": spans} if spans else {}


def _groups(name: str, key: str, values: list[Any], usual: Any, n_layers: int) -> Tree:
    """A span for each value of the MLP's key that is not the usual one."""
    others = [v for v in dict.fromkeys(values) if v != usual]
    found = {}
    for number, value in enumerate(others, 1):
        at = slices([i for i, v in enumerate(values) if v == value], n_layers)
        found[name if number == 1 else f"{name}_{number}"] = {"layers": at, "mlp": {key: value}}
    return found


def shared(r: Reader, n_layers: int, **also: Any) -> Tree:
    """The span of the last layers, which read keys and values of earlier ones; released files still hold weights."""
    count = r.take("num_kv_shared_layers", COUNT)
    if count >= n_layers:
        raise SpecError(f"{r.where}num_kv_shared_layers ({count}) must leave one of the {n_layers} layers with keys")
    entry = {"layers": f"-{count}:", "attention": {"kv": "shared", "unread_kv": True}, **also}
    return {"shared": entry} if count else {}


# ---------------------------------------------------------------- spec -> config.json


def write(spec: ModelSpec) -> Tree:
    """The config.json of a Gemma 3n: of its text decoder where it has no towers."""
    inner = {"model_type": "gemma3n_text", **_text_words(spec)}
    vision, audio = spec.vision, spec.audio
    if vision is None and audio is None:
        classes = "Gemma3nTextModel" if top_block(spec.decoder, "head") is None else "Gemma3nForCausalLM"
        return {"architectures": [classes], **inner}
    if vision is None or audio is None:
        raise SpecError("it needs both towers, or neither")
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "text_config": inner,
        "vision_config": {"model_type": "gemma3n_vision", "architecture": "mobilenetv5_300m_enc", **_NO_LABELS},
        "audio_config": {"model_type": "gemma3n_audio"},
        "vision_soft_tokens_per_image": vision.tokens,
        "audio_soft_tokens_per_image": audio.tokens,
        "image_token_id": vision.token,
        "audio_token_id": audio.token,
        "tie_word_embeddings": inner["tie_word_embeddings"],
    }


_NO_LABELS = {"num_classes": 2, "label_names": ["LABEL_0", "LABEL_1"]}
"""Without names of classes transformers asks timm for those of ImageNet."""


def _text_words(spec: ModelSpec) -> Tree:
    layers = spec.decoder.in_order()
    attentions = attentions_of(layers)
    mlps = [block(layer, "mlp") for layer in layers]
    types = [layer_type_of(attention) for attention in attentions]
    windows = [a.window for a in attentions if a.window is not None]
    embedding, head = top_block(spec.decoder, "per_layer_embedding"), top_block(spec.decoder, "head")
    altup, laurel = block(layers[0], "altup"), block(layers[0], "laurel")
    if embedding is None or embedding.table_rows is None:
        raise SpecError("it needs per_layer_embedding with a table")
    attention = attentions[0]
    widths_fit(spec, spec.d_model, attention.n_heads)
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": [mlp.sizes()["F"] for mlp in mlps],
        "num_hidden_layers": len(layers),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads,
        "head_dim": attention.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": top_block(spec.decoder, "final_norm").eps,
        "tie_word_embeddings": head is None or head.tied,
        "rope_parameters": ropes_by_type(types, attentions),
        "sliding_window": one(windows, "local.window") if windows else 512,
        "layer_types": types,
        **({} if head is None else {"final_logit_softcapping": real(head.softcap)}),
        "vocab_size_per_layer_input": embedding.table_rows,
        "hidden_size_per_layer_input": embedding.width,
        "altup_active_idx": altup.active - 1,
        "altup_correct_scale": True,
        "altup_num_inputs": altup.streams,
        "num_kv_shared_layers": sum(a.kv == "shared" for a in attentions),
        "laurel_rank": laurel.rank,
        "activation_sparsity_pattern": [0.0 if mlp.sparsity is None else float(mlp.sparsity) for mlp in mlps],
    }


def ropes_by_type(types: list[str], attentions: list[Any]) -> Tree:
    """RoPE of each type of layer, with the class's own for a type that no layer has."""
    found: Tree = {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in THETAS.items()}
    return found | {kind: rope_words(attention) for kind, attention in zip(types, attentions, strict=True)}


# ---------------------------------------------------------------- names of tensors

PER_LAYER: Table = {
    "per_layer.gate": "per_layer_input_gate.weight",
    "per_layer.project": "per_layer_projection.weight",
    "per_layer.norm": "post_per_layer_input_norm.weight",
}
LAYER: Table = {
    **BLOCKS,
    **FOUR_NORMS,
    **PER_LAYER,
    "altup.router": "altup.modality_router.weight",
    "altup.router_norm": "altup.router_norm.weight",
    "altup.predict": "altup.prediction_coefs.weight",
    "altup.correct": "altup.correction_coefs.weight",
    "altup.correct_scale": "altup.correct_output_scale",
    "laurel.left": "laurel.linear_left.weight",
    "laurel.right": "laurel.linear_right.weight",
    "laurel.norm": "laurel.post_laurel_norm.weight",
}


def per_layer(before: str) -> Table:
    """Names of the per-layer embedding."""
    return {
        "per_layer_embedding.table": f"{before}embed_tokens_per_layer.weight Z(LP)",
        "per_layer_embedding.project": f"{before}per_layer_model_projection.weight",
        "per_layer_embedding.norm": f"{before}per_layer_projection_norm.weight",
    }


def naming(spec: ModelSpec) -> Naming:
    """Names as in Gemma3nForCausalLM, or Gemma3nForConditionalGeneration where there are towers."""
    before = "model.language_model." if spec.vision or spec.audio else "model."
    before = before if top_block(spec.decoder, "head") is not None else ""
    return Naming(
        layers={"decoder": f"{before}layers.{{}}."},
        rows={"decoder": LAYER},
        outside={
            **outside(before, "lm_head.weight"),
            **per_layer(before),
            "altup_split.project": Each(f"{before}altup_projections.{{}}.weight"),
            "altup_merge.project": Each(f"{before}altup_unembed_projections.{{}}.weight"),
        },
        counted={
            "vision": ("model.vision_tower.", "model.embed_vision."),
            "audio": ("model.audio_tower.", "model.embed_audio."),
        },
        unused=(*Naming.unused, r"\.altup\.correct_output_scale$"),  # there where altup_correct_scale is false, too
    )
