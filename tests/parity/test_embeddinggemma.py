"""EmbeddingGemma: Gemma 3 that sees both ways and makes no logits. Hidden states equal transformers'."""

import pytest
import torch
from encoder_models import check_traced, counted, ids_of, pairs, randomise
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Gemma3TextModel

import archlab
from archlab.assemble import resolve
from archlab.errors import ArchlabError, SpecError
from archlab.nn.decoder import Decoder
from archlab.spec import ModelSpec
from archlab.workload import Workload

VOCAB = 97
TINY = dict(
    vocab_size=VOCAB, hidden_size=45, intermediate_size=62, num_hidden_layers=7, num_attention_heads=3,
    num_key_value_heads=1, head_dim=14, sliding_window=8, query_pre_attn_scalar=11, max_position_embeddings=64,
    sliding_window_pattern=3, use_bidirectional_attention=True, architectures=["Gemma3TextModel"],
)  # fmt: skip
CASES = {
    "even-window": {},
    "odd-window": dict(sliding_window=9),
    "window-2": dict(sliding_window=2, num_key_value_heads=3),
    "window-past-the-end": dict(sliding_window=100),
    "no-windows": dict(layer_types=["full_attention"] * 7, num_attention_heads=9, num_key_value_heads=3),
    "interpolated": dict(
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        }
    ),
}


def config_of(case: str = "even-window") -> Gemma3TextConfig:
    return Gemma3TextConfig(**(TINY | CASES[case]), attn_implementation="eager")


def pair(case: str, seed: int) -> tuple[Gemma3TextModel, Decoder]:
    """A random model of transformers, and ours with its weights."""
    config = config_of(case)
    theirs = Gemma3TextModel(config).eval()
    randomise(theirs, seed)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def spec_of(case: str = "even-window") -> ModelSpec:
    return archlab.hf.import_config(config_of(case).to_dict())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_hidden_states_equal_transformers(case, seed):
    theirs, ours = pair(case, seed)
    ids = ids_of(2, 23, VOCAB, seed)
    expected = theirs(ids).last_hidden_state
    assert expected.shape == (2, 23, 45) and expected.std() > 0.5
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours(ids, logits="last"), expected[:, -1:], rtol=0, atol=1e-4)


@torch.no_grad()
def test_with_a_head_there_are_logits():
    config = config_of()
    config.architectures = ["Gemma3ForCausalLM"]
    theirs = Gemma3ForCausalLM(config).eval()
    randomise(theirs, 3)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    ids = ids_of(2, 23, VOCAB)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("window", "radius"), [(2, 1), (3, 1), (8, 4), (9, 4)])
@torch.no_grad()
def test_how_far_a_token_sees(window, radius):
    """One sliding layer: half of the file's window to either side, and no further."""
    config = Gemma3TextConfig(**TINY | dict(num_hidden_layers=1, sliding_window=window))
    model = archlab.build(archlab.hf.import_config(config.to_dict()))
    ids = ids_of(1, 21, VOCAB)
    base = model(ids)[0, 10]
    for at in range(21):
        other = ids.clone()
        other[0, at] = ids[0, at] % (VOCAB - 1) + 1
        assert torch.equal(model(other)[0, 10], base) == (abs(at - 10) > radius)


def test_the_released_shape():
    spec = archlab.load("embeddinggemma-300m")
    assert spec.layer("local").facts()["window"] == 512 // 2 + 1
    assert not spec.decodes and archlab.kv_cache(spec, 2048).total == 0
    assert archlab.params(spec).total == 302_863_104  # google/embeddinggemma-300m, model.safetensors


WORKS = {
    "whole": Workload(2, new=23),
    "one token": Workload(3, new=1),
    "within a window": Workload(1, new=4),
    "training": Workload(2, new=17, train=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("case", ["even-window", "no-windows"])
def test_flops(case, work):
    spec, work = spec_of(case), WORKS[work]
    check_traced(spec, work)
    assert archlab.flops(spec, work).total == (3 if work.train else 1) * counted(spec, work)


def test_flops_at_full_size():
    """24 layers, 20 of them sliding with 256 tokens to either side; by hand from the released sizes."""
    length = 2048
    spec, work = archlab.load("embeddinggemma-300m"), Workload(new=length)
    matrices = 768 * 256 * (3 + 1 + 1 + 3) + 3 * 768 * 1152
    seen = 20 * sum(min(i, 256) + 1 + min(length - 1 - i, 256) for i in range(length)) + 4 * length**2
    assert archlab.flops(spec, work).total == 2 * length * 24 * matrices + 4 * 3 * 256 * seen
    assert pairs(9, 9, 3, 2) == sum(min(i, 2) + 1 + min(8 - i, 2) for i in range(9))


def refused(sentence: str):
    return pytest.raises(ArchlabError, match=sentence)


def test_what_it_cannot_take():
    spec = spec_of()
    model, ids = archlab.build(spec), ids_of(2, 9, VOCAB)
    with refused("^a cache cannot be given: gemma3_text has not got causal layers$"):
        model.init_cache(2, 9)
    foreign = archlab.build(
        resolve({**spec.data, "family": "gemma3", "attention": {"n_heads": 3, "n_kv_heads": 1, "head_dim": 14}})
    )
    with refused("^a cache cannot be given: gemma3_text has not got causal layers$"):
        model(ids, foreign.init_cache(2, 9))
    with refused("^new=1 must equal context=9: gemma3_text reads whole sequences$"):
        archlab.flops(spec, Workload(new=1, context=9))
    with refused("^new=1 must equal context=9: gemma3_text reads whole sequences$"):
        archlab.flops(spec, Workload(new=9).decode())
    with refused("^decoder_ids cannot be given: gemma3_text has not got an encoder$"):
        model(ids, decoder_ids=ids)
    with refused("^a source to encode cannot be given: gemma3_text has not got an encoder$"):
        model.encode(ids)
    with refused("^source=3 cannot be: gemma3_text has no encoder$"):
        archlab.flops(spec, Workload(new=9, source=3))


@pytest.mark.parametrize(
    ("attention", "sentence"),
    [
        ({"ahead": 3, "mask": "causal"}, "ahead needs mask: bidirectional and a window$"),
        ({"kv": "shared"}, "kv: shared needs a cache; bidirectional attention has none$"),
        ({"source": "merged"}, "source: merged needs an encoder section$"),
        ({"ahead": -1}, "attention.ahead=-1 must be a whole number of 0 or more or null"),
    ],
)
def test_specs_that_cannot_be(attention, sentence):
    data = spec_of().data
    with pytest.raises(SpecError, match=sentence):
        resolve({**data, "attention": data["attention"] | attention})
