"""PaliGemma 1 and 2, Gemma 3 with pictures, and ShieldGemma 2, which is Gemma 3 with two of its logits read."""

from __future__ import annotations

from archlab.errors import SpecError
from archlab.hf import siglip
from archlab.hf.defaults import DEFAULTS
from archlab.hf.gemma import BLOCKS, GEMMA, GEMMA2, GEMMA3, NORMS, TRAITS, outside, text, text_words
from archlab.hf.names import Naming, Table
from archlab.hf.reader import COUNT, FLAG, WHOLE, Reader, shown
from archlab.hf.text import Tree
from archlab.spec import ModelSpec

VISION = "siglip_vision_model"


def tied(r: Reader, inner: Reader) -> bool:
    """The file's own tie_word_embeddings, which is what counts. Raises SpecError where a part says otherwise."""
    own: bool = r.take("tie_word_embeddings", FLAG)
    if inner.given("tie_word_embeddings") and inner.take("tie_word_embeddings", FLAG) != own:
        raise SpecError(
            f"{r.where}tie_word_embeddings={own} and {inner.where}tie_word_embeddings differ; "
            "transformers heeds the first"
        )
    return own


def _text(r: Reader, allowed: tuple[str, ...], absent: str) -> tuple[Reader, Tree]:
    """The reader of the text part, and its sections. `absent`: whose defaults a file without the part has."""
    section = r.config.get("text_config")
    model_type = section.get("model_type", allowed[0]) if isinstance(section, dict) else allowed[0]
    if model_type not in allowed:
        raise SpecError(f"text_config.model_type={shown(model_type)} is not read; it must be {' or '.join(allowed)}")
    inner = r.below("text_config", DEFAULTS[absent if section is None else model_type])
    return inner, text(inner, TRAITS[model_type])


# ---------------------------------------------------------------- PaliGemma


def read_paligemma(config: Tree) -> Tree:
    """The model file of a PaliGemma checkpoint. Image and prompt are a prefix whose tokens all see each other."""
    r = Reader(config, DEFAULTS["paligemma"])
    inner, tree = _text(r, ("gemma", "gemma2"), "paligemma_text")
    inner.only("use_bidirectional_attention", None, True, why="a PaliGemma sees its prefix both ways")
    inner.ignore("num_image_tokens")
    vision = r.below("vision_config", DEFAULTS["paligemma_vision" if "vision_config" not in config else VISION])
    tower = siglip.tower(vision)
    if r.take("projection_dim", WHOLE) != tree["d_model"]:
        raise SpecError(
            f"projection_dim={r.take('projection_dim')} must be text_config.hidden_size ({tree['d_model']})"
        )
    r.ignore("vocab_size", "hidden_size", "projector_hidden_act", "num_image_tokens")
    tree["attention"]["mask"] = "prefix"
    tree["head"]["tied"] = tied(r, inner)
    tree["vision"] = {**tower, "token": r.take("image_token_index", COUNT), "projector": {"bias": True}}
    for part in (inner, vision, r):
        part.done()
    return {"family": "paligemma", **tree}


def write_paligemma(spec: ModelSpec) -> Tree:
    """The config.json of a PaliGemma."""
    vision = _vision(spec)
    traits = GEMMA2 if any(r.post for layer in spec.decoder.layers for r in layer.residuals) else GEMMA
    inner = {"model_type": traits.family, **text_words(spec, spec.decoder, traits)}
    d_model = spec.d_model
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "text_config": {**inner, "use_bidirectional_attention": True},
        "vision_config": {**vision, "projection_dim": d_model},
        "image_token_index": spec.vision.token if spec.vision else None,
        "projection_dim": d_model,
        "hidden_size": d_model,
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": inner["tie_word_embeddings"],
    }


def _vision(spec: ModelSpec) -> Tree:
    if spec.vision is None:
        raise SpecError("it has no vision tower")
    if spec.vision.token is None:
        raise SpecError("vision.token is not set, and a config.json needs the image token")
    return siglip.words(spec.vision)


