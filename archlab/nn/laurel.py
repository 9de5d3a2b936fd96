"""LAuReL: h + norm(right(left(h)))."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.norm import rms_norm
from archlab.nn.step import Step


class Laurel(Declared):
    """The low-rank branch; it keeps its own input."""

    block: blocks.Laurel
    left: Tensor  # J D
    right: Tensor  # D J
    norm: Tensor  # D

    def __init__(self, block: blocks.Laurel, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        low = project(project(x, self.left), self.right)
        return x + rms_norm(low, self.norm, self.block.norm_eps, self.gain_offset)
