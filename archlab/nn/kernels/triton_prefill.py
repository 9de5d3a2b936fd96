"""Attention over a prompt: torch's bundled flash attention where it can, a kernel here for a cap, wide heads and fp32.

Both read the keys of a window only, and neither repeats keys for the queries of a group.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from archlab.nn.kernels.triton_decode import score_factors, scores
from archlab.nn.kernels.triton_launch import (
    INTERPRETED,
    ceil_div,
    power_of_2,
    require_head,
    require_runnable,
)

FLASH_WIDEST = 256
LONG = 2048
"""Tokens from which tiles are chosen anew."""


def flash_takes(head_dim: int, dtype: torch.dtype, cap: float | None) -> bool:
    """Whether torch's flash attention 2 can: it has no cap, no heads beyond 256 (in eights) and no fp32."""
    return cap is None and head_dim <= FLASH_WIDEST and head_dim % 8 == 0 and dtype != torch.float32


def flash(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float) -> Tensor:
    """torch's bundled flash attention 2, with the window that SDPA does not pass on: q B T N H, k and v B T K H."""
    tokens = q.shape[1]
    sides = {} if window is None or window >= tokens else {"window_size_left": window - 1, "window_size_right": 0}
    made: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, None, None, tokens, tokens, 0.0, True, False, scale=scale, **sides
    )[0]
    return made


TILES = {
    64: ((128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 4, 3)),
    128: ((128, 128, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)),
    256: ((128, 64, 8, 2), (128, 32, 8, 3), (64, 64, 8, 2)),
    512: ((64, 32, 8, 2), (32, 32, 4, 2)),
}
"""Queries, keys, warps and stages to try, by the padded width of a head: what shared memory and registers hold."""

FP32_TILES = {
    64: ((64, 32, 8, 2), (32, 32, 4, 2)),
    128: ((32, 32, 4, 2),),
    256: ((16, 16, 4, 1),),
    512: ((16, 16, 4, 1),),
}


def _config(queries: int, keys: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"QUERIES": queries, "KEYS": keys}, num_warps=warps, num_stages=stages)


def _configs() -> list[triton.Config]:
    """Every tile that a head tries; one and no trial in the interpreter."""
    if INTERPRETED:
        return [_config(32, 16, 4, 1)]
    tiles = {tile for table in (TILES, FP32_TILES) for row in table.values() for tile in row}
    return [_config(*tile) for tile in sorted(tiles)]


def _fitting(configs: list[triton.Config], named: dict[str, Any], **kind: Any) -> list[triton.Config]:
    """Those of a head's width and dtype."""
    table = FP32_TILES if named["q"].dtype == torch.float32 else TILES
    return [_config(*tile) for tile in table[max(kind["H_PAD"], 64)]]


