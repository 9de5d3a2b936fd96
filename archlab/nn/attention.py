"""Self-attention: MHA, GQA or MQA, global or sliding. What a token sees is in the step's mask and in the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, merge, project
from archlab.nn.mlp import biased
from archlab.nn.norm import rms_norm, unit_rms
from archlab.nn.rope import rope_of, rotate, rotate_halves
from archlab.nn.softcap import soft_cap
from archlab.nn.step import Sight, Step


class Attention(Declared):
    """Query head h reads key/value head h // G. Keys are remembered after QK-norm and RoPE, values after their norm."""

    block: blocks.Attention
    q: Tensor  # N H D
    k: Tensor  # K H D
    v: Tensor  # K H D
    o: Tensor  # D N H
    q_norm: Tensor  # H
    k_norm: Tensor  # H
    owner = ""  # path of the layer whose keys and values this one reads (kv: shared); set by the stack

    def __init__(self, block: blocks.Attention, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)
        self.scale, self.cap, self.rope = block.scale, soft_cap(block.softcap), rope_of(block)
        self.sight = Sight(block.mask, block.window, block.ahead, block.image_blocks)
        self.rotate = rotate if block.rope_axes == 1 else rotate_halves
        self.keys_and_values = self._own if block.kv == "own" else self._shared
        self.widen = self._with_source if block.source == "merged" else self._alone

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q = self.turned(self.normed(biased(project(x, self.q), self, "q"), "q_norm"), step)  # B T N H
        k, v = self.keys_and_values(x, step)  # B U K H
        k, v, mask = self.widen(k, v, step.mask(self.sight), step)  # mask T U
        return biased(merge(attend(q, k, v, mask, self.scale, self.cap), self.o), self, "o")  # B T D

    def normed(self, x: Tensor, gain: str) -> Tensor:
        """x over its rms, times a gain; x where the block has no QK-norm."""
        return rms_norm(x, getattr(self, gain), self.block.norm_eps, self.gain_offset) if self.block.qk_norm else x

    def turned(self, x: Tensor, step: Step) -> Tensor:
        """x by RoPE, where the block has it."""
        return x if self.rope is None else self.rotate(x, step.angles(self.rope))

    def _own(self, x: Tensor, step: Step) -> tuple[Tensor, ...]:
        k = biased(project(x, self.k), self, "k")  # B T K H
        v = k if self.block.k_is_v else biased(project(x, self.v), self, "v")
        v = unit_rms(v, self.block.norm_eps).to(v.dtype) if self.block.v_norm else v
        k = self.turned(self.normed(k, "k_norm"), step)
        return step.remember(self.path, k=k, v=v) if self.block.causal else (k, v)

    def lend(self) -> None:
        """Later layers have no keys and values of their own and read this one's: they are kept for the whole pass."""
        self.keys_and_values = self._lent

    def _lent(self, x: Tensor, step: Step) -> tuple[Tensor, ...]:
        return step.lend(self.path, *self._own(x, step))

    def _shared(self, x: Tensor, step: Step) -> tuple[Tensor, ...]:
        return step.borrow(self.owner)

    def _alone(self, k: Tensor, v: Tensor, mask: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        return k, v, mask

    def _with_source(self, k: Tensor, v: Tensor, mask: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's output under the same projections, without RoPE, seen whole: one softmax over both."""
        if step.source is None:
            source_k, source_v = step.kept(self.path, "source_k", "source_v")
        else:
            fresh = self.normed(project(step.source, self.k), "k_norm"), project(step.source, self.v)
            source_k, source_v = step.keep(self.path, source_k=fresh[0], source_v=fresh[1])
        seen = torch.ones(*mask.shape[:-1], source_k.shape[1], dtype=torch.bool, device=mask.device)
        k, v = torch.cat((source_k.to(k.dtype), k), 1), torch.cat((source_v.to(v.dtype), v), 1)  # B (E U) K H
        return k, v, torch.cat((seen, mask), -1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, cap: Callable[[Tensor], Tensor]) -> Tensor:
    """Eager attention: q B T N H, k and v B U K H, mask T U or B 1 1 T U -> B T N H. K and V are never repeated."""
    new, kv_heads = q.shape[1], k.shape[2]
    q = q.unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # B K GT H
    scores = cap(q @ k.permute(0, 2, 3, 1) * scale)  # B K GT U
    scores = scores.unflatten(2, (-1, new)).masked_fill(~mask, float("-inf"))  # B K G T U
    p = scores.softmax(-1, dtype=torch.float32).to(q.dtype).flatten(2, 3)  # B K GT U
    a = (p @ v.transpose(1, 2)).unflatten(2, (-1, new))  # B K G T H
    return a.permute(0, 3, 1, 2, 4).flatten(2, 3)