def naming_paligemma(spec: ModelSpec) -> Naming:
    """Names as in PaliGemmaForConditionalGeneration."""
    post = any(r.post for layer in spec.decoder.layers for r in layer.residuals)
    projector = {
        "vision.projector.project": "model.multi_modal_projector.linear.weight",
        "vision.projector.project_bias": "model.multi_modal_projector.linear.bias",
    }
    return _naming({**BLOCKS, **NORMS["gemma2" if post else "gemma"]}, projector)


# ---------------------------------------------------------------- Gemma 3 and ShieldGemma 2


def read_gemma3(config: Tree) -> Tree:
    """The model file of a Gemma 3 checkpoint with pictures: the tokens of one image all see each other."""
    r = Reader(config, DEFAULTS[config["model_type"]])
    inner, tree = _text(r, ("gemma3_text",), "gemma3_text")
    inner.only("use_bidirectional_attention", None, False, why="only the tokens of an image are seen both ways")
    inner.only("final_logit_softcapping", None, why="transformers' Gemma 3 with pictures never caps its logits")
    vision = r.below("vision_config", DEFAULTS[VISION])
    tower = siglip.tower(vision)
    pool = siglip.pool(r, tower["patches"], r.take("mm_tokens_per_image", WHOLE))
    tree["attention"]["image_blocks"] = True
    tree["head"]["tied"] = _tied_gemma3(r, inner)
    tree["vision"] = {**tower, "token": image_token(r), "projector": {"pool": pool, "norm": "gain"}}
    for part in (inner, vision, r):
        part.done()
    return {"family": "gemma3", **tree}


def image_token(r: Reader) -> int:
    """The token that stands for each token of an image, under its new name or its old one."""
    r.ignore("image_token_id", "image_token_index")
    token: int = r.take("image_token_id" if r.given("image_token_id") else "image_token_index", COUNT)
    return token


def _tied_gemma3(r: Reader, inner: Reader) -> bool:
    if r.model_type == "shieldgemma2":  # its own false gives way to a text part that ties, as it does by default
        own: bool = r.take("tie_word_embeddings", FLAG)
        return own or inner.take("tie_word_embeddings", FLAG)
    return tied(r, inner)


def write_gemma3(spec: ModelSpec) -> Tree:
    """The config.json of a Gemma 3 with pictures."""
    inner = text_words(spec, spec.decoder, GEMMA3)
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **inner},
        "vision_config": _vision(spec),
        "mm_tokens_per_image": spec.vision.tokens if spec.vision else None,
        "image_token_index": spec.vision.token if spec.vision else None,
        "tie_word_embeddings": inner["tie_word_embeddings"],
    }


def naming_gemma3(spec: ModelSpec) -> Naming:
    """Names as in Gemma3ForConditionalGeneration."""
    return _naming({**BLOCKS, **NORMS["gemma3"]}, projector("model."))


def projector(before: str) -> Table:
    """Gemma 3's projector: a matrix the other way round, and a norm."""
    return {
        "vision.projector.project": f"{before}multi_modal_projector.mm_input_projection_weight DO",
        "vision.projector.gain": f"{before}multi_modal_projector.mm_soft_emb_norm.weight",
    }


def _naming(rows: Table, joined: Table) -> Naming:
    text_names = outside("model.language_model.", "lm_head.weight")
    return Naming(
        layers={"decoder": "model.language_model.layers.{}.", "vision": "model.vision_tower.encoder.layers.{}."},
        rows={"decoder": rows, "vision": siglip.LAYER},
        outside={**text_names, **siglip.outside("model.vision_tower."), **joined},
        aliases=(*OLD_PREFIXES, *siglip.ALIASES),
    )


OLD_PREFIXES = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^(vision_tower|multi_modal_projector|language_model)\.", r"model.\1."),
)
"""Released files and transformers before 4.52: language_model.model.layers..., vision_tower... without model."""
