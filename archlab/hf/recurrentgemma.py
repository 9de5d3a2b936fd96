"""RecurrentGemma: Griffin's recurrent blocks with one local attention in three."""

from __future__ import annotations

from typing import Any

from archlab.blocks import RGLRU, Attention
from archlab.errors import SpecError
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import has_head
from archlab.hf.names import Naming, Table
from archlab.hf.reader import FLAG, LAYERS, NUMBER, WHOLE, WORDS, Reader, short
from archlab.hf.text import (
    ACTIVATION_WORDS,
    ACTIVATIONS,
    Tree,
    block,
    flat_rope,
    one,
    pattern,
    period,
    real,
    rope_words,
    said,
    top_block,
)
from archlab.spec import ModelSpec

KINDS = {"recurrent": "recurrent", "attention": "local"}
CLASS = "RecurrentGemmaForCausalLM"


def read(config: Tree) -> Tree:
    """The model file of a RecurrentGemma checkpoint."""
    r = Reader(config, DEFAULTS["recurrent_gemma"])
    d_model, n_heads = r.take("hidden_size", WHOLE), r.take("num_attention_heads", WHOLE)
    n_kv_heads = r.take("num_key_value_heads", WHOLE, none=True)
    head_dim = r.take("head_dim", WHOLE, none=True)
    width = r.take("lru_width", WHOLE, none=True)
    if r.word("hidden_activation", ACTIVATIONS) != "gelu_tanh":
        raise SpecError("hidden_activation must be gelu_pytorch_tanh: the recurrent block's gate has no other")
    rope = _rope(r)
    tree = {
        "family": "recurrentgemma",
        "d_model": d_model,
        "n_layers": r.take("num_hidden_layers", LAYERS),
        "vocab_size": r.take("vocab_size", WHOLE),
        "context": r.take("max_position_embeddings", WHOLE),
        "pattern": pattern(_kinds(r)),
        "attention": {
            "n_heads": n_heads,
            "n_kv_heads": n_heads if n_kv_heads is None else n_kv_heads,
            "head_dim": d_model // n_heads if head_dim is None else head_dim,
            **said(rope_fraction=rope.pop("rope_fraction", None)),
            "bias": "all" if r.take("attention_bias", FLAG) else "output",
        },
        "local": {"window": r.take("attention_window_size", WHOLE), **rope},
        "recurrent": {
            "block": "rglru",
            "width": d_model if width is None else width,
            "n_heads": n_heads,
            "conv": r.take("conv1d_width", WHOLE),
        },
        "mlp": {"d_ff": r.take("intermediate_size", WHOLE) // 2, "activation": "gelu_tanh", "bias": True},
        "norm": {"eps": r.take("rms_norm_eps", NUMBER), "gain": "one_plus"},
        "embedding": {"scale_format": "bf16"},
        "head": said(tied=r.take("tie_word_embeddings", FLAG), softcap=r.take("logits_soft_cap", NUMBER)),
    }
    if not has_head(r, (CLASS,), ("RecurrentGemmaModel",)):
        tree["head"] = {"logits": False}
    if r.given("embeddings_scale_by_sqrt_dim"):
        r.only("embeddings_scale_by_sqrt_dim", True, why="transformers scales them whatever the key says")
    r.ignore("embeddings_scale_by_sqrt_dim", "w_init_variance_scale", "final_w_init_variance_scale")
    r.done()
    used = set(_kinds(r)[: tree["n_layers"]])
    return {key: entry for key, entry in tree.items() if key not in KINDS.values() or key in used}


def _kinds(r: Reader) -> list[str]:
    types = r.take("_block_types" if r.given("_block_types") and not r.given("block_types") else "block_types", WORDS)
    r.ignore("_block_types", "block_types", "layer_types", "layers_block_type")
    for name in types:
        if name not in KINDS:
            raise SpecError(f"block_types has {short(name)}; it must be of {' and '.join(KINDS)}")
    return [KINDS[name] for name in types]


def _rope(r: Reader) -> Tree:
    share = r.take("partial_rotary_factor", NUMBER)
    rope = flat_rope(r)
    rope.setdefault("rope_fraction", share)
    return rope if rope["rope_fraction"] != 1 else {k: v for k, v in rope.items() if k != "rope_fraction"}


def write(spec: ModelSpec) -> Tree:
    """The config.json of a RecurrentGemma."""
    layers = spec.decoder.in_order()
    mixers = [block(layer, "attention") for layer in layers]
    recurrent = [mixer for mixer in mixers if isinstance(mixer, RGLRU)]
    attentions = [mixer for mixer in mixers if isinstance(mixer, Attention)]
    if not recurrent or not attentions:
        raise SpecError("it needs recurrent layers and attention layers")
    attention, head = one(attentions, "attention"), top_block(spec.decoder, "head")
    mlp = one([block(layer, "mlp") for layer in layers], "mlp")
    rglru = one(recurrent, "recurrent")
    names = ["recurrent" if m in recurrent else "attention" for m in mixers]
    rope = rope_words(attention)
    return {
        "architectures": [CLASS if head is not None else "RecurrentGemmaModel"],
        "model_type": "recurrent_gemma",
        "num_hidden_layers": len(layers),
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.d_model,
        "intermediate_size": 2 * mlp.sizes()["F"],
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": spec.context,
        "lru_width": rglru.width,
        "attention_window_size": attention.window,
        "conv1d_width": rglru.conv,
        **({} if head is None else {"logits_soft_cap": real(head.softcap)}),
        "rms_norm_eps": top_block(spec.decoder, "final_norm").eps,
        "hidden_activation": ACTIVATION_WORDS[mlp.activation],
        "block_types": names[: period(names)],
        "attention_bias": attention.bias == "all",
        "partial_rotary_factor": attention.rope_fraction,
        "rope_parameters": {**rope, "partial_rotary_factor": attention.rope_fraction},
        "tie_word_embeddings": head is None or head.tied,
    }


LAYER: Table = {
    "attention.pre_norm.gain": "temporal_pre_norm.weight",
    "attention.q": "temporal_block.q_proj.weight",
    "attention.k": "temporal_block.k_proj.weight",
    "attention.v": "temporal_block.v_proj.weight",
    "attention.o": "temporal_block.o_proj.weight D(NH)",
    "attention.q_bias": "temporal_block.q_proj.bias",
    "attention.k_bias": "temporal_block.k_proj.bias",
    "attention.v_bias": "temporal_block.v_proj.bias",
    "attention.o_bias": "temporal_block.o_proj.bias",
    "attention.y": "temporal_block.linear_y.weight",
    "attention.y_bias": "temporal_block.linear_y.bias",
    "attention.x": "temporal_block.linear_x.weight",
    "attention.x_bias": "temporal_block.linear_x.bias",
    "attention.out": "temporal_block.linear_out.weight",
    "attention.out_bias": "temporal_block.linear_out.bias",
    "attention.conv": "temporal_block.conv_1d.weight L1C",
    "attention.conv_bias": "temporal_block.conv_1d.bias",
    "attention.input_gate": "temporal_block.rg_lru.input_gate_weight",
    "attention.input_gate_bias": "temporal_block.rg_lru.input_gate_bias",
    "attention.decay_gate": "temporal_block.rg_lru.recurrent_gate_weight",
    "attention.decay_gate_bias": "temporal_block.rg_lru.recurrent_gate_bias",
    "attention.decay": "temporal_block.rg_lru.recurrent_param",
    "mlp.pre_norm.gain": "channel_pre_norm.weight",
    "mlp.gate": "mlp_block.gate_proj.weight",
    "mlp.up": "mlp_block.up_proj.weight",
    "mlp.down": "mlp_block.down_proj.weight",
    "mlp.gate_bias": "mlp_block.gate_proj.bias",
    "mlp.up_bias": "mlp_block.up_proj.bias",
    "mlp.down_bias": "mlp_block.down_proj.bias",
}


def naming(spec: ModelSpec) -> Naming:
    """Names as in RecurrentGemmaForCausalLM."""
    before = "" if top_block(spec.decoder, "head") is None else "model."
    names: dict[str, Any] = {
        "embedding.table": f"{before}embed_tokens.weight",
        "final_norm.gain": f"{before}final_norm.weight",
        "head.table": "lm_head.weight",
    }
    return Naming(layers={"decoder": f"{before}layers.{{}}."}, rows={"decoder": LAYER}, outside=names)
