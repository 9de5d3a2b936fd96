"""T5Gemma 2: merged attention, one table for encoder, decoder and head, images in the encoder. As test_t5gemma."""

import pytest
import torch
from encoder_models import cached, check_traced, counted, ids_of, randomise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import T5Gemma2Config, T5Gemma2ForConditionalGeneration

import archlab
from archlab.assemble import resolve
from archlab.errors import ArchlabError, SpecError
from archlab.nn.cache import NoCache
from archlab.nn.decoder import Decoder
from archlab.nn.step import Sight, Step
from archlab.spec import ModelSpec
from archlab.workload import Workload

VOCAB, IMAGE, END = 97, 91, 90
FULL, SLIDING = "full_attention", "sliding_attention"
SIDE = dict(
    vocab_size=VOCAB, hidden_size=44, intermediate_size=62, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=14, sliding_window=6, query_pre_attn_scalar=11, max_position_embeddings=64,
    layer_types=[SLIDING, SLIDING, FULL, SLIDING],
    rope_parameters={
        SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    },
)  # fmt: skip
VISION = dict(
    model_type="siglip_vision_model", hidden_size=26, intermediate_size=38, num_hidden_layers=2, num_attention_heads=2,
    image_size=28, patch_size=7, vision_use_head=False,
)  # fmt: skip
TOKENS = 4  # of an image

PLAIN = {FULL: {"rope_type": "default", "rope_theta": 30_000.0}, SLIDING: {"rope_type": "default", "rope_theta": 500.0}}
CASES = {
    "even-window": ({}, {}),
    "odd-window": (dict(sliding_window=7), dict(sliding_window=7)),
    "window-1": (dict(sliding_window=1), dict(sliding_window=1)),
    "window-2": (dict(sliding_window=2), dict(sliding_window=3)),
    "windows-past-the-end": (dict(sliding_window=64), dict(sliding_window=64)),
    "unlike-sides": (
        dict(
            num_hidden_layers=3, layer_types=[SLIDING, SLIDING, FULL], num_attention_heads=2, num_key_value_heads=1,
            head_dim=22, intermediate_size=34, query_pre_attn_scalar=5, rope_parameters=PLAIN, sliding_window=9,
        ),
        dict(num_key_value_heads=4, final_logit_softcapping=3.0, rms_norm_eps=1e-5),
    ),
}  # fmt: skip


def config_of(case: str = "even-window", tied: bool = True) -> T5Gemma2Config:
    encoder, decoder = (SIDE | side | {"tie_word_embeddings": tied} for side in CASES[case])
    outer = dict(text_config=encoder, vision_config=VISION, mm_tokens_per_image=TOKENS, eoi_token_index=END)
    return T5Gemma2Config(
        encoder=outer, decoder=decoder, image_token_index=IMAGE, tie_word_embeddings=tied, attn_implementation="eager"
    )


def pair(case: str, seed: int, tied: bool = True) -> tuple[T5Gemma2ForConditionalGeneration, Decoder]:
    """A random model of transformers, and ours with its weights."""
    config = config_of(case, tied)
    theirs = T5Gemma2ForConditionalGeneration(config).eval()
    randomise(theirs, seed)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def spec_of(case: str = "even-window") -> ModelSpec:
    return archlab.hf.import_config(config_of(case).to_dict())


