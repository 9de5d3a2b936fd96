"""Gated feed-forward: down(act(gate(x)) * up(x))."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.step import Step

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
}


class GatedMLP(Declared):
    """GeGLU and its kin, without biases."""

    gate: Tensor  # F D
    up: Tensor  # F D
    down: Tensor  # D F

    def __init__(self, block: blocks.GatedMLP, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.activation = ACTIVATIONS[block.activation]

    def forward(self, x: Tensor, step: Step) -> Tensor:
        h = self.activation(project(x, self.gate)) * project(x, self.up)  # B T F
        return project(h, self.down)  # B T D
