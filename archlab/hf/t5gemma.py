"""T5Gemma (Gemma 2 blocks with cross-attention) and T5Gemma 2 (Gemma 3 blocks with merged attention, and pictures)."""

from __future__ import annotations

import dataclasses
from typing import Any

from archlab.blocks import SECTIONS
from archlab.errors import SpecError
from archlab.fields import fields_of
from archlab.hf import siglip
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, GEMMA2, GEMMA3, outside, text, text_words
from archlab.hf.multimodal import VISION, image_token, projector, tied
from archlab.hf.names import Naming, Table
from archlab.hf.reader import COUNT, WHOLE, Reader
from archlab.hf.text import Tree, top_block
from archlab.layers import Stack
from archlab.spec import ModelSpec

ATTENTION = fields_of(SECTIONS["attention"])


# ---------------------------------------------------------------- config.json -> model file


def read_t5gemma(config: Tree) -> Tree:
    """The model file of a T5Gemma checkpoint: a table for each side, the head tied to the decoder's."""
    r = Reader(config, DEFAULTS["t5gemma"])
    sides = {name: r.below(name, DEFAULTS["t5_gemma_module"]) for name in ("encoder", "decoder")}
    trees = {name: text(side, GEMMA2) for name, side in sides.items()}
    for side in sides.values():
        side.only("attention_bias", False, why="its cross-attention has no biases here")
    tree, encoder = trees["decoder"], trees["encoder"]
    if "local" in encoder:  # tokens to either side; the window counts the token itself
        encoder["local"]["window"] += 1
    _finish(r, tree, encoder, sides["decoder"])
    tree["cross_attention"] = {}
    for part in (*sides.values(), r):
        part.done()
    return {"family": "t5gemma", **tree}


