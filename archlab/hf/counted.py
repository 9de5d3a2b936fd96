"""Towers that are known by the number of their parameters: what the number is, from their part of a config.json.

The numbers equal those of transformers 5.23.0's modules (timm's for MobileNetV5), tensor by tensor.
"""

from __future__ import annotations

from archlab.errors import SpecError
from archlab.hf.reader import LAYERS, PAIR, WHOLE, Reader
from archlab.hf.text import Tree

MOBILENET = {"mobilenetv5_300m_enc": 294_126_912}
"""timm's architecture -> parameters."""
MELS = 128
"""Bins of the spectrogram; two convolutions of stride 2 leave a quarter of them."""


def mobilenet(r: Reader, d_model: int, tokens: int) -> Tree:
    """Gemma 3n's vision tower and its embedder."""
    parameters = r.word("architecture", MOBILENET)
    r.only("do_pooling", False, why="its tokens are not pooled")
    r.only("model_args", None, why="another MobileNet has another number of parameters")
    r.ignore("vocab_offset", "rms_norm_eps", "pretrained_cfg")
    return {"parameters": parameters, "projector": _embedder(r, d_model), "tokens": tokens, "what": "MobileNetV5-300M"}


def _embedder(r: Reader, d_model: int) -> int:
    """Gemma 3n: a table of special tokens, two norms, a projection."""
    vocab, width = r.take("vocab_size", WHOLE), r.take("hidden_size", WHOLE)
    return int(vocab * width + 2 * width + width * d_model)


def gemma3n_conformer(r: Reader, d_model: int, tokens: int) -> Tree:
    """Gemma 3n's audio tower (USM) and its embedder."""
    width, kernel = r.take("hidden_size", WHOLE), r.take("conf_conv_kernel_size", WHOLE)
    first, second = r.take("sscp_conv_channel_size", PAIR)
    r.only("sscp_conv_kernel_size", [[3, 3], [3, 3]], why="only the released convolutions are counted")
    r.only("sscp_conv_stride_size", [[2, 2], [2, 2]], why="only the released convolutions are counted")
    r.only("input_feat_size", 128, why="only the released spectrogram is counted")
    r.ignore(
        "vocab_offset", "rms_norm_eps", "gradient_clipping", "conf_attention_chunk_size", "conf_attention_context_left",
        "conf_attention_context_right", "conf_attention_logit_cap", "conf_reduction_factor", "conf_residual_weight",
        "sscp_conv_group_norm_eps", "sscp_conv_eps", "conf_positional_bias_size", "conf_attention_invalid_logits_value",
    )  # fmt: skip
    layers = r.take("conf_num_hidden_layers", LAYERS) * _conformer_layer(
        width, r.take("conf_num_attention_heads", WHOLE), kernel
    )
    parameters = layers + _subsampling(width, first, second, MELS // 4)
    projector = _embedder(r, d_model)
    return {"parameters": parameters, "projector": projector, "tokens": tokens, "what": "Conformer (USM)"}


def gemma4_conformer(r: Reader, d_model: int, tokens: int) -> Tree:
    """Gemma 4's audio tower and its projection."""
    width, kernel, out = (r.take(key, WHOLE) for key in ("hidden_size", "conv_kernel_size", "output_proj_dims"))
    first, second = r.take("subsampling_conv_channels", PAIR)
    r.ignore(
        "hidden_act", "residual_weight", "attention_chunk_size", "attention_context_left", "attention_context_right",
        "attention_logit_cap", "attention_invalid_logits_value", "use_clipped_linears", "rms_norm_eps",
        "gradient_clipping",
    )  # fmt: skip
    layers = r.take("num_hidden_layers", LAYERS) * _conformer_layer(width, r.take("num_attention_heads", WHOLE), kernel)
    parameters = layers + _subsampling(width, first, second, first // 4) + out * width + out
    return {"parameters": parameters, "projector": out * d_model, "tokens": tokens, "what": "Conformer"}


def _conformer_layer(width: int, n_heads: int, kernel: int) -> int:
    """Two feed-forwards of 4 times the width, attention with relative positions, a convolution, and their norms."""
    if width % n_heads:
        raise SpecError(f"audio_config.hidden_size ({width}) must be a multiple of its heads ({n_heads})")
    feed_forwards = 2 * (8 * width * width + 2 * width)
    attention = 5 * width * width + width // n_heads + 2 * width
    convolution = 3 * width * width + kernel * width + 2 * width
    return feed_forwards + attention + convolution + width


def _subsampling(width: int, first: int, second: int, rows: int) -> int:
    """Two convolutions of 3 x 3 with a norm each, and a projection of the rows that they leave."""
    return 9 * first + first + 9 * first * second + second + width * second * rows


def unified_vision(r: Reader, d_model: int) -> Tree:
    """Gemma 4 12B's patch embedder: two norms around a projection, positions for each axis, a norm, a projection."""
    keys = ("patch_size", "pooling_kernel_size", "mm_embed_dim", "mm_posemb_size")
    patch, kernel, width, rows = (r.take(key, WHOLE) for key in keys)
    tokens = r.take("num_soft_tokens", WHOLE)
    r.ignore("output_proj_dims", "rms_norm_eps", "model_patch_size")
    pixels = 3 * (patch * kernel) ** 2
    projector = 2 * pixels + pixels * width + width + 2 * width + 2 * rows * width + 2 * width + width * d_model
    return {"projector": projector, "tokens": tokens, "what": "embedder of patches, no tower"}


def unified_audio(r: Reader, d_model: int) -> Tree:
    """Gemma 4 12B's projection of raw frames."""
    width = r.take("audio_embed_dim", WHOLE)
    r.ignore("rms_norm_eps", "hidden_size", "output_proj_dims", "audio_samples_per_token")
    return {"projector": width * d_model, "tokens": 750, "what": "projection of raw frames, no tower"}