@triton.jit
def _over(
    low: tl.tensor, high: tl.tensor, q: tl.tensor, keys: tl.tensor, values: tl.tensor, k_row: tl.tensor,
    v_row: tl.tensor, T: tl.tensor, W: tl.tensor,
    first: tl.tensor, most: tl.tensor, total: tl.tensor, made: tl.tensor, inner: float, outer: float,
    H: tl.constexpr, H_PAD: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    CAPPED: tl.constexpr, WINDOWED: tl.constexpr, MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Keys low to high for the queries from `first` on; where all of them see all of these, no mask is made."""
    d = tl.arange(0, H_PAD)
    i = first + tl.arange(0, QUERIES)
    k_at = tl.arange(0, KEYS)[:, None] * k_row + d[None, :]
    v_at = tl.arange(0, KEYS)[:, None] * v_row + d[None, :]
    keys += low * tl.cast(k_row, tl.int64)
    values += low * tl.cast(v_row, tl.int64)
    for start in range(low, high, KEYS):
        j = start + tl.arange(0, KEYS)
        there = (d < H)[None, :]
        if MASKED:
            there = there & (j < T)[:, None]
        k = tl.load(keys + k_at, mask=there, other=0.0)
        s = scores(tl.dot(q, tl.trans(k), input_precision="tf32x3"), inner, outer, CAPPED)
        if MASKED:
            seen = j[None, :] <= i[:, None]
            if WINDOWED:
                seen = seen & (j[None, :] > i[:, None] - W)
            s = tl.where(seen, s, -1.0e30)  # not -inf: who sees none of these sums what later fades to 0
        higher = tl.maximum(most, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        fade = tl.exp2(most - higher)
        most = higher
        total = total * fade + tl.sum(p, 1)
        v = tl.load(values + v_at, mask=there, other=0.0)
        made = tl.dot(p.to(v.dtype), v, made * fade[:, None], input_precision="tf32x3")
        keys += KEYS * k_row
        values += KEYS * v_row
    return most, total, made


@triton.jit
def _causal(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, out: tl.tensor, inner: float, outer: float, T: tl.tensor, W: tl.tensor,
    N: tl.tensor, G: tl.tensor,
    q_b: tl.tensor, q_t: tl.tensor, q_n: tl.tensor, k_b: tl.tensor, k_t: tl.tensor, k_n: tl.tensor, v_b: tl.tensor,
    v_t: tl.tensor, v_n: tl.tensor,
    H: tl.constexpr, H_PAD: tl.constexpr, CAPPED: tl.constexpr, WINDOWED: tl.constexpr, FROM_LONG: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """QUERIES tokens of a head: the edge of the window, what all of them see, the diagonal. Late tokens come first."""
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * QUERIES
    n = tl.program_id(1) % N
    b = (tl.program_id(1) // N).to(tl.int64)
    d = tl.arange(0, H_PAD)
    i = first + tl.arange(0, QUERIES)
    mine = (i < T)[:, None] & (d < H)[None, :]
    start = q + b * q_b + n * q_n + first * tl.cast(q_t, tl.int64)
    rows = tl.load(start + tl.arange(0, QUERIES)[:, None] * q_t + d[None, :], mask=mine, other=0.0)
    keys = k + b * k_b + n // G * k_n
    values = v + b * v_b + n // G * v_n
    low = 0
    whole_low = 0
    high = tl.minimum(first + QUERIES, T)
    whole_high = (first + 1) // KEYS * KEYS
    if WINDOWED:
        low = tl.maximum(first - W + 1, 0) // KEYS * KEYS
        whole_low = tl.minimum((tl.maximum(first + QUERIES - W, 0) + KEYS - 1) // KEYS * KEYS, high)
        whole_high = tl.maximum(whole_low, whole_high)
    most = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    made = tl.zeros((QUERIES, H_PAD), tl.float32)
    if WINDOWED:
        most, total, made = _over(
            low, whole_low, rows, keys, values, k_t, v_t, T, W, first, most, total, made, inner, outer,
            H, H_PAD, QUERIES, KEYS, CAPPED, WINDOWED, True,
        )  # fmt: skip
    most, total, made = _over(
        whole_low, whole_high, rows, keys, values, k_t, v_t, T, W, first, most, total, made, inner, outer,
        H, H_PAD, QUERIES, KEYS, CAPPED, WINDOWED, False,
    )  # fmt: skip
    most, total, made = _over(
        whole_high, high, rows, keys, values, k_t, v_t, T, W, first, most, total, made, inner, outer,
        H, H_PAD, QUERIES, KEYS, CAPPED, WINDOWED, True,
    )  # fmt: skip
    at = out + ((b * T + i[:, None]) * N + n) * H + d[None, :]
    tl.store(at, (made / total[:, None]).to(out.dtype.element_ty), mask=mine)


_tuned = triton.autotune(
    configs=_configs(),
    key=["H", "CAPPED", "WINDOWED", "FROM_LONG"],
    prune_configs_by={"early_config_prune": _fitting},
)(_causal)


def tiled(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, cap: float | None) -> Tensor:
    """The kernel here: q B T N H, k and v B T K H -> B T N H."""
    require_runnable(q, k, v)
    batch, tokens, n, width = q.shape
    require_head(width)
    out = torch.empty(q.shape, device=q.device, dtype=q.dtype)
    windowed = window is not None and window < tokens
    _tuned[lambda tile: (ceil_div(tokens, tile["QUERIES"]), batch * n)](
        q, k, v, out, *score_factors(scale, cap), tokens, window if windowed else tokens, n, n // k.shape[2],
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        H=width, H_PAD=max(power_of_2(width), 16), CAPPED=cap is not None, WINDOWED=windowed,
        FROM_LONG=tokens >= LONG,
    )  # fmt: skip
    return out


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, cap: float | None) -> Tensor:
    """T tokens, nothing before them; each sees itself and those before it, of a window only the last W -> B T N H."""
    if not INTERPRETED and flash_takes(q.shape[-1], q.dtype, cap):
        return flash(q, k, v, window, scale)
    return tiled(q, k, v, window, scale, cap)
