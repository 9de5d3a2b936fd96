"""Cross-attention: queries from the decoder, keys and values from the encoder's output, computed once for a source."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.attention import attend
from archlab.nn.declare import Declared, merge, project
from archlab.nn.softcap import soft_cap
from archlab.nn.step import Step


class CrossAttention(Declared):
    """Every token sees the whole source; no RoPE."""

    block: blocks.CrossAttention
    q: Tensor  # N H D
    k: Tensor  # K H I
    v: Tensor  # K H I
    o: Tensor  # D N H

    def __init__(self, block: blocks.CrossAttention, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.scale, self.cap = block.scale, soft_cap(block.softcap)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        if step.source is None:
            k, v = step.kept(self.path, "k", "v")
        else:
            k, v = step.keep(self.path, k=project(step.source, self.k), v=project(step.source, self.v))  # B E K H
        q = project(x, self.q)  # B T N H
        seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
        return merge(attend(q, k.to(q.dtype), v.to(q.dtype), seen, self.scale, self.cap), self.o)  # B T D
