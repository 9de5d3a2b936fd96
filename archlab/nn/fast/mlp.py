"""The gated feed-forward from packed weights."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.fast.pack import pack
from archlab.nn.kernels import Kernels, Norm
from archlab.nn.mlp import MLP
from archlab.nn.step import Step


class FastMLP(MLP):
    """down(act(gate(x)) * up(x)), gate and up as one product."""

    packed: Tensor  # 2F D

    def __init__(self, block: blocks.MLP, device: torch.device | str, dtype: torch.dtype, kernels: Kernels):
        super().__init__(block, device, dtype)
        self.kernels = kernels

    @staticmethod
    def takes(block: blocks.MLP) -> bool:
        """Whether the fast way covers it."""
        return block.gated and not block.bias and block.sparsity is None

    def plan(self) -> None:
        """Packs gate and up."""
        self.packed = pack(self, "gate", "up")

    def forward(self, x: Tensor, step: Step) -> Tensor:
        return self.after(None, x, step)

    def after(self, norm: Norm | None, x: Tensor, step: Step) -> Tensor:
        """block(norm(x))."""
        h = self.kernels.gated_linear(x, norm, self.packed, self.block.activation)  # B T F
        return self.kernels.norm_linear(h, None, self.down.detach())
