"""Gemma 3n's decoder: AltUp, LAuReL, per-layer embeddings, sparse layers and shared K/V equal transformers'."""

from types import SimpleNamespace

import pytest
import torch
from random_decoders import VOCAB, cached, check_counts, close, ids_of, ours, randomise
from torch import nn
from transformers import Gemma3nConfig, Gemma3nForCausalLM, Gemma3nForConditionalGeneration, Gemma3nTextConfig
from transformers.models.gemma3n import modeling_gemma3n
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextMLP

import archlab
from archlab import blocks
from archlab.nn.attention import Attention
from archlab.nn.mlp import MLP
from archlab.nn.step import Step

SLIDING, FULL = "sliding_attention", "full_attention"
ROWS = 53
"""Rows of the per-layer table: ids from there on use row 0."""
IMAGE, AUDIO = 55, 58
"""Tokens that stand for images and clips, among the ids that the table has no row for."""
TEXT = {
    "vocab_size": VOCAB, "vocab_size_per_layer_input": ROWS, "hidden_size": 48, "intermediate_size": 211,
    "num_hidden_layers": 7, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 14,
    "hidden_size_per_layer_input": 9, "sliding_window": 5, "max_position_embeddings": 64, "num_kv_shared_layers": 3,
    "laurel_rank": 7, "final_logit_softcapping": 3.0, "activation_sparsity_pattern": [0.95] * 2 + [0.0] * 5,
    "layer_types": [SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, FULL], "attn_implementation": "eager",
}  # fmt: skip
VARIANTS = {
    "two streams": {"altup_num_inputs": 2},
    "three streams, the last active": {"altup_num_inputs": 3, "altup_active_idx": 2},
    "second stream active": {"altup_active_idx": 1},
    "all K/V own": {"num_kv_shared_layers": 0},
    "most K/V shared": {"num_kv_shared_layers": 4},
    "dense": {"activation_sparsity_pattern": [0.0] * 7},
    "sparse by degrees": {"activation_sparsity_pattern": [0.9, 0.0, 0.5, 0.1, 0.0, 0.3, 0.95]},
    "width by layer": {"intermediate_size": [211, 87] * 3 + [150]},
    "one K/V head": {"num_key_value_heads": 1, "num_attention_heads": 3},
    "the class's own pattern": {"layer_types": None, "activation_sparsity_pattern": None, "num_hidden_layers": 11,
                                "intermediate_size": 601, "altup_num_inputs": 2},
}  # fmt: skip
CHUNKS = [[23], [1] * 23, [9, 1, 1, 8, 4], [3] + [1] * 20, [5, 5, 5, 5, 3], [17, 6]]


def pair(seed: int, **changes) -> tuple[nn.Module, nn.Module]:
    """transformers' model with random weights, and ours."""
    theirs = Gemma3nForCausalLM(Gemma3nTextConfig(**(TEXT | changes))).eval()
    randomise(theirs, seed)
    return theirs, ours(theirs)


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_logits(seed):
    theirs, model = pair(seed)
    for length in (1, 4, 31):
        ids = ids_of(2, length, seed)
        close(model(ids), theirs(ids, use_cache=False).logits)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_logits_of_variants(name):
    theirs, model = pair(3, **VARIANTS[name])
    ids = ids_of(2, 23, 3)
    close(model(ids), theirs(ids, use_cache=False).logits)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 24))
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_logits_of_many_seeds(name, seed):
    theirs, model = pair(seed, **VARIANTS[name])
    ids = ids_of(3, 40, seed)
    close(model(ids), theirs(ids, use_cache=False).logits)


@torch.no_grad()
def test_a_gate_that_reads_the_stream_unscaled():
    """A config.json that says so is refused, since its files have the scale nevertheless; a model file may say it."""
    theirs, _ = pair(3)
    model = ours(theirs, {"altup.scaled": False})
    theirs.config.altup_correct_scale = False
    ids = ids_of(2, 23, 3)
    close(model(ids), theirs(ids, use_cache=False).logits)
    assert model.layers[0].altup.block.scaled is False and not hasattr(model.layers[0].altup, "correct_scale")


