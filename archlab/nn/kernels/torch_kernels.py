"""The fast decoder's operations in plain torch: what a CPU runs, and what the Triton kernels are held against.

Attention never makes a mask of T x S: a step sees all of its cache, a causal pass goes through SDPA's own causal
kernel, and a windowed one is cut into blocks of W tokens, each of which sees itself and the block before it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab.nn.kernels import Heads, Norm, Turn
from archlab.nn.mlp import ACTIVATIONS
from archlab.nn.softcap import capped


def normed(x: Tensor, norm: Norm | None) -> Tensor:
    """x over its rms, times the gain, in fp32, then cast back."""
    return x if norm is None else _over_rms(x, norm.scale, norm.eps)


def _over_rms(x: Tensor, scale: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * scale. The root of the sum is a hypotenuse: four operations, where torch's own
    rms_norm runs nine on a CPU.
    """
    wide, width = x.float(), x.shape[-1]
    root = torch.hypot(torch.linalg.vector_norm(wide, dim=-1, keepdim=True), _floor(eps * width, x.device))
    unit = wide / root.mul_(_floor(1 / width, x.device))
    return (unit if scale is None else unit.mul_(scale)).to(x.dtype)


@cache
def _floor(square: float, device: torch.device) -> Tensor:
    """The root of a number, on the device."""
    with torch.inference_mode(False):
        return torch.tensor(square**0.5, device=device)


def norm_linear(x: Tensor, norm: Norm | None, weight: Tensor) -> Tensor:
    """norm(x) @ weight^T."""
    return F.linear(normed(x, norm), weight)


def gated_linear(x: Tensor, norm: Norm | None, weight: Tensor, activation: str) -> Tensor:
    """act(gate) * up."""
    gate, up = F.linear(normed(x, norm), weight).chunk(2, -1)  # B T F
    return ACTIVATIONS[activation](gate) * up


def add_norm(x: Tensor, y: Tensor, norm: Norm | None) -> Tensor:
    """x + norm(y)."""
    return x + normed(y, norm)


def split_heads(qkv: Tensor, heads: Heads, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries B T N H, keys and values B T K H, normed and turned; queries and keys together, which turn alike."""
    n, kv = heads.n_heads, heads.n_kv_heads
    rows = qkv.unflatten(-1, (-1, heads.head_dim))  # B T (N + 2K) H
    if not heads.owns_kv:
        none = rows[:, :, :0]
        return turned(normed(rows, heads.q_norm), turn), none, none
    both = rows[:, :, : n + kv]
    v = normed(rows[:, :, n : n + kv] if heads.k_is_v else rows[:, :, n + kv :], heads.v_norm)
    if heads.q_norm is not None:
        both = _over_rms(both, heads.scale, heads.q_norm.eps)
    q, k = turned(both, turn).split((n, kv), 2)
    return q, k, v


def turned(x: Tensor, turn: Turn | None) -> Tensor:
    """x B T N H, its first 2P dimensions turned: each times cos, and its partner in the other half times sin."""
    if turn is None:
        return x
    cos, sin = turn.whole  # T 1 2P
    if cos.shape[-1] < x.shape[-1]:
        moved, rest = x.split((cos.shape[-1], x.shape[-1] - cos.shape[-1]), -1)
        return torch.cat((turned(moved, turn), rest), -1)
    halves = x.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    return torch.addcmul(x * cos, halves, sin)


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
    """One new token a sequence, over all slots of its cache."""
    q, k, v = split_heads(qkv, heads, turn)
    if slot is not None:
        keys.select(1, slot).copy_(k.select(1, 0))
        values.select(1, slot).copy_(v.select(1, 0))
    grouped = q.view(len(q), heads.n_kv_heads, -1, heads.head_dim)  # B K G H: the groups stand where tokens do
    return unmasked(grouped, keys, values, scale, cap).view(q.shape)


def unmasked(q: Tensor, keys: Tensor, values: Tensor, scale: float, cap: float | None) -> Tensor:
    """Every query sees every key: q B K G H, keys and values B U K H -> B K G H."""
    k, v = keys.to(q.dtype).transpose(1, 2), values.to(q.dtype).transpose(1, 2)  # B K U H
    if cap is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    return torch.stack([_step_capped(*each, scale, cap) for each in zip(q, k, v, strict=True)])


def _step_capped(q: Tensor, k: Tensor, v: Tensor, scale: float, cap: float) -> Tensor:
    """One sequence, K G H over K U H: a product of all sequences at once would copy the cache, heads being its rows."""
    scores = capped(torch.bmm(k, q.transpose(1, 2)).transpose(1, 2) * scale, cap)  # K G U
    return torch.bmm(scores.softmax(-1, dtype=torch.float32).to(q.dtype), v)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, cap: float | None) -> Tensor:
    """T tokens with nothing before them: all of the past, or blocks of W tokens and the block before."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # B N T H, B K T H
    if window is None or window >= q.shape[2]:
        made = _by_group(q, k, v, scale, cap)
    else:
        made = _windowed(q, k, v, window, scale, cap)
    return made.transpose(1, 2)  # B T N H


def _by_group(q: Tensor, k: Tensor, v: Tensor, scale: float, cap: float | None) -> Tensor:
    """A causal pass for each query of a group: keys and values are never repeated."""
    groups = q.unflatten(1, (k.shape[1], -1)).unbind(2)  # G of B K T H
    return torch.stack([_causal(g, k, v, scale, cap) for g in groups], 2).flatten(1, 2)


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float, cap: float | None) -> Tensor:
    if cap is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    return _capped(q, k, v, seen, scale, cap)


def _capped(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, cap: float) -> Tensor:
    scores = capped(q @ k.transpose(-1, -2) * scale, cap).masked_fill(~seen, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def _windowed(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float, cap: float | None) -> Tensor:
    """Token i sees i - W + 1 to i. In blocks of W tokens: the block itself, causally, and the end of the one before."""
    tokens = q.shape[2]
    whole = -(-tokens // window) * window
    q, k, v = (F.pad(x, (0, 0, 0, whole - tokens)) for x in (q, k, v))
    here = torch.arange(window, device=q.device)
    ago = here[:, None] + window - torch.arange(2 * window, device=q.device)  # W 2W
    seen = (ago >= 0) & (ago < window)
    q, k, v = (x.unflatten(2, (-1, window)) for x in (q, k, v))  # B N C W H
    first = _by_group(q[:, :, 0], k[:, :, 0], v[:, :, 0], scale, cap)[:, :, None]
    keys, values = (torch.cat((x[:, :, :-1], x[:, :, 1:]), 3) for x in (k, v))  # B K C-1 2W H
    groups = q[:, :, 1:].unflatten(1, (k.shape[1], -1)).unbind(2)  # G of B K C-1 W H
    rest = torch.stack([_masked(g, keys, values, seen, scale, cap) for g in groups], 2).flatten(1, 2)
    return torch.cat((first, rest), 2).flatten(2, 3)[:, :, :tokens]


def _masked(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, cap: float | None) -> Tensor:
    """Blocks B K C W H over their keys B K C 2W H."""
    if cap is not None:
        return _capped(q, k, v, seen, scale, cap)
    batch = q.shape[:2]
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # BK C . H: SDPA takes one axis of heads
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale).unflatten(0, batch)
