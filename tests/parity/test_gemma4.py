"""Gemma 4's decoders (E2B, E4B, 12B, 26B-A4B and 31B in small) equal transformers', with and without images."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_decoders import VOCAB, cached, check_counts, close, ids_of, ours, randomise
from torch import Tensor, nn
from transformers import (
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForCausalLM,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedTextConfig,
)
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextScaledWordEmbedding

import archlab
from archlab import blocks
from archlab.nn.decoder import Decoder
from archlab.nn.embedding import Embedding
from archlab.nn.rope import rope_of

SLIDING, FULL = "sliding_attention", "full_attention"
IMAGE, AUDIO, VIDEO = 57, 58, 59
"""Tokens that stand for images and clips; the per-layer table has rows for them, which are not read."""
TEXTS = 57
BASE = {
    "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 41, "num_attention_heads": 6, "head_dim": 10,
    "global_head_dim": 24, "num_key_value_heads": 3, "sliding_window": 5, "max_position_embeddings": 64,
    "final_logit_softcapping": 3.0, "num_hidden_layers": 6, "layer_types": [SLIDING, SLIDING, FULL] * 2,
    "attn_implementation": "eager",
}  # fmt: skip
SHARED = {
    "num_hidden_layers": 9, "layer_types": [SLIDING, SLIDING, FULL] * 3, "num_kv_shared_layers": 4,
    "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 7,
}  # fmt: skip
K_IS_V = {"attention_k_eq_v": True, "num_global_key_value_heads": 2, "use_bidirectional_attention": "vision"}
EXPERTS = {
    "enable_moe_block": True, "num_experts": 7, "top_k_experts": 3, "moe_intermediate_size": 19,
    "experts_implementation": "eager",
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "e2b": {**BASE, **SHARED, "num_key_value_heads": 1, "use_double_wide_mlp": True},
    "e4b": {**BASE, **SHARED},
    "12b": {**BASE, **K_IS_V, "num_global_key_value_heads": 1},
    "26b": {**BASE, **K_IS_V, **EXPERTS, "hidden_size_per_layer_input": 0},
    "31b": {**BASE, **K_IS_V, "hidden_size_per_layer_input": 0},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one layer of each kind owns": ("e2b", {"num_kv_shared_layers": 6}),
    "nothing shared": ("e2b", {"num_kv_shared_layers": 0}),
    "the class's own pattern": ("e4b", {"layer_types": None, "num_hidden_layers": 12, "num_kv_shared_layers": 3}),
    "last layer made global": ("31b", {"layer_types": [SLIDING, FULL, SLIDING, SLIDING], "num_hidden_layers": 4}),
    "v projections": ("31b", {"attention_k_eq_v": False}),
    "heads of one size": ("31b", {"global_head_dim": 10, "num_global_key_value_heads": None}),
    "all global": ("31b", {"layer_types": [FULL] * 3, "num_hidden_layers": 3}),
    "all of the head turns": ("31b", {"rope_parameters": {
        SLIDING: {"rope_type": "default", "rope_theta": 300.0},
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 1.0, "rope_theta": 500.0}}}),
    "half of it turns": ("12b", {"rope_parameters": {
        SLIDING: {"rope_type": "default", "rope_theta": 300.0},
        FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 500.0, "factor": 4.0}}}),
    "experts and per-layer embeddings": ("e2b", EXPERTS),
    "one expert": ("26b", {"top_k_experts": 1}),
    "no softcap": ("31b", {"final_logit_softcapping": None}),
}  # fmt: skip
CHUNKS = [[1] * 23, [9, 1, 1, 8, 4], *(pytest.param(c, marks=pytest.mark.slow) for c in (
    [23], [3] + [1] * 20, [5, 5, 5, 5, 3], [17, 6], [4, 19], [2, 6, 3, 12]
))]  # fmt: skip


def pair(kind: str, seed: int, **changes: Any) -> tuple[nn.Module, Decoder]:
    """transformers' model with random weights, and ours."""
    config, whole = (
        (Gemma4UnifiedTextConfig, Gemma4UnifiedForCausalLM) if kind == "12b" else (Gemma4TextConfig, Gemma4ForCausalLM)
    )
    theirs = whole(config(**(KINDS[kind] | changes))).eval()
    randomise(theirs, seed)
    return theirs, ours(theirs)


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits(kind, seed):
    theirs, model = pair(kind, seed)
    for length in (1, 4, 31):
        ids = ids_of(2, length, seed)
        close(model(ids), theirs(ids, use_cache=False).logits)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_logits_of_variants(name):
    kind, changes = VARIANTS[name]
    theirs, model = pair(kind, 3, **changes)
    ids = ids_of(2, 23, 3)
    close(model(ids), theirs(ids, use_cache=False).logits)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 24))
