"""Tiny models of transformers, one or more a family, with random weights that are nowhere at their start."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCAB = 97
TEXT: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    pad_token_id=0,
)
WINDOWED = dict(TEXT, sliding_window=6, query_pre_attn_scalar=12)
GEMMA3 = dict(
    WINDOWED,
    num_hidden_layers=7,
    rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    },
)
GEMMA3N = dict(
    TEXT,
    sliding_window=6,
    layer_types=["sliding_attention", "full_attention"] * 3,
    num_hidden_layers=6,
    intermediate_size=[80, 80, 64, 80, 80, 64],
    vocab_size_per_layer_input=80,
    hidden_size_per_layer_input=12,
    altup_num_inputs=3,
    altup_active_idx=1,
    num_kv_shared_layers=2,
    laurel_rank=6,
    activation_sparsity_pattern=[0.9, 0.9, 0.0, 0.0, 0.5, 0.0],
)
GEMMA4 = dict(
    TEXT,
    sliding_window=6,
    layer_types=["sliding_attention", "full_attention"] * 2,
    global_head_dim=24,
    final_logit_softcapping=9.0,
    hidden_size_per_layer_input=0,
)
E2B = dict(
    hidden_size_per_layer_input=12, vocab_size_per_layer_input=VOCAB, num_kv_shared_layers=2, use_double_wide_mlp=True
)
EXPERTS = dict(enable_moe_block=True, num_experts=5, top_k_experts=2, moe_intermediate_size=24)
K_IS_V = dict(attention_k_eq_v=True, num_global_key_value_heads=1)
SIGLIP = dict(
    model_type="siglip_vision_model",
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=28,
    patch_size=7,
    vision_use_head=False,
)
VIT = dict(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=3,
    head_dim=12,
    patch_size=2,
    pooling_kernel_size=2,
    position_embedding_size=64,
    standardize=True,
)

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gemma": ("GemmaForCausalLM", "GemmaConfig", TEXT),
    "gemma-bias-untied": ("GemmaForCausalLM", "GemmaConfig", TEXT | dict(attention_bias=True, tie_word_embeddings=False)),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", WINDOWED),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GEMMA3),
    "embeddinggemma": (
        "Gemma3TextModel", "Gemma3TextConfig", GEMMA3 | dict(use_bidirectional_attention=True, sliding_window=8)
    ),
    "vaultgemma": ("VaultGemmaForCausalLM", "VaultGemmaConfig", WINDOWED),
    "recurrentgemma": (
        "RecurrentGemmaForCausalLM", "RecurrentGemmaConfig",
        dict(TEXT, num_key_value_heads=1, head_dim=12, lru_width=48, attention_window_size=6, num_hidden_layers=5),
    ),
    "gemma3n": ("Gemma3nForCausalLM", "Gemma3nTextConfig", GEMMA3N),
    "gemma4": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA4),
    "gemma4-e2b": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA4 | E2B),
    "gemma4-31b": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA4 | K_IS_V),
    "gemma4-26b-a4b": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA4 | K_IS_V | EXPERTS),
    "gemma2-bare": ("Gemma2Model", "Gemma2Config", WINDOWED),
    "gemma3n-bare": ("Gemma3nTextModel", "Gemma3nTextConfig", GEMMA3N),
    "gemma4-bare": ("Gemma4TextModel", "Gemma4TextConfig", GEMMA4 | E2B),
    "gemma4-pictures": (
        "Gemma4ForConditionalGeneration", "Gemma4Config",
        dict(text_config=GEMMA4 | K_IS_V | dict(use_bidirectional_attention="vision"), vision_config=VIT, image_token_id=95),
    ),
    "gemma3-pictures": (
        "Gemma3ForConditionalGeneration", "Gemma3Config",
        dict(text_config=GEMMA3, vision_config=SIGLIP, mm_tokens_per_image=4, image_token_index=95),
    ),
    "paligemma": (
        "PaliGemmaForConditionalGeneration", "PaliGemmaConfig",
        dict(text_config=TEXT | dict(model_type="gemma"), vision_config=SIGLIP, projection_dim=48, image_token_index=95),
    ),
    "paligemma2": (
        "PaliGemmaForConditionalGeneration", "PaliGemmaConfig",
        dict(text_config=WINDOWED | dict(model_type="gemma2"), vision_config=SIGLIP, projection_dim=48, image_token_index=95),
    ),
    "t5gemma": (
        "T5GemmaForConditionalGeneration", "T5GemmaConfig",
        dict(encoder=WINDOWED | dict(hidden_size=32, num_hidden_layers=2), decoder=WINDOWED, vocab_size=VOCAB),
    ),
    "t5gemma2": (
        "T5Gemma2ForConditionalGeneration", "T5Gemma2Config",
        dict(
            encoder=dict(text_config=GEMMA3 | dict(num_hidden_layers=2), vision_config=SIGLIP, mm_tokens_per_image=4, eoi_token_index=94),
            decoder=GEMMA3, image_token_index=95,
        ),
    ),
}  # fmt: skip
"""name -> (class, configuration class, options)."""


def config_of(name: str) -> transformers.PreTrainedConfig:
    """The configuration of a case, eager throughout."""
    class_name, config_name, options = CASES[name]
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    return getattr(transformers, config_name)(**options, architectures=[class_name], **eager)


def model_of(name: str, seed: int = 0) -> nn.Module:
    """transformers' model of a case; gains, biases, scalars and buffers are random too."""
    torch.manual_seed(seed)
    model = getattr(transformers, CASES[name][0])(config_of(name)).eval()
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and key in model.state_dict():
            scale = tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 0.5
            tensor.data.normal_(std=scale)
    return model


@torch.no_grad()
def outputs(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits, or the last hidden states of a model without a head; an encoder-decoder reads the ids at both ends."""
    config = getattr(model, "config", None)
    if config is None:
        given = {"decoder_ids": ids} if model.spec.encoder is not None else {}
        return model(ids, **given)
    given = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    if config.model_type == "paligemma":  # without labels everything is a prefix; here nothing is
        given = {"token_type_ids": torch.ones_like(ids)}
    found = model(input_ids=ids, **given)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state
