"""Feed-forward: down(act(gate(x)) * up(x)), or down(act(up(x)))."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import NormalDist

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


class MLP(Declared):
    """GeGLU and its kin, and the plain MLP; a bias that is not there is None."""

    block: blocks.MLP
    gate: Tensor  # F D
    up: Tensor  # F D
    down: Tensor  # D F

    def __init__(self, block: blocks.MLP, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.activation = ACTIVATIONS[block.activation]
        self.widen = self._gated if block.gated else self._plain
        self.thin = unchanged if block.sparsity is None else partial(sparse, quantile=quantile(block.sparsity))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        return biased(project(self.widen(x), self.down), self, "down")  # B T D

    def _gated(self, x: Tensor) -> Tensor:
        gate = self.thin(biased(project(x, self.gate), self, "gate"))
        return self.activation(gate) * biased(project(x, self.up), self, "up")  # B T F

    def _plain(self, x: Tensor) -> Tensor:
        return self.activation(biased(project(x, self.up), self, "up"))  # B T F


def biased(x: Tensor, module: Declared, name: str) -> Tensor:
    """x plus the module's bias of that name, where it has one."""
    bias = getattr(module, f"{name}_bias", None)
    return x if bias is None else x + bias


def unchanged(x: Tensor) -> Tensor:
    """x itself."""
    return x


def sparse(x: Tensor, quantile: float) -> Tensor:
    """relu(x - mean - deviation * quantile) over the last axis: all but the largest become 0."""
    deviation, mean = torch.std_mean(x, -1, correction=0, keepdim=True)
    return F.relu(x - (mean + deviation * x.new_full((), quantile)))


def quantile(share: float) -> float:
    """The point below which so large a share of a normal distribution lies."""
    return NormalDist().inv_cdf(share)
