"""Learned absolute positions, added to the stream before the layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from archlab.errors import ArchlabError
from archlab.nn.declare import Declared
from archlab.nn.step import Step


class PositionEmbedding(Declared):
    """x plus the rows of its positions; with a cache they go on from those that have gone by."""

    table: Tensor  # Z D

    def forward(self, x: Tensor, step: Step) -> Tensor:
        if step.context > self.table.shape[0]:
            raise ArchlabError(f"{step.context} tokens need as many positions, and the table has {len(self.table)}")
        return x + F.embedding(step.positions, self.table)  # B T D
