"""The token table at both ends: rows looked up and scaled, and logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.softcap import soft_cap


class Embedding(Declared):
    """Token ids to the residual stream."""

    table: Tensor  # V D

    def __init__(self, block: blocks.Embedding, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.scale = block.d_model**0.5 if block.scaled else 1.0

    def forward(self, ids: Tensor) -> Tensor:
        scale = self.table.new_full((), self.scale)  # rounded to the weights' format, as the checkpoints were trained
        return F.embedding(ids, self.table) * scale  # B T D


class Head(Declared):
    """The residual stream to logits."""

    table: Tensor  # V D

    def __init__(self, block: blocks.Head, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.cap = soft_cap(block.softcap)

    def forward(self, x: Tensor) -> Tensor:
        return self.cap(project(x, self.table))  # B R V
