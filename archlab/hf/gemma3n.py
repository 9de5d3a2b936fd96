"""Gemma 3n: AltUp streams, LAuReL, per-layer embeddings, shared keys and values, sparse first layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from archlab.errors import SpecError
from archlab.hf import counted
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, FOUR_NORMS, THETAS, has_head, outside
from archlab.hf.multimodal import tied
from archlab.hf.names import Each, Naming, Table
from archlab.hf.reader import COUNT, FLAG, NUMBER, SHARE, WHOLE, Reader
from archlab.hf.text import (
    FULL,
    KINDS,
    SLIDING,
    Tree,
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
    n_layers = r.take("num_hidden_layers", WHOLE)
    types = layer_types(r, 5, n_layers)
    ropes = rope_by_type(r, THETAS)
    kinds = {SLIDING: {"window": r.take("sliding_window", WHOLE), **ropes[SLIDING]}, FULL: ropes[FULL]}
    widths = _listed(r, "intermediate_size", WHOLE, n_layers)
    usual = Counter(widths).most_common(1)[0][0]
    r.word("hidden_activation", {"gelu_pytorch_tanh": "gelu_tanh"})
    r.only("attention_bias", False, why="layers that share keys have none to give a bias")
    r.ignore("altup_coef_clip", "sliding_window_pattern", "_sliding_window_pattern")
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
            "scaled": r.take("altup_correct_scale", FLAG),
        },
        "laurel": {"rank": r.take("laurel_rank", WHOLE)},
        "per_layer_embedding": {
            "width": r.take("hidden_size_per_layer_input", WHOLE),
            "table_rows": r.take("vocab_size_per_layer_input", WHOLE),
        },
        **_spans(r, widths, usual, n_layers),
        "head": {
            "tied": r.take("tie_word_embeddings", FLAG),
            "softcap": r.take("final_logit_softcapping", NUMBER, none=True),
        },
    }


def _listed(r: Reader, key: str, kind: Any, n_layers: int) -> list[Any]:
    """A value for each layer, from a list or from one for all. Raises SpecError for a list of another length."""
    value = r.take(key)
    values = value if isinstance(value, list) else [value] * n_layers
    if len(values) != n_layers or not all(kind.test(v) for v in values):
        raise SpecError(f"{r.where}{key} must be {kind.words}, or a list of {n_layers} of them")
    return values


def _spans(r: Reader, widths: list[int], usual: int, n_layers: int) -> Tree:
    """Layers that are sparse, of another width, or without keys and values of their own."""
    shares = r.take("activation_sparsity_pattern")
    if shares is None:  # the class's own: the first ten of more than ten
        shares = [0.95 if i < 10 < n_layers else 0.0 for i in range(n_layers)]
    r = Reader({"activation_sparsity_pattern": shares}, {}, r.where)
    shares = _listed(r, "activation_sparsity_pattern", SHARE, n_layers)
    spans = _groups("sparse", "sparsity", shares, 0, n_layers) | _groups("wide", "d_ff", widths, usual, n_layers)
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
