"""Queries, keys and values out of a packed row: normed over the head and turned by RoPE, in registers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from archlab.nn.kernels import Heads, Turn
from archlab.nn.kernels.triton_launch import (
    OVERLAP,
    ceil_div,
    norm_arguments,
    power_of_2,
    ready,
    require_head,
    require_runnable,
)


@triton.jit
def head_rows(
    at: tl.tensor, seen: tl.tensor, d: tl.tensor, gain: tl.tensor, offset: float, eps: float,
    cos: tl.tensor, sin: tl.tensor, P: tl.tensor, H: tl.constexpr, NORM: tl.constexpr, TURN: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Heads n H, in fp32: `at` n 1 where each begins, d 1 H the dimensions, seen n H; normed, the first 2P turned.

    Dimension i turns with its twin i + P, which is read once more: from the nearest cache, and no lanes trade places.
    """
    x = tl.load(at + d, mask=seen, other=0.0).to(tl.float32)
    scale = tl.full((x.shape[0], 1), 1.0, tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(x * x, 1) / H + eps)[:, None]
        x *= scale
    if NORM == 2:
        x *= offset + tl.load(gain + d, mask=d < H, other=0.0).to(tl.float32)
    if TURN:
        turns = d < 2 * P
        first = d < P
        twin = tl.where(first, d + P, d - P)
        pair = tl.where(first, d, d - P)
        y = tl.load(at + twin, mask=seen & turns, other=0.0).to(tl.float32) * scale
        if NORM == 2:
            y *= offset + tl.load(gain + twin, mask=turns, other=0.0).to(tl.float32)
        c = tl.load(cos + pair, mask=turns, other=1.0).to(tl.float32)
        s = tl.load(sin + pair, mask=turns, other=0.0).to(tl.float32)
        x = x * c + y * tl.where(first, -s, s)
    return x


@triton.jit
def _split(
    qkv: tl.tensor, q: tl.tensor, k: tl.tensor, v: tl.tensor, cos: tl.tensor, sin: tl.tensor, P: tl.tensor,
    turn_row: tl.tensor,
    q_gain: tl.tensor, q_offset: float, q_eps: float, k_gain: tl.tensor, k_offset: float, k_eps: float,
    v_gain: tl.tensor, v_offset: float, v_eps: float,
    T: tl.tensor, row: tl.tensor, N: tl.tensor, K: tl.tensor, v_head: tl.tensor, q_blocks: tl.tensor,
    k_blocks: tl.tensor,
    H: tl.constexpr, H_PAD: tl.constexpr, BLOCK: tl.constexpr,
    Q_NORM: tl.constexpr, K_NORM: tl.constexpr, V_NORM: tl.constexpr, TURN: tl.constexpr,
) -> None:  # fmt: skip
    """BLOCK heads of a row: queries, keys or values, by the block's place among the row's."""
    ready()
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    cos += token % T * turn_row
    sin += token % T * turn_row
    start = qkv + token * row
    d = tl.arange(0, H_PAD)[None, :]
    n = tl.arange(0, BLOCK)[:, None]
    if part < q_blocks:
        n += part * BLOCK
        seen = (n < N) & (d < H)
        x = head_rows(start + n * H, seen, d, q_gain, q_offset, q_eps, cos, sin, P, H, Q_NORM, TURN)
        tl.store(q + (token * N + n) * H + d, x.to(q.dtype.element_ty), mask=seen)
    elif part < q_blocks + k_blocks:
        n += (part - q_blocks) * BLOCK
        seen = (n < K) & (d < H)
        x = head_rows(start + (N + n) * H, seen, d, k_gain, k_offset, k_eps, cos, sin, P, H, K_NORM, TURN)
        tl.store(k + (token * K + n) * H + d, x.to(k.dtype.element_ty), mask=seen)
    else:
        n += (part - q_blocks - k_blocks) * BLOCK
        seen = (n < K) & (d < H)
        x = head_rows(start + (v_head + n) * H, seen, d, v_gain, v_offset, v_eps, cos, sin, P, H, V_NORM, False)
        tl.store(v + (token * K + n) * H + d, x.to(v.dtype.element_ty), mask=seen)


def first_value(heads: Heads) -> int:
    """The head at which a packed row's values begin: its keys, where they are the values too."""
    return heads.n_heads if heads.k_is_v else heads.n_heads + heads.n_kv_heads


def turn_arguments(turn: Turn | None, unused: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """cos and sin, or tensors that are not read; P and the stride of their rows."""
    if turn is None:
        return unused, unused, 0, 0
    cos, sin = turn
    require_runnable(cos, sin)
    return cos, sin, cos.shape[-1], 0 if len(cos) == 1 else cos.stride(0)


def split_heads(qkv: Tensor, heads: Heads, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries B T N H, keys and values B T K H (empty where the row has none), normed and turned: one launch."""
    rows = qkv.reshape(-1, qkv.shape[-1])
    require_runnable(rows)
    require_head(heads.head_dim)
    batch, tokens, width = *qkv.shape[:2], heads.head_dim
    kv_heads = heads.n_kv_heads if heads.owns_kv else 0
    q, k, v = (qkv.new_empty(batch, tokens, n, width) for n in (heads.n_heads, kv_heads, kv_heads))
    block = max(2048 // power_of_2(width), 1)
    q_blocks, k_blocks = ceil_div(heads.n_heads, block), ceil_div(kv_heads, block)
    (q_norm, *q_how), (k_norm, *k_how), (v_norm, *v_how) = (
        norm_arguments(norm, qkv) for norm in (heads.q_norm, heads.k_norm, heads.v_norm)
    )
    _split[(len(rows), q_blocks + 2 * k_blocks)](
        rows, q, k, v, *turn_arguments(turn, qkv), *q_how, *k_how, *v_how,
        tokens, rows.stride(0), heads.n_heads, kv_heads, first_value(heads), q_blocks, k_blocks,
        H=width, H_PAD=power_of_2(width), BLOCK=block, Q_NORM=q_norm, K_NORM=k_norm, V_NORM=v_norm,
        TURN=turn is not None, num_warps=4, launch_pdl=OVERLAP.value,
    )  # fmt: skip
    return q, k, v
