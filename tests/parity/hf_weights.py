"""transformers' Gemma decoders in archlab's words: a spec from a config, and weights under archlab's names.

The embedding scale, the order of norms and the meaning of `post_attention_layernorm` differ by family; see FAMILIES.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from archlab.assemble import resolve
from archlab.spec import ModelSpec

TWO_NORMS = {"input_layernorm": "attention.pre_norm", "post_attention_layernorm": "mlp.pre_norm"}
VAULT_NORMS = {"input_layernorm": "attention.pre_norm", "pre_feedforward_layernorm": "mlp.pre_norm"}
FOUR_NORMS = VAULT_NORMS | {
    "post_attention_layernorm": "attention.post_norm",
    "post_feedforward_layernorm": "mlp.post_norm",
}
FAMILIES = {"gemma": TWO_NORMS, "gemma2": FOUR_NORMS, "gemma3_text": FOUR_NORMS, "vaultgemma": VAULT_NORMS}
"""model_type -> what its norms are called here. Gemma 1's post_attention_layernorm stands before the MLP."""

KINDS = {"sliding_attention": "local", "full_attention": "global"}
LINEAR = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.o",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
OUTSIDE = {"embed_tokens": "embedding.table", "norm": "final_norm.gain", "lm_head": "head.table"}


def spec_of(config: PreTrainedConfig) -> ModelSpec:
    """The spec that a config describes."""
    layer_types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    activation = {"gelu_pytorch_tanh": "gelu_tanh"}.get(act := _activation(config), act)
    data: dict[str, Any] = {
        "name": "tiny",
        "family": config.model_type,
        "source": "a random config",
        "d_model": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "pattern": [KINDS[t] for t in layer_types],
        "attention": {
            "n_heads": config.num_attention_heads,
            "n_kv_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "query_scale": getattr(config, "query_pre_attn_scalar", None),
            "softcap": getattr(config, "attn_logit_softcapping", None),
            "qk_norm": config.model_type == "gemma3_text",
        },
        "mlp": {"d_ff": config.intermediate_size, "activation": activation},
        "norm": {"eps": config.rms_norm_eps, "gain": "one_plus", "post": FAMILIES[config.model_type] is FOUR_NORMS},
        "head": {"tied": config.tie_word_embeddings, "softcap": getattr(config, "final_logit_softcapping", None)},
    }
    for layer_type in dict.fromkeys(layer_types):
        window = {"window": config.sliding_window} if layer_type == "sliding_attention" else {}
        data[KINDS[layer_type]] = window | _rope(config, layer_type)
    return resolve(data)


def _activation(config: PreTrainedConfig) -> str:
    return getattr(config, "hidden_activation", None) or config.hidden_act


def _rope(config: PreTrainedConfig, layer_type: str) -> dict[str, float]:
    rope = config.rope_parameters
    rope = rope.get(layer_type, rope)
    return {"rope_theta": rope["rope_theta"], "rope_factor": rope.get("factor", 1.0)}


def renamed(weights: dict[str, Tensor], model: torch.nn.Module, model_type: str) -> dict[str, Tensor]:
    """A transformers state dict for `model.load_state_dict`. Raises KeyError for a tensor that has no place."""
    places = model.state_dict()
    found = {(ours := _name(name, model_type)): t.view(places[ours].shape) for name, t in weights.items()}
    return {"head.table": found["embedding.table"], **found}


def _name(name: str, model_type: str) -> str:
    inner = name.removeprefix("model.").removesuffix(".weight")
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", inner)
    if layer is None:
        return OUTSIDE[inner]
    index, rest = layer.groups()
    norms = FAMILIES[model_type]
    return f"layers.{index}." + (f"{norms[rest]}.gain" if rest in norms else LINEAR[rest])
