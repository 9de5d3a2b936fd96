"""Self-attention: MHA, GQA or MQA, global or sliding. The window is in the mask and in the cache, not here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, merge, project
from archlab.nn.norm import rms_norm
from archlab.nn.rope import rotate
from archlab.nn.softcap import soft_cap
from archlab.nn.step import Step


class Attention(Declared):
    """Query head h reads key/value head h // G. Keys are remembered after QK-norm and RoPE, values raw."""

    block: blocks.Attention
    q: Tensor  # N H D
    k: Tensor  # K H D
    v: Tensor  # K H D
    o: Tensor  # D N H
    q_norm: Tensor  # H
    k_norm: Tensor  # H

    def __init__(self, block: blocks.Attention, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)
        self.qk_norm = self._normed if block.qk_norm else self._unnormed
        self.scale, self.cap = block.scale, soft_cap(block.softcap)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = project(x, self.q), project(x, self.k), project(x, self.v)  # B T N H, B T K H, B T K H
        q, k = self.qk_norm(q, k)
        angles = step.angles(self.block.head_dim, self.block.rope_theta, self.block.rope_factor)
        q, k = rotate(q, angles), rotate(k, angles)
        k, v = step.remember(self.path, k=k, v=v)  # B U K H
        a = attend(q, k, v, step.mask(self.block.window), self.scale, self.cap)  # B T N H
        return merge(a, self.o)  # B T D

    def _normed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        eps, offset = self.block.norm_eps, self.gain_offset
        return rms_norm(q, self.q_norm, eps, offset), rms_norm(k, self.k_norm, eps, offset)

    def _unnormed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q, k


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, cap: Callable[[Tensor], Tensor]) -> Tensor:
    """Eager attention: q B T N H, k and v B U K H, mask T U -> B T N H. K and V are never repeated."""
    new, kv_heads = q.shape[1], k.shape[2]
    q = q.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # B K GT H
    scores = cap(q @ k.permute(0, 2, 3, 1) * scale)  # B K GT U
    scores = scores.unflatten(2, (-1, new)).masked_fill(~mask, float("-inf"))  # B K G T U
    p = scores.softmax(-1, dtype=torch.float32).to(q.dtype).flatten(2, 3)  # B K GT U
    a = (p @ v.transpose(1, 2)).unflatten(2, (-1, new))  # B K G T H
    return a.permute(0, 3, 1, 2, 4).flatten(2, 3)