@torch.no_grad()
def test_ids_beyond_the_table_use_row_0():
    _, model = pair(0)
    ids = ids_of(1, 12, most=ROWS)
    ids[0, 7] = ROWS  # the first that has no row
    assert not (ids == 0).any()
    before = model(ids)
    model.per_layer_embedding.table[0] += 1
    changed = (model(ids) - before).abs().amax(-1)[0] > 1e-3
    assert not changed[:7].any() and changed[7:].all()


@pytest.fixture
def towerless(monkeypatch):
    """Gemma3nForConditionalGeneration without the towers, which need timm: their output is given."""
    whole = modeling_gemma3n.AutoModel.from_config

    def from_config(config):
        return whole(config) if config.model_type == "gemma3n_text" else nn.Module()

    monkeypatch.setattr(modeling_gemma3n.AutoModel, "from_config", from_config)
    special = {"hidden_size": 16, "vocab_size": 4}
    config = Gemma3nConfig(
        text_config=TEXT, vision_config={**special, "vocab_offset": ROWS}, image_token_id=IMAGE, audio_token_id=AUDIO,
        audio_config={**special, "vocab_offset": 57}, vision_soft_tokens_per_image=4, audio_soft_tokens_per_image=3,
    )  # fmt: skip
    config._attn_implementation = "eager"
    theirs = Gemma3nForConditionalGeneration(config).eval()
    randomise(theirs, 5)
    return theirs


@torch.no_grad()
def test_images_and_sounds_take_the_places_of_their_tokens(towerless, monkeypatch):
    """Soft tokens are not scaled, all layers stay causal, and the per-layer table is read at row 0 for them."""
    model = archlab.build(archlab.hf.import_config(towerless.config.to_dict()))
    archlab.hf.load_weights(
        model, {k: v for k, v in towerless.state_dict().items() if not k.startswith("model.embed_")}
    )
    ids = ids_of(2, 25, 5, most=ROWS)
    ids[0, 3:7], ids[0, 14:18], ids[1, 9:13] = IMAGE, IMAGE, IMAGE
    ids[0, 19:22], ids[1, 0:3] = AUDIO, AUDIO
    seen, heard = torch.randn(3, 4, 48), torch.randn(2, 3, 48)
    output = SimpleNamespace(pooler_output=heard, audio_mel_mask=torch.zeros(2, 3, dtype=torch.bool))
    monkeypatch.setattr(towerless.model, "get_audio_features", lambda *_, **__: output)
    expected = towerless(
        input_ids=ids, mm_encoder_outputs={"image": SimpleNamespace(pooler_output=seen)}, input_features=heard,
        input_features_mask=torch.ones(2, 3, dtype=torch.bool), use_cache=False,
    ).logits  # fmt: skip
    full = model(ids, features=seen, audio=heard)
    close(full, expected)
    cache = model.init_cache(2, 25)
    first = model(ids[:, :18], cache, features=seen, audio=heard[1:])
    close(torch.cat((first, model(ids[:, 18:], cache, audio=heard[:1])), 1), full)


