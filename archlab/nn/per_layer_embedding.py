"""Per-layer embeddings: made once a pass for all layers, and read by each through a gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.norm import rms_norm
from archlab.nn.step import Step


class PerLayerEmbedding(Declared):
    """(norm(project(x) / sqrt(D)) + row * sqrt(P)) / sqrt(2); without a table, norm(project(x) / sqrt(D))."""

    block: blocks.PerLayerEmbedding
    table: Tensor  # Z L P
    project: Tensor  # L P D
    norm: Tensor  # P

    def __init__(self, block: blocks.PerLayerEmbedding, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)
        self.join = self._alone if block.table_rows is None else self._with_rows

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Leaves the stream as it is, and the layers' own embeddings (B T L P) in the step."""
        scaled = project(x, self.project) * x.new_full((), self.block.d_model**-0.5)
        normed = rms_norm(scaled, self.norm, self.block.norm_eps, self.gain_offset)
        step.per_layer = self.join(normed, step.ids)
        return x

    def _with_rows(self, normed: Tensor, ids: Tensor) -> Tensor:
        inside = ids * (ids < self.table.shape[0])  # beyond the table: row 0
        rows = F.embedding(inside, self.table.flatten(1)).unflatten(-1, self.table.shape[1:])  # B T L P
        scale = rows.new_full((), self.block.width**0.5)
        return (normed + rows * scale) * rows.new_full((), 2**-0.5)

    def _alone(self, normed: Tensor, ids: Tensor) -> Tensor:
        return normed


class PerLayerInput(Declared):
    """norm(project(gelu(gate(x)) * own embedding))."""

    block: blocks.PerLayerInput
    gate: Tensor  # P D
    project: Tensor  # D P
    norm: Tensor  # D
    index = 0  # of the layer; set by the stack

    def __init__(self, block: blocks.PerLayerInput, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        gated = F.gelu(project(x, self.gate), approximate="tanh") * step.per_layer[:, :, self.index]
        return rms_norm(project(gated, self.project), self.norm, self.block.norm_eps, self.gain_offset)
