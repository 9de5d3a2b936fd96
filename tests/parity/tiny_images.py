"""Tiny models with pictures: transformers' random one, nothing in it at its start, and ours with its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import archlab
from archlab.nn.decoder import Decoder

VOCAB, IMAGE, WINDOW = 97, 95, 6

TEXT = dict(
    vocab_size=VOCAB,
    hidden_size=30,
    intermediate_size=44,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    max_position_embeddings=64,
    pad_token_id=0,
)
WINDOWED = dict(sliding_window=WINDOW, query_pre_attn_scalar=7)
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA3 = {**TEXT, **WINDOWED, "layer_types": LAYERS}
GEMMA4 = {
    **TEXT, "sliding_window": WINDOW, "num_hidden_layers": 4, "global_head_dim": 16, "final_logit_softcapping": 9.0,
    "layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 0,
}  # fmt: skip
SIGLIP = dict(
    model_type="siglip_vision_model",
    hidden_size=24,
    intermediate_size=37,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=28,
    patch_size=7,
    vision_use_head=False,
)
VIT = dict(
    hidden_size=24,
    intermediate_size=37,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=3,
    head_dim=12,
    patch_size=2,
    pooling_kernel_size=2,
    position_embedding_size=23,
    default_output_length=4,
    rope_parameters={"rope_type": "axial", "rope_theta": 7.0},
)
E2B = dict(
    hidden_size_per_layer_input=5, vocab_size_per_layer_input=VOCAB, num_kv_shared_layers=2, use_double_wide_mlp=True
)
LARGE = dict(
    use_bidirectional_attention="vision", attention_k_eq_v=True, num_global_key_value_heads=1, num_attention_heads=4
)
EXPERTS = dict(enable_moe_block=True, num_experts=5, top_k_experts=2, moe_intermediate_size=21)


@dataclass(frozen=True)
class Case:
    """A class of transformers with its options."""

    name: str
    text: dict[str, Any]
    vision: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)


CASES = {
    "paligemma": Case("PaliGemma", {**TEXT, "model_type": "gemma", "num_key_value_heads": 1}, SIGLIP),
    "paligemma2": Case("PaliGemma", {**TEXT, **WINDOWED, "model_type": "gemma2"}, SIGLIP),
    "gemma3": Case("Gemma3", GEMMA3, SIGLIP, {"mm_tokens_per_image": 4}),
    "gemma3-image-wider-than-window": Case("Gemma3", GEMMA3, SIGLIP, {"mm_tokens_per_image": 16}),
    "gemma3-scaled-rope": Case(
        "Gemma3",
        {**GEMMA3, "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
        }},
        {**SIGLIP, "patch_size": 4, "hidden_size": 26, "num_attention_heads": 2},
        {"mm_tokens_per_image": 1},
    ),
    "shieldgemma2": Case("ShieldGemma2", GEMMA3, SIGLIP, {"mm_tokens_per_image": 4}),
    "gemma4-e2b": Case("Gemma4", {**GEMMA4, **E2B}, {**VIT, "use_clipped_linears": True}),
    "gemma4-31b": Case("Gemma4", {**GEMMA4, **LARGE}, {**VIT, "standardize": True}),
    "gemma4-image-wider-than-window": Case(
        "Gemma4", {**GEMMA4, **LARGE}, {**VIT, "standardize": True, "default_output_length": 9}
    ),
    "gemma4-26b-a4b": Case(
        "Gemma4", {**GEMMA4, **LARGE, **EXPERTS}, {**VIT, "num_key_value_heads": 1, "pooling_kernel_size": 3}
    ),
}  # fmt: skip
"""Windows smaller and larger than an image, towers of 16 to 49 patches, pooled by 1, 2, 3, 4 and 7."""


def pair(name: str, seed: int = 0) -> tuple[nn.Module, Decoder]:
    """transformers' model, every weight and buffer away from its start, and ours of the same weights."""
    case = CASES[name]
    torch.manual_seed(seed)
    config = config_of(case)
    classes = {"ShieldGemma2": "ForImageClassification"}
    theirs = getattr(transformers, case.name + classes.get(case.name, "ForConditionalGeneration"))(config).eval()
    stirred(theirs)
    spec = archlab.hf.import_config(config.to_dict())
    ours = archlab.build(spec, init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return getattr(theirs, "model", theirs) if case.name == "ShieldGemma2" else theirs, ours


def unified(seed: int = 0) -> tuple[nn.Module, Decoder]:
    """The same of Gemma 4 12B, whose embedder of images is counted here and not run."""
    torch.manual_seed(seed)
    text = {k: v for k, v in {**GEMMA4, **LARGE}.items() if k != "hidden_size_per_layer_input"}
    config = transformers.Gemma4UnifiedConfig(
        text_config={**text, "model_type": "gemma4_unified_text"},
        vision_config=dict(mm_embed_dim=30, output_proj_dims=30, mm_posemb_size=7, patch_size=2),
        audio_config=None,
        image_token_id=IMAGE,
        attn_implementation="eager",
    )
    theirs = transformers.Gemma4UnifiedForConditionalGeneration(config).eval()
    stirred(theirs)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def config_of(case: Case) -> transformers.PreTrainedConfig:
    """A config whose inner ones are eager too."""
    same = {"attn_implementation": "eager", "experts_implementation": "eager"}
    ids = {"image_token_id": IMAGE} if case.name == "Gemma4" else {"image_token_index": IMAGE}
    widths = {"projection_dim": 30, "hidden_size": 30, "vocab_size": VOCAB} if case.name == "PaliGemma" else {}
    text = case.text if "model_type" in case.text else {**case.text, "model_type": f"{case.name.lower()}_text"}
    text = {**text, "model_type": "gemma3_text"} if case.name == "ShieldGemma2" else text
    config = getattr(transformers, f"{case.name}Config")
    more = {"audio_config": None} if case.name == "Gemma4" else case.more
    return config(text_config=text, vision_config=case.vision, **ids, **widths, **more, **same)


@torch.no_grad()
def stirred(model: nn.Module) -> None:
    """Random weights: matrices that keep activations near 1, vectors and buffers around where they started.

    Gemma 4 does not scale its scores: gains of queries and keys near 1 would make scores of +-16, whose softmax turns a
    rounding of 1e-7 into 1e-4 at the logits. They are near 0.5.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.dim() > 1 and tensor.is_floating_point():
            tensor.normal_(std=(1 if "embed_tokens" in name else 1.5) * tensor[0].numel() ** -0.5)
        elif tensor.dim() and "inv_freq" not in name and tensor.is_floating_point():
            start = torch.ones_like(tensor) if "std_scale" in name else tensor
            gain = "q_norm" in name or "k_norm" in name
            tensor.copy_(start * (0.5 if gain else 1) + torch.randn_like(tensor) * (0.2 if gain else 0.3))


def pixels_of(model: Decoder, images: int, seed: int = 0) -> Tensor:
    """Images as the tower wants them, I 3 H W."""
    patches = model.vision.patches.block
    side, generator = patches.image_size, torch.Generator().manual_seed(seed)
    made = torch.rand(images, 3, side, side, generator=generator)
    return made if patches.stretch else 2 * made - 1


def ids_of(model: Decoder, rows: list[list[int]], seed: int = 0) -> Tensor:
    """B T of text, n > 0 tokens of it at a time, and 0 for an image: [3, 0, 2] is 3 tokens, an image, 2 tokens."""
    tokens, generator = model.spec.vision.tokens, torch.Generator().manual_seed(seed)
    made = []
    for row in rows:
        text = torch.randint(1, IMAGE, (sum(row),), generator=generator).split([n for n in row if n])
        pieces = iter(text)
        made.append(torch.cat([next(pieces) if n else torch.full((tokens,), IMAGE) for n in row]))
    return torch.stack(made)


def logits_of(theirs: nn.Module, ids: Tensor, pixels: Tensor | None, prefix: int = 0) -> Tensor:
    """transformers' logits of a whole pass."""
    seen = (ids == IMAGE).long()
    given: dict[str, Tensor | None] = {"pixel_values": pixels, "token_type_ids": seen if pixels is not None else None}
    if theirs.config.model_type == "paligemma":
        given["token_type_ids"] = (torch.arange(ids.shape[1]) >= prefix).long().expand_as(ids)
    elif theirs.config.model_type == "gemma4":
        given = {} if pixels is None else patches_of(theirs, pixels) | {"mm_token_type_ids": seen}
    return theirs(input_ids=ids, use_cache=False, **given).logits


def patches_of(theirs: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """What Gemma 4's image processor makes of square pixels: patches, row by row, and their columns and rows."""
    size = theirs.config.vision_config.patch_size
    side = pixels.shape[-1] // size
    patches = pixels.unflatten(2, (side, size)).unflatten(4, (side, size)).permute(0, 2, 4, 3, 5, 1)  # I h w p p 3
    grid = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy")
    positions = torch.stack(grid, -1).flatten(0, 1).expand(len(pixels), -1, -1)
    return {"pixel_values": patches.flatten(3).flatten(1, 2), "image_position_ids": positions}