def inputs(batch: int = 2, source: int = 21, new: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """No images; the token that ends one stands on both sides, where there is room."""
    tokens, ids = ids_of(batch, source, END), ids_of(batch, new, END, 1)
    tokens[:, 1::7], ids[:, 2::7] = END, END
    return tokens, ids


def pictured(images: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three images in two sources of unlike make-up: two next to each other in the first, one later in the second."""
    source, ids = inputs()
    source[0, 2 : 2 + TOKENS] = source[0, 2 + TOKENS : 2 + 2 * TOKENS] = source[1, 11 : 11 + TOKENS] = IMAGE
    source[0, 2 + 2 * TOKENS] = source[1, 11 + TOKENS] = END
    pixels = torch.randn(images, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    return source, ids, pixels


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_transformers(case, seed):
    theirs, ours = pair(case, seed)
    source, ids = inputs()
    expected = theirs(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=ids)
    torch.testing.assert_close(ours.encode(source), expected.encoder_last_hidden_state, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours(source, decoder_ids=ids), expected.logits, rtol=0, atol=1e-4)
    assert expected.logits.std() > 0.5


@pytest.mark.parametrize("case", ["even-window", "unlike-sides"])
@torch.no_grad()
def test_images_equal_transformers(case):
    """As pixels, and as the features that transformers' tower makes of them."""
    theirs, ours = pair(case, 3)
    source, ids, pixels = pictured()
    expected = theirs(input_ids=source, pixel_values=pixels, decoder_input_ids=ids).logits
    features = theirs.get_image_features(pixels).pooler_output
    torch.testing.assert_close(ours.see(pixels), features, rtol=0, atol=1e-4)
    for images in ({"features": features}, {"pixels": pixels}):
        torch.testing.assert_close(ours(source, decoder_ids=ids, **images), expected, rtol=0, atol=1e-4)
    other = ours(source, decoder_ids=ids, features=features.roll(1, 0))
    assert (other - expected).abs().max() > 0.01, "each image has its place"


@torch.no_grad()
def test_token_by_token_with_the_weights_of_transformers():
    theirs, ours = pair("odd-window", 4)
    source, ids, pixels = pictured()
    expected = theirs(input_ids=source, pixel_values=pixels, decoder_input_ids=ids).logits
    torch.testing.assert_close(cached(ours, source, ids, [1] * 17, pixels=pixels), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_tables_of_their_own():
    theirs, ours = pair("even-window", 5, tied=False)
    source, ids = inputs()
    assert len({ours.embedding.table, ours.encoder.embedding.table, ours.head.table}) == 3
    expected = theirs(input_ids=source, decoder_input_ids=ids).logits
    torch.testing.assert_close(ours(source, decoder_ids=ids), expected, rtol=0, atol=1e-4)


def test_one_table_three_ways():
    spec = spec_of()
    model = archlab.build(spec)
    assert model.embedding.table is model.encoder.embedding.table is model.head.table
    assert model.embedding.end_of_image is model.encoder.embedding.end_of_image
    assert archlab.params(spec).total == sum(p.numel() for p in model.parameters())
    assert archlab.params(spec).by_part["embedding"] == VOCAB * 44 + 44
    source, ids = inputs()
    model(source, decoder_ids=ids).sum().backward()
    used = model.encoder.embedding.table.grad
    assert used.shape == (VOCAB, 44) and used.any(1).all(), "the head reads all of it"
    assert model.encoder.embedding.end_of_image.grad.any()


@pytest.mark.parametrize("window", [1, 2, 3, 6, 7, 512])
def test_the_encoders_windows(window):
    """(W + 1) // 2 tokens with itself, W // 2 after it: transformers' own mask, pair by pair."""
    length = 23
    config = config_of()
    config.encoder.text_config.sliding_window = window
    block = dict(archlab.hf.import_config(config.to_dict()).encoder.layers[0].blocks())["attention"]
    sight = Sight("bidirectional", block.window, block.ahead)
    mask = Step(length, NoCache(), torch.device("cpu"), torch.float32).mask(sight)
    behind, ahead = (window + 1) // 2, window // 2 + 1
    expected = [[0 <= i - j < behind or 0 < j - i < ahead for j in range(length)] for i in range(length)]
    assert mask.tolist() == expected
    work = Workload(new=1, source=length, new_source=length, context=1)
    assert int(mask.sum()) == block.bind(work.frame(spec_of().encoder))["TU"]


# ---------------------------------------------------------------- decoding


MODEL = archlab.build(spec_of("odd-window"), seed=3)


@settings(deadline=None, max_examples=15)
@given(chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6), source=st.integers(1, 20), spare=st.integers(0, 3))
@example(chunks=[1] * 17, source=19, spare=0)
@example(chunks=[4, 3, 1, 1, 1, 7], source=1, spare=2)
@example(chunks=[7, 1, 9], source=6, spare=0)
@torch.no_grad()
def test_chunks_equal_one_forward(chunks, source, spare):
    source, ids = inputs(2, source, sum(chunks))
    full = MODEL(source, decoder_ids=ids)
    torch.testing.assert_close(cached(MODEL, source, ids, chunks, spare), full, rtol=0, atol=2e-5)


@torch.no_grad()
def test_the_last_logits_and_a_cache_of_fewer_bits():
    source, ids = inputs()
    full, cache = MODEL(source, decoder_ids=ids), MODEL.init_cache(2, 17, torch.bfloat16, source=21)
    assert cache.nbytes == archlab.kv_cache(MODEL.spec, 17, 2, "bf16", source=21).total
    assert MODEL(source, cache, "last", decoder_ids=ids[:, :9]).shape == (2, 1, VOCAB)
    last = MODEL(None, cache, "last", decoder_ids=ids[:, 9:])
    assert last.dtype == torch.float32 and 0 < (last - full[:, -1:]).abs().max() < 0.3


@pytest.mark.parametrize(("context", "source"), [(1, 1), (5, 40), (64, 3), (64, 0)])
def test_cache_bytes(context, source):
    held = archlab.kv_cache(MODEL.spec, context, 3, "fp32", source=source)
    assert MODEL.init_cache(3, context, source=source).nbytes == held.total
    # keys and values, 4 bytes: four layers that keep a source, three sliding ones (window 7) and a global one
    assert held.by_part["source"] == 2 * 4 * 3 * source * 2 * 14 * 4
    assert held.by_part["local"] == 2 * 3 * 3 * min(context, 7) * 2 * 14 * 4
    assert held.by_part["global"] == 2 * 1 * 3 * context * 2 * 14 * 4


# ---------------------------------------------------------------- FLOPs

WORKS = {
    "first step": Workload(2, new=17, source=23),
    "first token": Workload(3, new=1, source=23),
    "long source": Workload(1, new=3, source=41, logits="last"),
    "chunk": Workload(2, new=5, context=17, source=23),
    "decode": Workload(3, new=1, context=40, source=23),
    "training": Workload(2, new=17, source=23, train=True),
}


@pytest.mark.parametrize("work", WORKS)
def test_dense_flops_are_those_of_the_module(work):
    counts = check_traced(spec_of("unlike-sides"), WORKS[work])
    assert ("Run.model.encoder.layers.0" in counts) == bool(WORKS[work].new_source), "it runs once"


@pytest.mark.slow
def test_dense_flops_with_images():
    spec = spec_of("unlike-sides")
    counts = check_traced(spec, Workload(2, new=9, source=23, images=3))
    assert counts["Run.model.vision.projector"] > 0
    check_traced(spec, Workload(2, new=9, source=23, images=3, train=True))
    later = Workload(2, new=1, context=30, source=23, images=3)
    assert later.new_images == 0 and not any("vision" in name for name in check_traced(spec, later))


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("case", ["even-window", "odd-window", "window-1", "unlike-sides"])
def test_total_flops_by_brute_force(case, work):
    forward = archlab.flops(spec_of(case), WORKS[work]).total
    passes = 3 if WORKS[work].train else 1  # both operands of every product have gradients
    assert forward == passes * counted(spec_of(case), WORKS[work])


# ---------------------------------------------------------------- bad input


def refused(sentence: str):
    return pytest.raises(ArchlabError, match=sentence)


def test_what_a_forward_pass_cannot_take():
    source, ids, pixels = pictured()
    with refused("decoder_ids are missing: ids are the source, which the encoder of t5gemma2 reads"):
        MODEL(source)
    with refused("ids, the source, are missing: only a cache keeps them, from the first tokens on"):
        MODEL(None, decoder_ids=ids, pixels=pixels)
    with refused(r"12 image tokens in the ids \(each 91\) do not match 2 of 4"):
        MODEL(source, decoder_ids=ids, pixels=pixels[:2])
    cache = MODEL.init_cache(2, 17, source=20)
    with refused("21 source tokens overfill the cache, which was made for source=20"):
        MODEL(source, cache, decoder_ids=ids, pixels=pixels)
    cache = MODEL.init_cache(2, 17, source=21)
    MODEL(source, cache, decoder_ids=ids[:, :3], pixels=pixels)
    with refused("ids must be None, without images: the source came with the first tokens and is kept"):
        MODEL(None, cache, decoder_ids=ids[:, 3:], pixels=pixels)


DATA = {
    "name": "tiny", "family": "t5gemma2", "source": "this test", "d_model": 32, "n_layers": 2, "vocab_size": 61,
    "context": 64, "pattern": ["global"], "mlp": {"d_ff": 48}, "embedding": {"shared": True, "end_of_image": 60},
    "attention": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "source": "merged"},
    "encoder": {"attention": {"mask": "bidirectional"}},
}  # fmt: skip
ATTENTION = DATA["attention"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    {
        "nothing reads the encoder": (
            {"attention": {**ATTENTION, "source": "none"}},
            "^encoder: nothing reads it; the decoder needs cross_attention or attention.source: merged$",
        ),
        "a table shared with nobody": (
            {"encoder": None, "attention": {**ATTENTION, "source": "none"}},
            "^embedding: shared: true needs an encoder section, whose table it takes$",
        ),
        "no source to merge": ({"encoder": None, "embedding": {}}, "source: merged needs an encoder section$"),
        "another width": (
            {"encoder": {**DATA["encoder"], "d_model": 24}, "embedding": {}},
            "source: merged needs an encoder as wide as the decoder, not 24 and 32$",
        ),
        "a shared table of another width": (
            {"encoder": {**DATA["encoder"], "d_model": 24}},
            "^embedding: shared: true needs one d_model for encoder and decoder, not 24 and 32$",
        ),
        "a shared table of other rows": (
            {"encoder": {**DATA["encoder"], "vocab_size": 80}},
            "^embedding: shared: true needs one vocab_size for encoder and decoder, not 80 and 61$",
        ),
        "a shared vector of another token": (
            {"encoder": {**DATA["encoder"], "embedding": {"end_of_image": None}}},
            "^embedding: shared: true needs one end_of_image for encoder and decoder, not None and 60$",
        ),
        "a token past the table": (
            {"embedding": {"end_of_image": 61}},
            r"^encoder.embedding: end_of_image \(61\) must be a token, below vocab_size \(61\)$",
        ),
        "an encoder that merges": (
            {"encoder": {"attention": {"mask": "bidirectional", "source": "merged"}}},
            "^encoder.attention: source: merged needs an encoder section$",
        ),
        "a causal encoder": (
            {"encoder": {"n_layers": 1}},
            r"^encoder: it reads whole sequences, so its layers need mask: bidirectional \(encoder.attention\)$",
        ),
        "a bidirectional decoder": (
            {"attention": {**ATTENTION, "mask": "bidirectional"}},
            "^attention: source: merged goes with causal attention that has keys and values of its own",
        ),
    }.values(),
)  # fmt: skip
def test_specs_that_cannot_be(changed, sentence):
    resolve(DATA)
    with pytest.raises(SpecError, match=sentence):
        resolve({key: entry for key, entry in (DATA | changed).items() if entry is not None})


@torch.no_grad()
def test_a_deep_bf16_model_stays_finite():
    small = {"d_model": 64, "vocab_size": 61, "mlp.d_ff": 96, "attention.head_dim": 8, "embedding.end_of_image": 60}
    spec = archlab.load("t5gemma-2-4b-4b", {**small, "vision": None, "encoder.local.ahead": 3})
    model = archlab.build(spec, dtype=torch.bfloat16)
    logits = model(ids_of(2, 30, 61), decoder_ids=ids_of(2, 24, 61))
    assert logits.isfinite().all() and 0.3 < logits.float().std() < 3
