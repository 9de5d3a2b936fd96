"""A cache changes nothing: chunks of any size, across a window's edge, give the logits of one full forward pass."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import archlab
from archlab.assemble import resolve
from archlab.errors import ArchlabError
from archlab.nn.cache import NoCache
from archlab.nn.decoder import Decoder
from archlab.nn.step import Sight, Step

VOCAB = 61


def tiny(window: int | None = 5, n_layers: int = 4, n_kv_heads: int = 2, dtype: torch.dtype = torch.float32) -> Decoder:
    """Sliding and global layers in turn (all global without a window), QK-norm and soft-caps on."""
    data = {
        "name": "tiny", "family": "gemma3", "source": "this test", "d_model": 32, "n_layers": n_layers,
        "vocab_size": VOCAB, "context": 64, "pattern": ["local", "global"],
        "attention": {"n_heads": 4, "n_kv_heads": n_kv_heads, "head_dim": 8, "qk_norm": True, "softcap": 20.0},
        "local": {"window": window}, "mlp": {"d_ff": 48}, "norm": {"post": True},
    }  # fmt: skip
    return archlab.build(resolve(data), dtype=dtype)


def ids_of(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def cached(model: Decoder, ids: torch.Tensor, chunks: list[int], capacity: int) -> torch.Tensor:
    cache = model.init_cache(ids.shape[0], capacity)
    return torch.cat([model(chunk, cache) for chunk in ids.split(chunks, 1)], 1)


@settings(deadline=None, max_examples=40)
@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    window=st.integers(1, 8),
    spare=st.integers(0, 5),
    batch=st.integers(1, 2),
    n_kv_heads=st.sampled_from([1, 2, 4]),
)
@example(chunks=[1] * 16, window=5, spare=0, batch=1, n_kv_heads=2)
@example(chunks=[3] + [1] * 12, window=5, spare=0, batch=2, n_kv_heads=2)
@example(chunks=[9, 1, 9, 1], window=4, spare=3, batch=1, n_kv_heads=1)
@example(chunks=[4, 1, 1], window=4, spare=0, batch=1, n_kv_heads=4)
@torch.no_grad()
def test_chunks_equal_one_forward(chunks, window, spare, batch, n_kv_heads):
    model, ids = tiny(window, n_kv_heads=n_kv_heads), ids_of(batch, sum(chunks))
    torch.testing.assert_close(cached(model, ids, chunks, sum(chunks) + spare), model(ids), rtol=0, atol=2e-5)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(chunks=st.lists(st.integers(1, 40), min_size=1, max_size=12), window=st.integers(1, 64), batch=st.integers(1, 3))
@torch.no_grad()
def test_many_chunks_equal_one_forward(chunks, window, batch):
    model, ids = tiny(window), ids_of(batch, sum(chunks))
    torch.testing.assert_close(cached(model, ids, chunks, sum(chunks)), model(ids), rtol=0, atol=5e-5)


@torch.no_grad()
def test_last_logits_are_the_last_row():
    model, ids = tiny(), ids_of(2, 7)
    cache = model.init_cache(2, 7)
    last = model(ids, cache, logits="last")
    assert last.shape == (2, 1, VOCAB)
    torch.testing.assert_close(last, model(ids)[:, -1:], rtol=0, atol=2e-5)
    assert cache.position == 7


@torch.no_grad()
def test_a_window_as_wide_as_the_context_is_global():
    ids = ids_of(2, 11)
    for chunks in ([11], [4, 7], [1] * 11):
        outputs = [cached(tiny(window), ids, chunks, 11) for window in (11, 12, None)]
        assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


@torch.no_grad()
def test_a_token_reaches_back_through_each_layer_by_a_window_less_one():
    """Two sliding layers of window 4: token 20 depends on tokens 20 - 2 * 3 and later, and on none before."""
    spec = tiny(window=4).spec
    model = archlab.build(resolve({**spec.data, "pattern": ["local"], "n_layers": 2}))
    ids = ids_of(1, 21)
    base = model(ids)[0, 20]
    for changed in range(21):
        other = ids.clone()
        other[0, changed] = (ids[0, changed] + 1) % VOCAB
        assert torch.equal(model(other)[0, 20], base) == (changed < 20 - 2 * 3)


@pytest.mark.parametrize("window", [None, 1, 2, 5, 30])
def test_mask_by_brute_force(window):
    for new, context in ((1, 1), (1, 9), (4, 4), (3, 11), (9, 9), (7, 8)):
        past = NoCache()
        past.position = context - new
        mask = Step(new, past, torch.device("cpu"), torch.float32).mask(Sight(window=window))
        reach = context if window is None else window
        seen = [[j for j in range(context) if i - reach < j <= i] for i in range(context - new, context)]
        first = min(min(row) for row in seen)
        assert mask.shape == (new, context - first)
        assert mask.tolist() == [[j in row for j in range(first, context)] for row in seen]


@torch.no_grad()
def test_a_cache_of_fewer_bits():
    model, ids = tiny(), ids_of(2, 12)
    cache = model.init_cache(2, 12, dtype=torch.bfloat16)
    logits = torch.cat([model(chunk, cache) for chunk in ids.split([5, 1, 6], 1)], 1)
    assert cache.nbytes == archlab.kv_cache(model.spec, 12, 2, "bf16").total
    assert logits.dtype == torch.float32
    assert 0 < (logits - model(ids)).abs().max() < 0.3


def test_a_cache_is_not_differentiated():
    model = tiny()
    cache = model.init_cache(1, 8)
    assert not model(ids_of(1, 4), cache).requires_grad
    assert model(ids_of(1, 4)).requires_grad


def test_what_a_cache_cannot_take():
    model = tiny()
    cache = model.init_cache(2, 8)
    with pytest.raises(ArchlabError, match="9 tokens overfill the cache, which was made for context=8"):
        model(ids_of(2, 9), cache)
    model(ids_of(2, 5), cache)
    with pytest.raises(ArchlabError, match="4 more tokens after 5 overfill the cache"):
        model(ids_of(2, 4), cache)
    with pytest.raises(ArchlabError, match=r"3 sequences .* batch=2"):
        model(ids_of(3, 1), cache)
    assert cache.position == 5, "a refusal changes nothing"
    for size in (0, -1, 2.5, "8"):
        with pytest.raises(ArchlabError, match="must be a whole number of 1 or more"):
            model.init_cache(2, size)


@pytest.mark.parametrize("ids", [torch.zeros(3, dtype=torch.long), torch.zeros(1, 2), torch.zeros(1, 0).long(), [[1]]])
def test_what_is_not_ids(ids):
    with pytest.raises(ArchlabError, match="ids must be"):
        tiny()(ids)


def test_unknown_rows_of_logits():
    with pytest.raises(ArchlabError, match="logits='first' must be all or last"):
        tiny()(ids_of(1, 2), logits="first")


@pytest.mark.parametrize("gain", ["one_plus", "plain"])
@pytest.mark.parametrize("post", [True, False])
@torch.no_grad()
def test_a_deep_bf16_model_stays_finite(gain, post):
    """62 layers, as the 27B: random weights must not blow up, or nothing could be measured without a checkpoint."""
    data = {**tiny(n_layers=62).spec.data, "norm": {"gain": gain, "post": post}}
    model = archlab.build(resolve(data), dtype=torch.bfloat16)
    ids = ids_of(2, 24)
    logits = model(ids)
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
    assert 0.3 < logits.float().std() < 3
    cache = model.init_cache(2, 24)
    assert all(model(chunk, cache).isfinite().all() for chunk in ids.split([20, 1, 3], 1))


def test_seeds():
    one, same, other = (archlab.build(tiny().spec, seed=s).embedding.table for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_initial_weights_are_spread_by_their_fan_in():
    data = {**tiny().spec.data, "d_model": 64, "vocab_size": 400, "mlp": {"d_ff": 200}}
    model = archlab.build(resolve(data))
    layer = model.layers[0]
    fans = {layer.attention.q: 64, layer.attention.o: 4 * 8, layer.mlp.up: 64, layer.mlp.down: 200}
    for weight, fan in fans.items():
        assert weight.std().item() == pytest.approx(fan**-0.5, rel=0.1)
    assert model.embedding(torch.arange(400)[None]).std().item() == pytest.approx(1, rel=0.05)
    assert not layer.attention.q_norm.any() and not layer.mlp.pre_norm.gain.any()