def read_t5gemma2(config: Tree) -> Tree:
    """The model file of a T5Gemma 2 checkpoint: one table for encoder, decoder and head."""
    r = Reader(config, DEFAULTS["t5gemma2"])
    outer = r.below("encoder", DEFAULTS["t5gemma2_encoder"])
    inner, vision = (
        outer.below("text_config", DEFAULTS["t5gemma2_text"]),
        outer.below("vision_config", DEFAULTS[VISION]),
    )
    decoder = r.below("decoder", DEFAULTS["t5gemma2_decoder"])
    tree, encoder = text(decoder, GEMMA3), text(inner, GEMMA3)
    if "local" in encoder:  # half the window to either side: with an even one, the token itself is of the first half
        window = encoder["local"]["window"]
        encoder["local"] |= {"window": (window + 1) // 2, "ahead": window // 2}
    if (tree["d_model"], tree["vocab_size"]) != (encoder["d_model"], encoder["vocab_size"]):
        raise SpecError("encoder and decoder must have one width and one vocabulary, as their table is one")
    _finish(r, tree, encoder, decoder)
    for side in (inner, decoder):
        side.only("use_bidirectional_attention", None, False, why="the encoder sees both ways, the decoder does not")
    tower = siglip.tower(vision)
    pool = siglip.pool(outer, tower["patches"], outer.take("mm_tokens_per_image", WHOLE))
    tree["attention"]["source"] = "merged"
    tree["embedding"] = {"shared": tree["head"]["tied"], "end_of_image": _end_of_image(r, outer)}
    tree["vision"] = {**tower, "token": image_token(r), "projector": {"pool": pool, "norm": "gain"}}
    outer.ignore("vocab_size", "image_token_index", "image_token_id", "tie_word_embeddings")
    for part in (inner, vision, outer, decoder, r):
        part.done()
    return {"family": "t5gemma2", **tree}


def _end_of_image(r: Reader, outer: Reader) -> int:
    """The encoder's eoi token; the one at the top is a copy of it."""
    token: int = outer.take("eoi_token_id" if outer.given("eoi_token_id") else "eoi_token_index", COUNT)
    for key in ("eoi_token_index", "eoi_token_id"):
        if r.given(key) and r.take(key, COUNT) != token:
            raise SpecError(f"{key}={r.take(key)} and {outer.where}eoi_token_index={token} differ")
    return token


def _finish(r: Reader, tree: Tree, encoder: Tree, decoder: Reader) -> None:
    """What both have: the file's own tie, and the encoder said by what it changes."""
    r.only("is_encoder_decoder", True, why="an encoder alone is another model")
    r.ignore("vocab_size")
    decoder.ignore("cross_attention_hidden_size")  # the class sets it to the encoder's width
    tree["head"]["tied"] = tied(r, decoder)
    encoder["attention"]["mask"] = "bidirectional"
    tree["encoder"] = changes(encoder, tree)


def changes(encoder: Tree, decoder: Tree) -> Tree:
    """The keys that an encoder does not take from its decoder."""
    found: Tree = {}
    for key, entry in encoder.items():
        base = decoder.get(key)
        if key in ("context", "head"):
            continue
        if isinstance(entry, dict):
            base = base or {}
            names = [name for name in {**base, **entry} if _value(entry, name) != _value(base, name)]
            if names:
                found[key] = {name: _value(entry, name) for name in names}
        elif entry != base:
            found[key] = entry
    return found


def _value(section: Tree, name: str) -> Any:
    if name in section:
        return section[name]
    default = ATTENTION[name].default if name in ATTENTION else None
    return None if default is dataclasses.MISSING else default


# ---------------------------------------------------------------- spec -> config.json


def _encoder(spec: ModelSpec) -> Stack:
    if spec.encoder is None:
        raise SpecError("it has no encoder")
    return spec.encoder


def write_t5gemma(spec: ModelSpec) -> Tree:
    """The config.json of a T5Gemma."""
    encoder, decoder = text_words(spec, _encoder(spec), GEMMA2), text_words(spec, spec.decoder, GEMMA2)
    encoder["sliding_window"] -= 1 if "sliding_attention" in encoder["layer_types"] else 0
    encoder["tie_word_embeddings"] = decoder["tie_word_embeddings"]
    encoder["final_logit_softcapping"] = decoder["final_logit_softcapping"]
    return {
        "architectures": ["T5GemmaForConditionalGeneration"],
        "model_type": "t5gemma",
        "is_encoder_decoder": True,
        "encoder": {"model_type": "t5_gemma_module", **encoder, "is_decoder": False},
        "decoder": {"model_type": "t5_gemma_module", **decoder, "is_decoder": True},
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": decoder["tie_word_embeddings"],
    }


def write_t5gemma2(spec: ModelSpec) -> Tree:
    """The config.json of a T5Gemma 2."""
    encoder, decoder = text_words(spec, _encoder(spec), GEMMA3), text_words(spec, spec.decoder, GEMMA3)
    tie, end, vision = decoder["tie_word_embeddings"], top_block(spec.decoder, "embedding").end_of_image, spec.vision
    if vision is None or vision.token is None:
        raise SpecError("it has no vision tower with a token")
    if end is None:
        raise SpecError("embedding.end_of_image is not set")
    windows = [layer.facts() for layer in _encoder(spec).in_order()]
    both = [f["window"] + f["ahead"] for f in windows if f.get("window") is not None and f.get("ahead") is not None]
    encoder |= {"sliding_window": both[0] if both else encoder["sliding_window"], "tie_word_embeddings": tie}
    encoder["final_logit_softcapping"] = decoder["final_logit_softcapping"]
    return {
        "architectures": ["T5Gemma2ForConditionalGeneration"],
        "model_type": "t5gemma2",
        "is_encoder_decoder": True,
        "encoder": {
            "model_type": "t5gemma2_encoder",
            "text_config": {"model_type": "t5gemma2_text", **encoder},
            "vision_config": siglip.words(vision),
            "mm_tokens_per_image": vision.tokens,
            "image_token_index": vision.token,
            "eoi_token_index": end,
            "tie_word_embeddings": tie,
        },
        "decoder": {"model_type": "t5gemma2_decoder", **decoder},
        "image_token_index": vision.token,
        "eoi_token_index": end,
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": tie,
    }


# ---------------------------------------------------------------- names of tensors

LAYER: Table = {
    **BLOCKS,
    "attention.pre_norm.gain": "pre_self_attn_layernorm.weight",
    "attention.post_norm.gain": "post_self_attn_layernorm.weight",
    "mlp.pre_norm.gain": "pre_feedforward_layernorm.weight",
    "mlp.post_norm.gain": "post_feedforward_layernorm.weight",
    "cross_attention.pre_norm.gain": "pre_cross_attn_layernorm.weight",
    "cross_attention.post_norm.gain": "post_cross_attn_layernorm.weight",
    "cross_attention.q": "cross_attn.q_proj.weight",
    "cross_attention.k": "cross_attn.k_proj.weight",
    "cross_attention.v": "cross_attn.v_proj.weight",
    "cross_attention.o": "cross_attn.o_proj.weight D(NH)",
}
HEAD = "lm_head.out_proj.weight"


def naming_t5gemma(spec: ModelSpec) -> Naming:
    """Names as in T5GemmaForConditionalGeneration."""
    return Naming(
        layers={"decoder": "model.decoder.layers.{}.", "encoder": "model.encoder.layers.{}."},
        rows={"decoder": LAYER, "encoder": LAYER},
        outside={**outside("model.decoder.", HEAD), **_prefixed("model.encoder.")},
    )


def naming_t5gemma2(spec: ModelSpec) -> Naming:
    """Names as in T5Gemma2ForConditionalGeneration."""
    inner, tower = "model.encoder.text_model.", "model.encoder.vision_tower."
    return Naming(
        layers={
            "decoder": "model.decoder.layers.{}.",
            "encoder": f"{inner}layers.{{}}.",
            "vision": f"{tower}encoder.layers.{{}}.",
        },
        rows={"decoder": LAYER, "encoder": LAYER, "vision": siglip.LAYER},
        outside={
            **outside("model.decoder.", HEAD),
            **_prefixed(inner),
            "embedding.end_of_image": "model.decoder.embed_tokens.eoi_embedding",
            "encoder.embedding.end_of_image": f"{inner}embed_tokens.eoi_embedding",
            **siglip.outside(tower),
            **projector("model.encoder."),
        },
        aliases=(
            *siglip.ALIASES,
            (r"^(model\.)?encoder\.(embed_tokens|norm|layers)\.", r"model.encoder.text_model.\2."),
        ),
    )


def _prefixed(before: str) -> Table:
    return {f"encoder.{ours}": theirs for ours, theirs in outside(before, HEAD).items() if ours != "head.table"}