@pytest.mark.parametrize("name", [*KINDS, *VARIANTS])
@torch.no_grad()
def test_logits_of_many_seeds(name, seed):
    kind, changes = VARIANTS.get(name, (name, {}))
    theirs, model = pair(kind, seed, **changes)
    ids = ids_of(3, 40, seed)
    close(model(ids), theirs(ids, use_cache=False).logits)


@pytest.mark.parametrize("preset", ["gemma-4-e2b", "gemma-4-12b", "gemma-4-26b-a4b", "gemma-4-31b"])
def test_frequencies_at_full_size(preset):
    """The fastest quarter of a head of 512 turns, by exponents over the whole of it."""
    attention = archlab.load(preset).layer("global").residuals[0].block
    found = rope_of(attention).frequencies(torch.device("cpu"))
    theirs = Gemma4ForCausalLM(Gemma4TextConfig(**(KINDS["31b"] | {"global_head_dim": 512})))
    expected = theirs.model.rotary_emb.full_attention_inv_freq
    assert torch.equal(found, expected) and int((found > 0).sum()) == 64


def test_layer_scalars_are_buffers():
    _, model = pair("31b", 0)
    scalars = {name for name, _ in model.named_buffers() if "layer_scalar" in name}
    assert len(scalars) == 6 and not scalars & {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("kind", ["e2b", "12b", "31b"])
@torch.no_grad()
def test_bf16_is_no_further_from_fp32_than_transformers_is(kind):
    """A loose check of the order of operations: random weights at a scale of 1 leave much noise."""
    theirs, model = pair(kind, 0)
    ids = ids_of(4, 31)
    exact = theirs(ids, use_cache=False).logits
    their_error = (theirs.bfloat16()(ids, use_cache=False).logits - exact).abs().mean()
    assert (model.bfloat16()(ids) - exact).abs().mean() < 1.2 * their_error


@pytest.mark.parametrize(("width", "scale"), [(1536, 39.25), (2048, 45.25), (2560, 50.5), (2816, 53), (5376, 73.5)])
@torch.no_grad()
def test_embeddings_are_scaled_by_a_rounded_number(width, scale):
    """To the bit in bf16: the square root of the width is rounded before it multiplies."""
    theirs = Gemma4TextScaledWordEmbedding(5, width, 0, embed_scale=width**0.5).bfloat16()
    model = Embedding(blocks.Embedding(d_model=width, vocab_size=5), "cpu", torch.bfloat16)
    model.table.copy_(theirs.weight)
    ids = torch.arange(5)[None]
    assert torch.equal(model(ids), theirs(ids)) and torch.equal(model(ids), theirs.weight[None] * scale)


# ---------------------------------------------------------------- images and sounds


class Seeing:
    """A model of transformers with (random) soft tokens in place of its towers' output, and ours with the same."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, tokens = kind, {"image_token_id": IMAGE, "audio_token_id": AUDIO, "video_token_id": VIDEO}
        changes = {}
        if kind == "12b":
            text = Gemma4UnifiedTextConfig(**KINDS[kind])
            vision = {
                "patch_size": 2,
                "pooling_kernel_size": 2,
                "mm_embed_dim": 9,
                "mm_posemb_size": 5,
                "output_proj_dims": 9,
            }
            config = Gemma4UnifiedConfig(
                text_config=text, vision_config=vision, audio_config={"audio_embed_dim": 6}, **tokens
            )
            whole = Gemma4UnifiedForConditionalGeneration
        else:
            vision = {
                "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2, "head_dim": 8, "patch_size": 2, "pooling_kernel_size": 2,
                "position_embedding_size": 11,
            }  # fmt: skip
            small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 9}
            audio = small if kind.startswith("e") else None
            text = Gemma4TextConfig(**KINDS[kind])
            config = Gemma4Config(text_config=text, vision_config=vision, audio_config=audio, **tokens)
            whole, changes = Gemma4ForConditionalGeneration, {"vision.patches.image_size": 12}
        config._attn_implementation = config._experts_implementation = "eager"
        self.theirs = whole(config).eval()
        randomise(self.theirs, seed)
        self.ours = ours(self.theirs, changes)

    def expected(self, ids: Tensor, seen: Tensor, heard: Tensor | None) -> Tensor:
        """Logits by the masks that transformers generates with."""
        inputs = {"input_ids": ids, "mm_encoder_outputs": {"image": SimpleNamespace(pooler_output=list(seen))}}
        if heard is not None:
            output = SimpleNamespace(pooler_output=heard, attention_mask=torch.ones(heard.shape[:2], dtype=torch.bool))
            self.theirs.model.get_audio_features = lambda *_, **__: output
            inputs |= {"input_features": heard, "input_features_mask": output.attention_mask}
        types = (ids == IMAGE).long() + 3 * (ids == AUDIO)
        if self.kind == "12b":  # its forward pass alone makes other masks than its `generate`
            inputs["attention_mask"] = self.theirs.create_masks_for_generate(
                config=self.theirs.config, inputs_embeds=torch.zeros(*ids.shape, 1), attention_mask=None,
                past_key_values=None, position_ids=None, mm_token_type_ids=types,
            )  # fmt: skip
        return self.theirs(**inputs, mm_token_type_ids=types, use_cache=False).logits


PICTURE, CLIP = 9, 3
"""Tokens of an image, which are more than the window, and of a clip."""
WHOLE = [[11, 19, 7], [12, 18, 7], [2, 9, 1, 18, 1, 3, 3], [1, 1, 9, 1, 18, 1, 3, 1, 1, 1]]
"""Chunks that cut no image and no clip of the sequences below."""


def seen_and_heard(kind: str, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """ids with images (two of them side by side) and clips, and what they are."""
    ids = ids_of(2, 37, seed, most=TEXTS)
    ids[0, 2:11], ids[0, 21:30], ids[1, 12:30] = IMAGE, IMAGE, IMAGE
    draw = torch.Generator().manual_seed(seed)
    given = {"features": torch.randn(4, PICTURE, 48, generator=draw)}
    if kind in ("e2b", "e4b", "12b"):
        ids[0, 14:17], ids[1, 31:34] = AUDIO, AUDIO
        given["audio"] = torch.randn(2, CLIP, 48, generator=draw)
    return ids, given


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_images_and_sounds(kind, seed):
    """Tokens of an image see each other in the sliding layers of the larger ones alone; E2B and E4B stay causal.

    For soft tokens the per-layer table is read at row 0, and its projection reads the features.
    """
    model = Seeing(kind, seed)
    ids, given = seen_and_heard(kind, seed)
    full = model.ours(ids, **given)
    close(full, model.expected(ids, given["features"], given.get("audio")))
    blocks = {layer.attention.block.image_blocks for layer in model.ours.layers}
    assert blocks == ({False} if kind.startswith("e") else {True, False})
    for chunks in WHOLE:
        close(torch.cat([*in_chunks(model.ours, ids, chunks, given)], 1), full)


def in_chunks(model: Decoder, ids: Tensor, chunks: list[int], given: dict[str, Tensor]) -> Iterator[Tensor]:
    """Logits of each chunk, which is given the images and clips that it has tokens for."""
    cache = model.init_cache(len(ids), ids.shape[1])
    places = {"features": (ids == IMAGE, PICTURE), "audio": (ids == AUDIO, CLIP)}
    for chunk in ids.split(chunks, 1):
        here = slice(cache.position, cache.position + chunk.shape[1])
        inputs = {}
        for name, (inside, each) in places.items():
            order = inside.flatten().cumsum(0).view_as(inside)[:, here][inside[:, here]] - 1  # of all soft tokens
            if len(order):
                inputs[name] = given[name][order[::each] // each]
        yield model(chunk, cache, **inputs)


# ---------------------------------------------------------------- cached decode


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_cache_changes_nothing(kind, chunks):
    _, model = pair(kind, 1)
    ids = ids_of(2, 23)
    close(cached(model, ids, chunks, spare=3), model(ids))


def test_shared_layers_keep_nothing():
    _, model = pair("e2b", 0)
    cache = model.init_cache(1, 20)
    assert {path.split(".")[1] for path in cache.states} == {"0", "1", "2", "3", "4"}
    assert [layer.attention.owner for layer in model.layers[5:]] == [
        f"layers.{owner}.attention" for owner in (2, 4, 4, 2)
    ]
    assert [layer.mlp.gate.shape[0] for layer in model.layers] == [41] * 5 + [82] * 4


# ---------------------------------------------------------------- counts

SHORT = {"num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2}


@pytest.mark.parametrize(
    "kind",
    ["e2b", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("e4b", "12b", "26b", "31b"))],
)
def test_counts_are_the_rows(kind):
    theirs = pair(kind, 0, **SHORT, **({"num_kv_shared_layers": 2} if kind.startswith("e") else {}))[0]
    check_counts(archlab.hf.import_config(theirs.config.to_dict()))


@pytest.mark.parametrize("preset", ["gemma-4-e2b", "gemma-4-26b-a4b"])
@torch.no_grad()
def test_a_deep_random_model_is_finite_in_bf16(preset):
    changes = {
        "d_model": 64, "vocab_size": 97, "mlp.d_ff": 48, "local.head_dim": 16, "global.head_dim": 32, "local.window": 7,
        "vision": None,
    }  # fmt: skip
    if preset == "gemma-4-e2b":
        changes |= {"per_layer_embedding.width": 16, "per_layer_embedding.table_rows": 97, "audio": None}
    else:
        changes |= {"moe.d_ff": 16, "local.image_blocks": False}
    logits = archlab.build(archlab.load(preset, changes), dtype=torch.bfloat16)(ids_of(1, 40, most=97)).float()
    assert logits.isfinite().all() and 0.1 < logits.std() < 10
