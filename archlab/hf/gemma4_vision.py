"""Gemma 4's vision tower: config section, and names of tensors."""

from __future__ import annotations

from math import isqrt

from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, FOUR_NORMS
from archlab.hf.names import Table
from archlab.hf.reader import FLAG, LAYERS, NUMBER, WHOLE, Reader
from archlab.hf.text import ACTIVATION_WORDS, ACTIVATIONS, Tree, block, real, top_block
from archlab.layers import Stack

CLIPPED = (
    "The vision tower's linear layers clip what they read and write to ranges that the checkpoint keeps in buffers; "
    "here they do not."
)


def tower(r: Reader) -> Tree:
    """The `vision` section but for its token. No key says a size: pictures are as large as a square may be."""
    inner = r.below("rope_parameters", {"rope_type": "axial", "rope_theta": 100.0})
    inner.only("rope_type", "axial", "default", why="its RoPE is of two axes")
    r.only("attention_bias", False, None, why="its projections have none")
    if r.given("global_head_dim"):
        r.only("global_head_dim", r.take("head_dim"), why="all its layers are alike")
    r.ignore("max_position_embeddings", "global_head_dim")
    patch, pool = r.take("patch_size", WHOLE), r.take("pooling_kernel_size", WHOLE)
    positions = r.take("position_embedding_size", WHOLE)
    keys = ("num_attention_heads", "num_key_value_heads", "head_dim")
    n_heads, n_kv_heads, head_dim = (r.take(key, WHOLE) for key in keys)
    heads = {"n_heads": n_heads, "n_kv_heads": n_kv_heads, "head_dim": head_dim}
    normed = {"query_scale": 1, "qk_norm": True, "v_norm": True}
    theta = inner.take("rope_theta", NUMBER)
    standardize = {"standardize": True} if r.take("standardize", FLAG) else {}
    r.take("use_clipped_linears", FLAG)
    along = min(isqrt(r.take("default_output_length", WHOLE)), positions // pool)  # of a picture that is square
    inner.done()
    return {
        "d_model": r.take("hidden_size", WHOLE),
        "n_layers": r.take("num_hidden_layers", LAYERS),
        "final_norm": False,
        "attention": {**heads, **normed, "mask": "bidirectional", "rope_theta": theta, "rope_axes": 2},
        "mlp": {"d_ff": r.take("intermediate_size", WHOLE), "activation": r.word("hidden_activation", ACTIVATIONS)},
        "norm": {"eps": r.take("rms_norm_eps", NUMBER), "gain": "plain", "post": True},
        "patches": {
            "image_size": along * pool * patch,
            "patch_size": patch,
            "positions": positions,
            "bias": False,
            "stretch": True,
        },
        "projector": {"pool": pool, "scaled": True, "norm": "plain", **standardize},
    }


def words(vision: Stack) -> Tree:
    """The section of a tower. What it cannot say shows when it is read back."""
    layer = vision.in_order()[0]
    attention, mlp, patches = block(layer, "attention"), block(layer, "mlp"), top_block(vision, "patches")
    project = top_block(vision, "projector")
    released = DEFAULTS["gemma4_vision"]["default_output_length"]
    return {
        "default_output_length": released if vision.tokens == isqrt(released) ** 2 else vision.tokens,
        "hidden_size": patches.d_model,
        "intermediate_size": mlp.sizes()["F"],
        "num_hidden_layers": len(vision.in_order()),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads,
        "head_dim": attention.head_dim,
        "hidden_activation": ACTIVATION_WORDS[mlp.activation],
        "rms_norm_eps": project.norm_eps,
        "rope_parameters": {"rope_type": "axial", "rope_theta": real(attention.rope_theta)},
        "pooling_kernel_size": project.pool,
        "patch_size": patches.patch_size,
        "position_embedding_size": patches.positions,
        "standardize": project.standardize,
    }


LAYER: Table = {
    **{ours: str(name).replace(".weight", ".linear.weight") for ours, name in BLOCKS.items() if "norm" not in ours},
    "attention.q_norm": "self_attn.q_norm.weight",
    "attention.k_norm": "self_attn.k_norm.weight",
    **FOUR_NORMS,
}


def outside(before: str) -> Table:
    """Names of the patches and of the projector."""
    return {
        "vision.patches.patch": f"{before}patch_embedder.input_proj.weight D(IOC)",
        "vision.patches.position": f"{before}patch_embedder.position_embedding_table",
        "vision.projector.std_bias": f"{before}std_bias",
        "vision.projector.std_scale": f"{before}std_scale",
        "vision.projector.project": "model.embed_vision.embedding_projection.weight",
    }
