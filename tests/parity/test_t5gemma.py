"""T5Gemma: encoder, decoder with cross-attention. Logits equal transformers', chunks one forward pass, rows the module."""

import pytest
import torch
from encoder_models import cached, check_traced, counted, ids_of, randomise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration, T5GemmaModel

import archlab
from archlab.assemble import resolve
from archlab.errors import ArchlabError, SpecError
from archlab.nn.decoder import Decoder
from archlab.spec import ModelSpec
from archlab.workload import Workload

SOURCES, WORDS = 89, 97  # rows of the two tables
ENCODER = dict(
    vocab_size=SOURCES, hidden_size=40, intermediate_size=62, num_hidden_layers=5, num_attention_heads=4,
    num_key_value_heads=2, head_dim=14, sliding_window=5, query_pre_attn_scalar=11, attn_logit_softcapping=7.0,
    max_position_embeddings=64, rms_norm_eps=1e-5,
)  # fmt: skip
DECODER = dict(
    vocab_size=WORDS, hidden_size=54, intermediate_size=46, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=3, head_dim=10, sliding_window=6, query_pre_attn_scalar=13, attn_logit_softcapping=3.0,
    final_logit_softcapping=4.0, max_position_embeddings=64,
)  # fmt: skip
UNCAPPED = dict(attn_logit_softcapping=None, final_logit_softcapping=None)
FULL, SLIDING = "full_attention", "sliding_attention"
CASES = {
    "unlike-sides": ({}, {}),
    "alike-sides": (DECODER, {}),
    "large-encoder-mqa": (
        dict(hidden_size=72, num_hidden_layers=7, num_attention_heads=8, num_key_value_heads=1, head_dim=22),
        dict(num_key_value_heads=1),
    ),
    "mha-no-caps": (UNCAPPED | dict(num_key_value_heads=4), UNCAPPED | dict(num_key_value_heads=6)),
    "window-1": (dict(sliding_window=1, layer_types=[SLIDING] * 5), dict(sliding_window=1, layer_types=[SLIDING] * 3)),
    "no-windows": (dict(layer_types=[FULL] * 5), dict(layer_types=[SLIDING, FULL, FULL])),
    "windows-past-the-end": (dict(sliding_window=40), dict(sliding_window=40)),
}


def config_of(case: str = "unlike-sides", tied: bool = True) -> T5GemmaConfig:
    encoder, decoder = (side | {"tie_word_embeddings": tied} for side in CASES[case])
    return T5GemmaConfig(
        encoder=ENCODER | encoder, decoder=DECODER | decoder, vocab_size=WORDS, tie_word_embeddings=tied,
        attn_implementation="eager",
    )  # fmt: skip


