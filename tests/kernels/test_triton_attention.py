"""Attention in Triton against torch: fp32 to 1e-5 of the largest, bf16 to one of its steps from torch's fp32."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archlab.errors import ArchlabError
from archlab.nn.kernels import Heads, Norm, Turn, torch_kernels

pytest.importorskip("triton", reason="triton is not installed: pip install --no-deps triton, beside torch for the CPU")
from archlab.nn.kernels import triton_decode, triton_kernels, triton_prefill

DTYPES = [torch.float32, torch.bfloat16]


def within(made, wanted):
    """The same numbers: to 1e-5 of the largest, or to a bf16 step there."""
    largest = wanted.float().abs().max()
    step = 1e-5 * largest if made.dtype == torch.float32 else 2.0**-7 * 2 ** largest.log2().floor()
    assert made.shape == wanted.shape
    assert (made.float() - wanted.float()).abs().max() <= step


def wide(norm):
    return norm if norm is None or norm.gain is None else replace(norm, gain=norm.gain.float())


def heads_of(n, kv, width, device, dtype, qk_norm=False, v_norm=False, k_is_v=False, owns_kv=True):
    gains = [Norm(torch.randn(width, device=device).to(dtype) * 0.3, 1e-6, 1.0) if qk_norm else None for _ in range(2)]
    return Heads(n, kv, width, *gains, Norm(None, 1e-6) if v_norm else None, k_is_v, owns_kv)


def in_fp32(heads):
    return replace(heads, q_norm=wide(heads.q_norm), k_norm=wide(heads.k_norm))


def packed(heads, batch, tokens, device, dtype):
    """A row of queries, keys and values, B T (N + 2K)H; beside others, so that it stands apart."""
    parts = heads.n_heads + heads.n_kv_heads * ((2 - heads.k_is_v) if heads.owns_kv else 0)
    return torch.randn(batch, tokens, parts * heads.head_dim + 8, device=device).to(dtype)[..., :-8]


def turn_of(pairs, tokens, device, dtype):
    if pairs == 0:
        return None
    angles = torch.rand(tokens, 1, pairs, device=device) * 6
    return Turn((angles.cos().to(dtype), angles.sin().to(dtype)))


def cache_of(batch, slots, kv, width, device, dtype):
    """A view of a larger cache, heads before slots; what lies in it does not reach the slots of a token to come."""
    return torch.randn(batch + 1, kv, slots + 3, width, device=device).to(dtype)[1:, :, 2:-1].transpose(1, 2)


def check_step(heads, batch, slots, slot, pairs, cap, dtype, cache_dtype, device):
    scale = heads.head_dim**-0.5
    qkv, turn = packed(heads, batch, 1, device, dtype), turn_of(pairs, 1, device, dtype)
    keys, values = (cache_of(batch, slots, heads.n_kv_heads, heads.head_dim, device, cache_dtype) for _ in range(2))
    if slot is not None:
        keys[:, slot] = values[:, slot] = float("nan")  # nothing reads what is there before
    before = keys.clone(), values.clone()
    there = before[0].float(), before[1].float()
    made = triton_kernels.step_attention(qkv, heads, turn, keys, values, slot, scale, cap)
    wide_turn = turn and Turn(x.float() for x in turn)
    wanted = torch_kernels.step_attention(qkv.float(), in_fp32(heads), wide_turn, *there, slot, scale, cap)
    within(made, wanted)
    for cache, old, right in zip((keys, values), before, there, strict=True):
        if slot is not None:
            within(cache[:, slot], right[:, slot])
            old[:, slot] = cache[:, slot]
        assert torch.equal(cache, old)
    return keys, values, there


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("slots", "slot", "n", "kv", "cap", "processors"),
    [
        (1, 0, 2, 2, None, 132), (7, 0, 4, 2, 5.0, 132), (7, 6, 8, 1, None, 132), (64, 31, 2, 1, 5.0, 132),
        (130, 129, 8, 1, None, 132), (130, 64, 4, 2, 5.0, 132), (130, 0, 2, 1, None, 132), (130, None, 2, 1, 5.0, 132),
        (130, None, 8, 1, None, 1), (130, 127, 2, 1, 5.0, 1), (300, 128, 2, 1, None, 1),
    ],
)  # fmt: skip
def test_a_step(slots, slot, n, kv, cap, processors, dtype, device, few_processors):
    """The token's slot at either end, in the middle and on the border of splits; splits of one tile and of several."""
    few_processors(processors)
    heads = heads_of(n, kv, 64, device, dtype, qk_norm=True, owns_kv=slot is not None)
    check_step(heads, 2 if slots < 10 else 1, slots, slot, 32, cap, dtype, dtype, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 80, 256, 512])
