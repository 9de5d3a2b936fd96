"""SigLIP, the vision tower of PaliGemma, Gemma 3 and T5Gemma 2: config section, and names of tensors."""

from __future__ import annotations

from math import isqrt
from typing import Any

from archlab.errors import SpecError
from archlab.hf.names import Table
from archlab.hf.reader import LAYERS, NUMBER, WHOLE, Reader
from archlab.hf.text import ACTIVATION_WORDS, ACTIVATIONS, Tree, block, top_block
from archlab.layers import Stack


def tower(r: Reader) -> Tree:
    """The `vision` section but for its token and projector."""
    d_model, n_heads = r.take("hidden_size", WHOLE), r.take("num_attention_heads", WHOLE)
    if d_model % n_heads:
        raise SpecError(f"{r.where}hidden_size ({d_model}) must be a multiple of num_attention_heads ({n_heads})")
    r.only("num_channels", 3, why="pictures have three channels here")
    r.only("vision_use_head", False, why="the pooling head makes no tokens, and no Gemma keeps it")
    r.ignore("projection_dim", "num_image_tokens", "projector_hidden_act", "num_positions", "vocab_size")
    r.ignore("tie_word_embeddings")
    heads = {"n_heads": n_heads, "n_kv_heads": n_heads, "head_dim": d_model // n_heads}
    return {
        "d_model": d_model,
        "n_layers": r.take("num_hidden_layers", LAYERS),
        "attention": {**heads, "mask": "bidirectional", "bias": "all", "rope_theta": None},
        "mlp": {
            "d_ff": r.take("intermediate_size", WHOLE),
            "activation": r.word("hidden_act", ACTIVATIONS),
            "gated": False,
            "bias": True,
        },
        "norm": {"type": "layer", "eps": r.take("layer_norm_eps", NUMBER)},
        "patches": {"image_size": r.take("image_size", WHOLE), "patch_size": r.take("patch_size", WHOLE)},
    }


def pool(r: Reader, sizes: Tree, tokens: int) -> int:
    """Patches along the side of a square that becomes one token. Raises SpecError where they do not fit."""
    side = sizes["image_size"] // sizes["patch_size"]
    along = isqrt(tokens)
    if along * along != tokens or side % along:
        raise SpecError(f"{r.where}mm_tokens_per_image={tokens} must be a square whose side divides {side} patches")
    return side // along


def words(vision: Stack) -> Tree:
    """The section of a tower. What it cannot say shows when it is read back."""
    patches = _patches(vision)
    layer = vision.in_order()[0]
    attention, mlp = block(layer, "attention"), block(layer, "mlp")
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": patches.d_model,
        "intermediate_size": mlp.d_ff * mlp.d_ff_factor,
        "num_hidden_layers": len(vision.in_order()),
        "num_attention_heads": attention.n_heads,
        "num_channels": 3,
        "image_size": patches.image_size,
        "patch_size": patches.patch_size,
        "hidden_act": ACTIVATION_WORDS[mlp.activation],
        "layer_norm_eps": top_block(vision, "projector").norm_eps,
        "vision_use_head": False,
    }


def _patches(vision: Stack) -> Any:
    patches = top_block(vision, "patches")
    if vision.counted or patches is None:
        raise SpecError("the vision tower is known by number alone")
    return patches


LAYER: Table = {
    "attention.pre_norm.gain": "layer_norm1.weight",
    "attention.pre_norm.bias": "layer_norm1.bias",
    "attention.q": "self_attn.q_proj.weight",
    "attention.k": "self_attn.k_proj.weight",
    "attention.v": "self_attn.v_proj.weight",
    "attention.o": "self_attn.out_proj.weight D(NH)",
    "attention.q_bias": "self_attn.q_proj.bias",
    "attention.k_bias": "self_attn.k_proj.bias",
    "attention.v_bias": "self_attn.v_proj.bias",
    "attention.o_bias": "self_attn.out_proj.bias",
    "mlp.pre_norm.gain": "layer_norm2.weight",
    "mlp.pre_norm.bias": "layer_norm2.bias",
    "mlp.up": "mlp.fc1.weight",
    "mlp.up_bias": "mlp.fc1.bias",
    "mlp.down": "mlp.fc2.weight",
    "mlp.down_bias": "mlp.fc2.bias",
}


def outside(before: str) -> Table:
    """Names of the patches and of the last norm."""
    return {
        "vision.patches.patch": f"{before}embeddings.patch_embedding.weight DCIO",
        "vision.patches.patch_bias": f"{before}embeddings.patch_embedding.bias",
        "vision.patches.position": f"{before}embeddings.position_embedding.weight",
        "vision.final_norm.gain": f"{before}post_layernorm.weight",
        "vision.final_norm.bias": f"{before}post_layernorm.bias",
    }


ALIASES = ((r"(^|\.)vision_tower\.vision_model\.", r"\1vision_tower."),)
"""Released files and transformers before 5 have one more name between the tower and its parts."""