def pair(case: str, seed: int, tied: bool = True) -> tuple[T5GemmaForConditionalGeneration, Decoder]:
    """A random model of transformers, and ours with its weights."""
    config = config_of(case, tied)
    theirs = T5GemmaForConditionalGeneration(config).eval()
    randomise(theirs, seed)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def inputs(model: Decoder, batch: int = 2, source: int = 19, new: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    return ids_of(batch, source, model.spec.data["encoder"].get("vocab_size", WORDS)), ids_of(batch, new, WORDS, 1)


def spec_of(case: str = "unlike-sides") -> ModelSpec:
    return archlab.hf.import_config(config_of(case).to_dict())


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_transformers(case, seed):
    theirs, ours = pair(case, seed)
    source, ids = inputs(ours)
    seen = torch.ones_like(source)
    expected = theirs(input_ids=source, attention_mask=seen, decoder_input_ids=ids)
    torch.testing.assert_close(ours.encode(source), expected.encoder_last_hidden_state, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours(source, decoder_ids=ids), expected.logits, rtol=0, atol=1e-4)
    assert expected.logits.std() > 0.5


@torch.no_grad()
def test_a_head_of_its_own():
    theirs, ours = pair("unlike-sides", 3, tied=False)
    source, ids = inputs(ours)
    assert ours.head.table is not ours.embedding.table
    expected = theirs(input_ids=source, decoder_input_ids=ids).logits
    torch.testing.assert_close(ours(source, decoder_ids=ids), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_a_source_is_for():
    """Every token of the source reaches every logit; a table each: changing one side's leaves the other's alone."""
    _, ours = pair("unlike-sides", 4)
    source, ids = inputs(ours, batch=1)
    base = ours(source, decoder_ids=ids)
    for at in (0, 18):
        other = source.clone()
        other[0, at] = source[0, at] % (SOURCES - 1) + 1
        assert ((ours(other, decoder_ids=ids) - base).abs().amax(-1) > 1e-5).all()
    assert ours.encoder.embedding.table.shape == (SOURCES, 40) and ours.embedding.table.shape == (WORDS, 54)
    assert ours.head.table is ours.embedding.table


# ---------------------------------------------------------------- decoding


MODEL = archlab.build(spec_of(), seed=3)


@settings(deadline=None, max_examples=15)
@given(chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6), source=st.integers(1, 20), spare=st.integers(0, 3))
@example(chunks=[1] * 17, source=19, spare=0)
@example(chunks=[4, 3, 1, 1, 1, 7], source=1, spare=2)
@example(chunks=[7, 1, 9], source=6, spare=0)
@torch.no_grad()
def test_chunks_equal_one_forward(chunks, source, spare):
    source, ids = inputs(MODEL, 2, source, sum(chunks))
    full = MODEL(source, decoder_ids=ids)
    torch.testing.assert_close(cached(MODEL, source, ids, chunks, spare), full, rtol=0, atol=2e-5)


@torch.no_grad()
def test_token_by_token_with_the_weights_of_transformers():
    theirs, ours = pair("large-encoder-mqa", 5)
    source, ids = inputs(ours)
    expected = theirs(input_ids=source, decoder_input_ids=ids).logits
    torch.testing.assert_close(cached(ours, source, ids, [1] * 17), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_last_logits_and_a_cache_of_fewer_bits():
    source, ids = inputs(MODEL)
    full, cache = MODEL(source, decoder_ids=ids), MODEL.init_cache(2, 17, torch.bfloat16, source=19)
    assert cache.nbytes == archlab.kv_cache(MODEL.spec, 17, 2, "bf16", source=19).total
    assert MODEL(source, cache, "last", decoder_ids=ids[:, :9]).shape == (2, 1, WORDS)
    last = MODEL(None, cache, "last", decoder_ids=ids[:, 9:])
    assert last.dtype == torch.float32 and 0 < (last - full[:, -1:]).abs().max() < 0.3


@pytest.mark.parametrize(("context", "source"), [(1, 1), (5, 40), (64, 3), (64, 0)])
def test_cache_bytes(context, source):
    held = archlab.kv_cache(MODEL.spec, context, 3, "fp32", source=source)
    assert MODEL.init_cache(3, context, source=source).nbytes == held.total
    # keys and values, 4 bytes: three layers that keep a source, two sliding ones (window 6) and a global one
    assert held.by_part["source"] == 2 * 3 * 3 * source * 3 * 10 * 4
    assert held.by_part["local"] == 2 * 2 * 3 * min(context, 6) * 3 * 10 * 4
    assert held.by_part["global"] == 2 * 1 * 3 * context * 3 * 10 * 4


# ---------------------------------------------------------------- FLOPs

WORKS = {
    "first step": Workload(2, new=17, source=23),
    "first token": Workload(3, new=1, source=23),
    "long source": Workload(1, new=3, source=41, logits="last"),
    "chunk": Workload(2, new=5, context=17, source=23),
    "decode": Workload(3, new=1, context=40, source=23),
    "training": Workload(2, new=17, source=23, train=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_dense_flops_are_those_of_the_module(work):
    counts = check_traced(spec_of(), WORKS[work])
    assert ("Run.model.encoder.layers.0" in counts) == bool(WORKS[work].new_source), "it runs once"


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("case", ["unlike-sides", "window-1", "windows-past-the-end"])
def test_total_flops_by_brute_force(case, work):
    forward = archlab.flops(spec_of(case), WORKS[work]).total
    passes = 3 if WORKS[work].train else 1  # both operands of every product have gradients
    assert forward == passes * counted(spec_of(case), WORKS[work])


def test_a_source_costs_nothing_after_the_first_step():
    first, later = (archlab.flops(spec_of(), WORKS[w]) for w in ("first token", "decode"))
    assert {p for p in first.by_part if first.by_part[p] > later.by_part[p]} == {"attention", "cross_attention", "mlp"}
    wide, heads = 54 * 60, 60  # q and o; heads x head_dim
    assert later.by_part["cross_attention"] == 3 * 3 * 2 * (2 * wide + 2 * heads * 23)


# ---------------------------------------------------------------- bad input


def refused(sentence: str):
    return pytest.raises(ArchlabError, match=sentence)


def test_what_a_forward_pass_cannot_take():
    source, ids = inputs(MODEL)
    with refused("decoder_ids are missing: ids are the source, which the encoder of t5gemma reads"):
        MODEL(source)
    with refused("ids, the source, are missing: only a cache keeps them, from the first tokens on"):
        MODEL(None, decoder_ids=ids)
    with refused("ids of 1 sequences do not match decoder_ids of 2"):
        MODEL(source[:1], decoder_ids=ids)
    with refused(r"decoder_ids must be whole numbers \(batch, tokens\), not torch.int64 of shape \(17,\)"):
        MODEL(source, decoder_ids=ids[0])
    with refused("ids must be a tensor"):
        MODEL([[1, 2]], decoder_ids=ids)
    with refused("decoder_ids cannot be given: gemma-2b has not got an encoder"):
        archlab.build(archlab.load("gemma-2b"), device="meta")(ids.to("meta"), decoder_ids=ids.to("meta"))


def test_what_a_cache_cannot_take():
    source, ids = inputs(MODEL)
    cache = MODEL.init_cache(2, 17, source=18)
    with refused("ids, the source, are missing"):
        MODEL(None, cache, decoder_ids=ids)
    with refused("19 source tokens overfill the cache, which was made for source=18"):
        MODEL(source, cache, decoder_ids=ids)
    with refused("2 source tokens overfill the cache, which was made for source=0"):
        MODEL(source[:, :2], MODEL.init_cache(2, 17), decoder_ids=ids)
    assert cache.position == 0 and not any(s.buffer.any() for s in cache.states.values()), "a refusal changes nothing"
    MODEL(source[:, :7], cache, decoder_ids=ids[:, :9])
    with refused("ids must be None, without images: the source came with the first tokens and is kept"):
        MODEL(source[:, :7], cache, decoder_ids=ids[:, 9:])
    with refused("9 more tokens after 9 overfill the cache"):
        MODEL(None, cache, decoder_ids=ids[:, :9])
    with refused(r"ids of 1 sequences do not match the cache, which was made for batch=2"):
        MODEL(None, cache, decoder_ids=ids[:1, 9:])
    full = MODEL(source[:, :7], decoder_ids=ids)[:, 9:]
    torch.testing.assert_close(MODEL(None, cache, decoder_ids=ids[:, 9:]), full, rtol=0, atol=2e-5)


DATA = {
    "name": "tiny", "family": "t5gemma", "source": "this test", "d_model": 32, "n_layers": 2, "vocab_size": 61,
    "context": 64, "pattern": ["global"], "attention": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 8},
    "mlp": {"d_ff": 48}, "cross_attention": {}, "encoder": {"attention": {"mask": "bidirectional"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "sentence"),
    {
        "nothing reads the encoder": (
            {"cross_attention": None},
            "^encoder: nothing reads it; the decoder needs cross_attention or attention.source: merged$",
        ),
        "cross-attention without an encoder": (
            {"encoder": None},
            "^cross_attention: cross_attention needs an encoder section to attend to$",
        ),
        "a causal encoder": (
            {"encoder": {"n_layers": 1}},
            r"^encoder: it reads whole sequences, so its layers need mask: bidirectional \(encoder.attention\)$",
        ),
        "heads that do not divide": (
            {"cross_attention": {"n_kv_heads": 3}},
            r"^cross_attention: n_heads \(4\) must be a multiple of n_kv_heads \(3\); 2 or 4 would do$",
        ),
        "a misspelt key of the encoder": (
            {"encoder": {"mpl": {"d_ff": 3}}},
            "^unknown key encoder.mpl.*mlp",
        ),
    }.values(),
)  # fmt: skip
def test_specs_that_cannot_be(changed, sentence):
    resolve(DATA)
    with pytest.raises(SpecError, match=sentence):
        resolve({key: entry for key, entry in (DATA | changed).items() if entry is not None})


def test_cross_attention_of_its_own():
    """Heads, scale and cap apart from the self-attention's."""
    cross = {"n_heads": 6, "n_kv_heads": 3, "head_dim": 10, "query_scale": 4, "softcap": 5}
    spec = resolve({**DATA, "cross_attention": cross})
    model = archlab.build(spec)
    assert model.layers[1].cross_attention.q.shape == (6, 10, 32)
    source, ids = ids_of(2, 9, 61), ids_of(2, 8, 61, 1)
    full = model(source, decoder_ids=ids)
    torch.testing.assert_close(cached(model, source, ids, [3, 1, 4]), full, rtol=0, atol=2e-5)
    check_traced(spec, Workload(2, new=8, source=9))
    assert model.init_cache(2, 8, source=9).nbytes == archlab.kv_cache(spec, 8, 2, "fp32", source=9).total


@torch.no_grad()
def test_a_deep_bf16_model_stays_finite():
    spec = archlab.load("t5gemma-2b-2b", {"d_model": 64, "vocab_size": 61, "mlp.d_ff": 96, "attention.head_dim": 8})
    model = archlab.build(spec, dtype=torch.bfloat16)
    logits = model(ids_of(2, 30, 61), decoder_ids=ids_of(2, 24, 61))
    assert logits.isfinite().all() and 0.3 < logits.float().std() < 3


def test_hidden_states_without_a_head():
    config = config_of()
    config.architectures = ["T5GemmaModel"]
    theirs = T5GemmaModel(config).eval()
    randomise(theirs, 6)
    ours = archlab.build(resolve({**spec_of().data, "head": {"logits": False}}))
    archlab.hf.load_weights(ours, theirs.state_dict())
    source, ids = inputs(ours)
    expected = theirs(input_ids=source, decoder_input_ids=ids).last_hidden_state
    torch.testing.assert_close(ours(source, decoder_ids=ids), expected, rtol=0, atol=1e-4)
