"""The two ends of a vision tower: pixels to patches, and patches to tokens of the decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.mlp import biased, unchanged
from archlab.nn.norm import rms_norm, unit_rms
from archlab.rows import Weight


class Patches(Declared):
    """Pixels I 3 H W to patches I P D, row by row of the image, each with its position."""

    block: blocks.Patches
    patch: Tensor  # D C I O
    position: Tensor  # P D, or 2 Z D: columns, then rows

    def __init__(self, block: blocks.Patches, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.place = self._by_patch if block.positions is None else self._by_axis
        self.signed = stretched if block.stretch else unchanged

    def forward(self, pixels: Tensor) -> Tensor:
        size = self.block.patch_size
        cut = self.signed(pixels).to(self.patch.dtype).unflatten(3, (-1, size)).unflatten(2, (-1, size))  # I 3 h p w p
        squares = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # I P C*I*O
        return biased(F.linear(squares, self.patch.flatten(1)), self, "patch") + self.place()

    def _by_patch(self) -> Tensor:
        return self.position

    def _by_axis(self) -> Tensor:
        columns, rows = self.position[:, : self.block.side].unbind(0)
        return (rows[:, None] + columns).flatten(0, 1)


def stretched(pixels: Tensor) -> Tensor:
    """0 to 1 as -1 to 1."""
    return 2 * (pixels - 0.5)


class Projector(Declared):
    """Patches I P D pooled over squares, scaled, standardized, normed, and projected to tokens I U O."""

    block: blocks.Projector
    gain: Tensor  # D
    project: Tensor  # O D
    std_bias: Tensor  # D
    std_scale: Tensor  # D

    def __init__(self, block: blocks.Projector, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)
        norms: dict[str, Callable[[Tensor], Tensor]] = {"none": unchanged, "gain": self._gained, "plain": self._plain}
        self.norm = norms[block.norm]
        self.level = self._standardized if block.standardize else unchanged
        self.scale = block.d_model**0.5 if block.scaled else 1.0

    def initial(self, weight: Weight) -> float | Tensor:
        return 1.0 if weight.name == "std_scale" else super().initial(weight)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.level(self._pooled(x).float() * self.scale)  # sqrt(D) may leave the range of fp16
        return biased(project(self.norm(pooled.to(x.dtype)), self.project), self, "project")  # I U O

    def _pooled(self, x: Tensor) -> Tensor:
        """The mean of each square of patches, squares row by row."""
        along, pool = self.block.side // self.block.pool, self.block.pool
        return x.unflatten(1, (along, pool, along, pool)).mean((2, 4)).flatten(1, 2)

    def _standardized(self, x: Tensor) -> Tensor:
        return (x - self.std_bias.float()) * self.std_scale.float()

    def _gained(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.gain, self.block.norm_eps, self.gain_offset)

    def _plain(self, x: Tensor) -> Tensor:
        return unit_rms(x, self.block.norm_eps).to(x.dtype)