@pytest.mark.parametrize("share", [0.95, 0.5, 0.1, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_sparse_mlp(share, dtype):
    """To the bit in bf16: the quantile is rounded before it multiplies (0.95: 1.6484375, not 1.64485)."""
    config = Gemma3nTextConfig(**(TEXT | {"activation_sparsity_pattern": [share] * 7}))
    theirs = Gemma3nTextMLP(config, 0)
    randomise(theirs, 0)
    block = blocks.MLP(d_model=48, d_ff=211, sparsity=share)
    model = MLP(block, "cpu", dtype)
    for name in ("gate", "up", "down"):
        getattr(model, name).copy_(getattr(theirs, f"{name}_proj").weight)
    x = torch.randn(3, 40, 48).to(dtype)
    found, expected = model(x, None), theirs.to(dtype)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if dtype is torch.bfloat16 else 1e-5)
    assert ((model.thin(x @ model.gate.T) == 0).float().mean() - share).abs() < 0.05


@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_bf16_is_no_further_from_fp32_than_transformers_is(seed):
    """A loose check of the order of operations: random weights at a scale of 1 leave much noise."""
    theirs, model = pair(seed)
    ids = ids_of(4, 31, seed)
    exact = theirs(ids, use_cache=False).logits
    their_error = (theirs.bfloat16()(ids, use_cache=False).logits - exact).abs().mean()
    assert (model.bfloat16()(ids) - exact).abs().mean() < 1.2 * their_error


# ---------------------------------------------------------------- cached decode


@pytest.mark.parametrize("chunks", CHUNKS)
@torch.no_grad()
def test_a_cache_changes_nothing(chunks):
    _, model = pair(1)
    ids = ids_of(2, 23)
    close(cached(model, ids, chunks, spare=3), model(ids))


@pytest.mark.parametrize("name", ["three streams, the last active", "most K/V shared"])
@torch.no_grad()
def test_a_cache_changes_nothing_in_variants(name):
    _, model = pair(2, **VARIANTS[name])
    ids = ids_of(2, 23)
    for chunks in CHUNKS[1:3]:
        close(cached(model, ids, chunks), model(ids))


@torch.no_grad()
def test_layers_that_share_see_what_the_owner_saw(monkeypatch):
    """In this pass, not what is left in its ring after it; and nothing is held for layers that nobody borrows of."""
    lent, borrowed = {}, {}

    def lend(self: Step, path: str, *seen: torch.Tensor):
        lent[path] = seen
        return seen

    def shared(self: Attention, x: torch.Tensor, step: Step):
        borrowed[self.path] = lent[self.owner]
        return borrowed[self.path]

    monkeypatch.setattr(Step, "lend", lend)
    monkeypatch.setattr(Attention, "_shared", shared)
    _, model = pair(0)
    cache = model.init_cache(1, 20)
    for chunk in ids_of(1, 20).split([11, 9], 1):
        model(chunk, cache)
    assert set(lent) == {"layers.2.attention", "layers.3.attention"}  # the last of each kind before layer 4
    assert {path: seen[0].shape[1] for path, seen in borrowed.items()} == {
        "layers.4.attention": 20, "layers.5.attention": 9 + 4, "layers.6.attention": 20
    }  # fmt: skip
    assert not {path for path in cache.states if path.startswith(("layers.4", "layers.5", "layers.6"))}


# ---------------------------------------------------------------- counts


SHORT = {"num_hidden_layers": 4, "layer_types": [SLIDING, FULL] * 2, "num_kv_shared_layers": 2,
         "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0]}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"altup_num_inputs": 3, "altup_active_idx": 2, "intermediate_size": [211, 87, 87, 150]},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"altup_num_inputs": 2}, marks=pytest.mark.slow),
        pytest.param({"num_kv_shared_layers": 0, "num_key_value_heads": 1}, marks=pytest.mark.slow),
    ],
)
def test_counts_are_the_rows(changes):
    check_counts(archlab.hf.import_config(Gemma3nTextConfig(**(TEXT | SHORT | changes)).to_dict()))


@torch.no_grad()
def test_a_deep_random_model_is_finite_in_bf16():
    """Every layer of the larger one, narrow."""
    spec = archlab.load("gemma-3n-e4b", {
        "d_model": 64, "vocab_size": 97, "mlp.d_ff": 96, "attention.head_dim": 16, "local.window": 7,
        "per_layer_embedding.width": 16, "per_layer_embedding.table_rows": 90, "laurel.rank": 8, "vision": None,
        "audio": None,
    })  # fmt: skip
    logits = archlab.build(spec, dtype=torch.bfloat16)(ids_of(1, 40, most=97)).float()
    assert logits.isfinite().all() and 0.1 < logits.std() < 10
