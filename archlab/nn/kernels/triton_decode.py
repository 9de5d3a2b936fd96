"""Attention of one new token: the cache is read in splits, a program each, and a second launch adds them up.

Every program norms and turns its own queries. The split that holds the token's slot makes its key and value, writes
them, and starts from them; in the loop over the cache that slot is left out, so no program reads what another writes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from archlab.nn.kernels import Heads, Turn
from archlab.nn.kernels.triton_heads import first_value, head_rows, turn_arguments
from archlab.nn.kernels.triton_launch import (
    OVERLAP,
    ceil_div,
    norm_arguments,
    power_of_2,
    processors,
    ready,
    require_head,
    require_runnable,
)

LOG2_E = 1.4426950408889634
TILE_BYTES = 16384
"""Keys, or values, that a program reads at a time."""


@triton.jit
def scores(s: tl.tensor, inner: float, outer: float, CAPPED: tl.constexpr) -> tl.tensor:
    """q . k scaled, capped and in powers of 2: see score_factors."""
    if CAPPED:
        s = outer - 2.0 * outer / (1.0 + tl.exp2(s * inner))  # outer tanh(x); infinite powers come out right
    else:
        s *= inner
    return s


def score_factors(scale: float, cap: float | None) -> tuple[float, float]:
    """inner and outer of `scores`; outer is 0 without a cap."""
    return (scale * LOG2_E, 0.0) if cap is None else (2 * LOG2_E * scale / cap, cap * LOG2_E)


@triton.jit(do_not_specialize=["U", "slot", "span"])
def _read(
    qkv: tl.tensor, keys: tl.tensor, values: tl.tensor, part: tl.tensor, lse: tl.tensor, cos: tl.tensor,
    sin: tl.tensor, P: tl.tensor,
    q_gain: tl.tensor, q_offset: float, q_eps: float, k_gain: tl.tensor, k_offset: float, k_eps: float,
    v_gain: tl.tensor, v_offset: float, v_eps: float, inner: float, outer: float,
    U: tl.tensor, slot: tl.tensor, span: tl.tensor, N: tl.tensor, G: tl.tensor, v_head: tl.tensor,
    row: tl.tensor, k_b: tl.tensor, k_u: tl.tensor, k_h: tl.tensor, v_b: tl.tensor, v_u: tl.tensor, v_h: tl.tensor,
    H: tl.constexpr, H_PAD: tl.constexpr, G_PAD: tl.constexpr, TILE: tl.constexpr,
    Q_NORM: tl.constexpr, K_NORM: tl.constexpr, V_NORM: tl.constexpr, TURN: tl.constexpr,
    OWNS: tl.constexpr, CAPPED: tl.constexpr,
) -> None:  # fmt: skip
    """A split of `span` slots for the G queries of one key head: part B N S H, what they see; lse B N S, base 2."""
    ready()
    split, kv, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    d = tl.arange(0, H_PAD)
    g = tl.arange(0, G_PAD)
    start = qkv + b * row
    keys += b * k_b + kv * k_h
    values += b * v_b + kv * v_h
    mine = (g < G)[:, None] & (d < H)[None, :]
    q_at = start + (kv * G + g)[:, None] * H
    q = head_rows(q_at, mine, d[None, :], q_gain, q_offset, q_eps, cos, sin, P, H, Q_NORM, TURN)
    q = q.to(qkv.dtype.element_ty)
    low = split * span
    high = tl.minimum(low + span, U)
    most = tl.full((G_PAD,), float("-inf"), tl.float32)
    total = tl.zeros((G_PAD,), tl.float32)
    seen_values = tl.zeros((G_PAD, H_PAD), tl.float32)
    if OWNS:  # noqa: SIM102  (one is known to the compiler, the other is not)
        if (slot >= low) & (slot < high):
            one = (d < H)[None, :]
            zero = tl.zeros((1, 1), tl.int32)
            k_at = start + (N + kv) * H + zero
            v_at = start + (v_head + kv) * H + zero
            k = head_rows(k_at, one, d[None, :], k_gain, k_offset, k_eps, cos, sin, P, H, K_NORM, TURN)
            v = head_rows(v_at, one, d[None, :], v_gain, v_offset, v_eps, cos, sin, P, H, V_NORM, False)
            k = k.to(keys.dtype.element_ty)
            v = v.to(values.dtype.element_ty)
            tl.store(keys + slot.to(tl.int64) * k_u + d[None, :], k, mask=one)
            tl.store(values + slot.to(tl.int64) * v_u + d[None, :], v, mask=one)
            most = scores(tl.sum(q.to(tl.float32) * k.to(q.dtype).to(tl.float32), 1), inner, outer, CAPPED)
            total += 1.0
            seen_values += v.to(q.dtype).to(tl.float32)
    for at in range(low, high, TILE):
        u = at + tl.arange(0, TILE)
        seen = (u < high) & (u != slot)
        at_u = u.to(tl.int64)[:, None]
        there = seen[:, None] & (d < H)[None, :]
        k = tl.load(keys + at_u * k_u + d[None, :], mask=there, other=0.0)
        s = scores(tl.dot(q, tl.trans(k.to(q.dtype)), input_precision="tf32x3"), inner, outer, CAPPED)
        s = tl.where(seen[None, :], s, float("-inf"))
        higher = tl.maximum(most, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        fade = tl.exp2(most - higher)
        most = higher
        total = total * fade + tl.sum(p, 1)
        v = tl.load(values + at_u * v_u + d[None, :], mask=there, other=0.0)
        seen_values = tl.dot(p.to(q.dtype), v.to(q.dtype), seen_values * fade[:, None], input_precision="tf32x3")
    at_part = (b * N + kv * G + g) * tl.num_programs(0) + split
    tl.store(part + at_part[:, None] * H + d[None, :], seen_values / total[:, None], mask=mine)
    tl.store(lse + at_part, most + tl.log2(total), mask=g < G)


@triton.jit(do_not_specialize=["splits"])
def _add(
    part: tl.tensor, lse: tl.tensor, out: tl.tensor, splits: tl.tensor,
    H: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """out BN H, part BN S H, lse BN S: what each split saw, by its share of the softmax."""
    ready()
    head = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    most = float("-inf")
    total = 0.0
    made = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, splits, SPLITS):
        s = start + tl.arange(0, SPLITS)
        share = tl.load(lse + head * splits + s, mask=s < splits, other=float("-inf"))
        at = part + (head * splits + s)[:, None] * H + d[None, :]
        seen = tl.load(at, mask=(s < splits)[:, None] & (d < H)[None, :], other=0.0)
        higher = tl.maximum(most, tl.max(share, 0))
        p = tl.exp2(share - higher)
        fade = tl.exp2(most - higher)
        most = higher
        total = total * fade + tl.sum(p, 0)
        made = made * fade + tl.sum(p[:, None] * seen, 0)
    tl.store(out + head * H + d, (made / total).to(out.dtype.element_ty), mask=d < H)


def tile_of(head_dim: int, size: int) -> int:
    """Slots that a program reads at a time, for elements of so many bytes."""
    return min(max(TILE_BYTES // (power_of_2(head_dim) * size), 16), 128)


def splits_of(slots: int, tile: int, others: int, device: torch.device) -> tuple[int, int]:
    """Splits and the slots of each, whole tiles, none without any: about 2 programs a processor in all."""
    tiles = ceil_div(slots, tile)
    each = ceil_div(tiles, max(2 * processors(device) // others, 1))
    return ceil_div(tiles, each), each * tile


def step_attention(
    qkv: Tensor,
    heads: Heads,
    turn: Turn | None,
    keys: Tensor,
    values: Tensor,
    slot: int | None,
    scale: float,
    cap: float | None,
) -> Tensor:
    """One new token a sequence, over all slots of its cache: qkv B 1 (N + 2K)H, keys and values B U K H -> B 1 N H."""
    batch, width, n = len(qkv), heads.head_dim, heads.n_heads
    require_runnable(qkv, keys, values)
    require_head(width)
    slots, kv_heads = keys.shape[1:3]
    tile = tile_of(width, max(keys.element_size(), qkv.element_size()))
    splits, span = splits_of(slots, tile, batch * kv_heads, qkv.device)
    part = torch.empty(batch, n, splits, width, device=qkv.device, dtype=torch.float32)
    lse = torch.empty(batch, n, splits, device=qkv.device, dtype=torch.float32)
    out = qkv.new_empty(batch, 1, n, width)
    cos, sin, pairs, _ = turn_arguments(turn, qkv)
    (q_norm, *q_how), (k_norm, *k_how), (v_norm, *v_how) = (
        norm_arguments(norm, qkv) for norm in (heads.q_norm, heads.k_norm, heads.v_norm)
    )
    group, padded = n // kv_heads, power_of_2(width)
    rows = max(power_of_2(group), 16)
    _read[(splits, kv_heads, batch)](
        qkv, keys, values, part, lse, cos, sin, pairs, *q_how, *k_how, *v_how, *score_factors(scale, cap),
        slots, -1 if slot is None else slot, span, n, group, first_value(heads),
        qkv.stride(0), *keys.stride()[:3], *values.stride()[:3],
        H=width, H_PAD=padded, G_PAD=rows, TILE=tile, Q_NORM=q_norm, K_NORM=k_norm, V_NORM=v_norm,
        TURN=turn is not None, OWNS=slot is not None, CAPPED=cap is not None,
        num_warps=4 if rows * padded <= 8192 else 8, num_stages=3, launch_pdl=OVERLAP.value,
    )  # fmt: skip
    _add[(batch * n, ceil_div(padded, 64))](
        part, lse, out, splits, H=width, SPLITS=16, BLOCK=64, num_warps=4, launch_pdl=OVERLAP.value
    )
    return out
