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

    block: blocks.Embedding
    table: Tensor  # V D
    end_of_image: Tensor  # D

    def __init__(self, block: blocks.Embedding, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        scale = block.d_model**0.5 if block.scaled else 1.0
        self.scale = torch.tensor(scale, dtype=torch.bfloat16).item() if block.scale_format == "bf16" else scale
        self.end = -1 if block.end_of_image is None else block.end_of_image
        self.look_up = self._rows if block.end_of_image is None else self._rows_and_end_of_image

    def forward(self, ids: Tensor) -> Tensor:
        return self.look_up(ids)  # B T D

    def _rows(self, ids: Tensor) -> Tensor:
        scale = self.table.new_full((), self.scale)  # rounded to the weights' format, as the checkpoints were trained
        return F.embedding(ids, self.table) * scale

    def _rows_and_end_of_image(self, ids: Tensor) -> Tensor:
        at_end = ids.eq(self.end).unsqueeze(-1)  # B T 1
        return torch.where(at_end, self.end_of_image, self._rows(ids))


class Head(Declared):
    """The residual stream to logits."""

    table: Tensor  # V D

    def __init__(self, block: blocks.Head, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.cap = soft_cap(block.softcap)

    def forward(self, x: Tensor) -> Tensor:
        return self.cap(project(x, self.table))  # B R V