@pytest.mark.parametrize("kind", ["plain", "k_is_v", "shared"])
def test_a_step_of_wide_and_odd_heads(width, kind, dtype, device):
    owns = kind != "shared"
    heads = heads_of(2, 1, width, device, dtype, qk_norm=True, v_norm=True, k_is_v=kind == "k_is_v", owns_kv=owns)
    check_step(heads, 1, 70, 40 if owns else None, width // 8, None, dtype, dtype, device)


@pytest.mark.parametrize(("dtype", "cache_dtype"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("processors", [132, 1])
def test_a_step_over_a_cache_of_another_format(dtype, cache_dtype, processors, device, few_processors):
    few_processors(processors)
    heads = heads_of(4, 2, 64, device, dtype)
    qkv = packed(heads, 1, 1, device, dtype)
    keys, values = (cache_of(1, 300, 2, 64, device, cache_dtype) for _ in range(2))
    there = keys.clone(), values.clone()
    made = triton_kernels.step_attention(qkv, heads, None, keys, values, 7, 0.1, None)
    within(made.bfloat16(), torch_kernels.step_attention(qkv, heads, None, *there, 7, 0.1, None))
    assert torch.equal(keys, there[0]) and torch.equal(values, there[1])


def test_what_is_neither_normed_nor_turned_is_written_bit_by_bit(device):
    heads = heads_of(2, 1, 64, device, torch.bfloat16)
    qkv = packed(heads, 3, 1, device, torch.bfloat16)
    ours, theirs = ([torch.zeros(3, 9, 1, 64, device=device).bfloat16() for _ in range(2)] for _ in range(2))
    triton_kernels.step_attention(qkv, heads, None, *ours, 4, 0.1, None)
    torch_kernels.step_attention(qkv, heads, None, *theirs, 4, 0.1, None)
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_step_of_any_shape(data, device):
    kv, group, width = (data.draw(st.sampled_from(x)) for x in ([1, 2, 3], [1, 2, 5, 17], [16, 40, 64, 96]))
    slots = data.draw(st.integers(1, 80))
    slot = data.draw(st.none() | st.integers(0, slots - 1))
    norms = data.draw(st.booleans())
    heads = heads_of(
        kv * group, kv, width, device, torch.float32, norms, norms, data.draw(st.booleans()), slot is not None
    )
    pairs, cap = data.draw(st.integers(0, width // 2)), data.draw(st.sampled_from([None, 3.0, 50.0]))
    check_step(heads, data.draw(st.integers(1, 2)), slots, slot, pairs, cap, torch.float32, torch.float32, device)


@pytest.mark.parametrize(
    ("slots", "tile", "others", "splits", "span"),
    [(1024, 32, 8, 32, 32), (8192, 32, 8, 32, 256), (8192, 32, 1, 256, 32), (100, 64, 4, 2, 64), (1, 64, 1, 1, 64), (4096, 32, 512, 1, 4096)],
)  # fmt: skip
def test_splits_fill_the_processors_and_none_is_empty(slots, tile, others, splits, span):
    assert triton_decode.splits_of(slots, tile, others, torch.device("cpu")) == (splits, span)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["plain", "normed", "k_is_v", "shared"])
@pytest.mark.parametrize(("width", "pairs"), [(64, 32), (80, 20), (256, 128), (512, 0)])
def test_heads_are_split(width, pairs, kind, dtype, device):
    normed = kind != "plain"
    heads = heads_of(5, 2, width, device, dtype, normed, normed, kind == "k_is_v", kind != "shared")
    qkv, turn = packed(heads, 2, 3, device, dtype), turn_of(pairs, 3, device, dtype)
    made = triton_kernels.split_heads(qkv, heads, turn)
    wide_turn = turn and Turn(x.float() for x in turn)
    wanted = torch_kernels.split_heads(qkv.float(), in_fp32(heads), wide_turn)
    for ours, theirs in zip(made, wanted, strict=True):
        assert ours.is_contiguous() and ours.shape == theirs.shape
        if ours.numel():
            within(ours, theirs)


def check_causal(batch, tokens, n, kv, width, window, cap, dtype, device, run=triton_prefill.tiled):
    q, k, v = (torch.randn(batch, tokens, heads, width + 8, device=device).to(dtype)[..., :-8] for heads in (n, kv, kv))
    made = run(q, k, v, window, 0.2, cap)
    within(made, torch_kernels.causal_attention(q.float(), k.float(), v.float(), window, 0.2, cap))


@pytest.mark.parametrize(("cap", "dtype"), [(None, torch.float32), (4.0, torch.bfloat16)])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 33, 44, 45, 200])
def test_a_prompt(window, cap, dtype, device):
    """Windows within a tile, of a tile, over several, of all tokens but one and of all."""
    check_causal(1, 45, 2, 1, 64, window, cap, dtype, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "kv", "width"), [(2, 2, 80), (8, 1, 256), (1, 1, 512)])
def test_a_prompt_of_wide_and_odd_heads(n, kv, width, dtype, device):
    check_causal(1, 37, n, kv, width, 20, None, dtype, device)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_prompt_of_any_shape(data, device):
    kv, group, width = (data.draw(st.sampled_from(x)) for x in ([1, 2], [1, 3], [8, 40, 64]))
    tokens = data.draw(st.integers(1, 60))
    window, cap = data.draw(st.none() | st.integers(1, 70)), data.draw(st.sampled_from([None, 3.0, 50.0]))
    check_causal(data.draw(st.integers(1, 2)), tokens, kv * group, kv, width, window, cap, torch.float32, device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention is a GPU's")
@pytest.mark.parametrize("window", [None, 5, 64, 500])
@pytest.mark.parametrize("width", [64, 80, 256])
def test_a_prompt_through_flash_attention(width, window, device):
    def flash(q, k, v, window, scale, cap):
        return triton_prefill.flash(q.contiguous(), k, v, window, scale)

    check_causal(2, 300, 8, 2, width, window, None, torch.bfloat16, device, flash)


@pytest.mark.parametrize("window", [None, 4, 12, 500])
def test_flash_attention_is_called_as_torch_declares_it(window):
    """On meta tensors: the arguments are those of this torch's operator, and the shapes come out right."""
    q, k, v = (torch.empty(2, 12, n, 64, dtype=torch.bfloat16, device="meta") for n in (4, 2, 2))
    assert triton_prefill.flash(q, k, v, window, 0.1).shape == q.shape


@pytest.mark.parametrize(
    ("width", "dtype", "cap", "takes"),
    [
        (256, torch.bfloat16, None, True), (80, torch.float16, None, True), (264, torch.bfloat16, None, False),
        (84, torch.bfloat16, None, False), (128, torch.bfloat16, 50.0, False), (128, torch.float32, None, False),
    ],
)  # fmt: skip
def test_what_flash_attention_takes(width, dtype, cap, takes):
    assert triton_prefill.flash_takes(width, dtype, cap) is takes


def test_what_cannot_run_is_a_sentence(device):
    wide_head = heads_of(1, 1, 520, device, torch.float32)
    cache = cache_of(1, 3, 1, 520, device, torch.float32)
    with pytest.raises(ArchlabError, match="at most 512 dimensions, not 520"):
        triton_kernels.step_attention(
            packed(wide_head, 1, 1, device, torch.float32), wide_head, None, cache, cache, 0, 1.0, None
        )
    with pytest.raises(ArchlabError, match="at most 512 dimensions, not 520"):
        triton_kernels.causal_attention(cache, cache, cache, None, 1.0, None)
    with pytest.raises(ArchlabError, match="last stride"):
        triton_kernels.causal_attention(*[torch.randn(1, 4, 64, 2, device=device).transpose(2, 3)] * 3, None, 1.0, 2.0)
