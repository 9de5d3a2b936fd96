"""Rotary position embedding, half-split: dimension i turns with i + H/2. Interpolation divides the frequencies;
where an original context is told, only those that turn few times in it (Llama 3.1).

Where only a share of the head turns there are two conventions. "turned": RoPE as if the head ended there, the rest of
it passes (RecurrentGemma). "head": the pairs and exponents of the whole head, of which the fastest share turns and the
rest stands still (Gemma 4, "proportional").

Patches of an image stand in rows: with a `side`, the column of a patch turns the first half of a head, and its row the
second, each half as a head of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from archlab import blocks

Angles = tuple[Tensor, Tensor]
"""cos and sin, T 1 P for P pairs; T 1 2 P for the pairs of each half, of patches."""


@dataclass(frozen=True)
class Rope:
    """What the angles of a layer depend on, its positions apart."""

    head_dim: int
    theta: float
    factor: float
    fraction: float
    spread: str
    side: int | None = None
    original: int | None = None
    slow: float = 1.0
    fast: float = 4.0

    @property
    def turned(self) -> int:
        """Dimensions of the head that are turned, still pairs included."""
        return int(self.head_dim * self.fraction) if self.spread == "turned" else self.head_dim

    def frequencies(self, device: torch.device) -> Tensor:
        """Turns a position, P."""
        exponents = torch.arange(0, self.turned, 2, device=device).float() / self.turned
        turns = self.interpolated(1.0 / self.theta**exponents)
        moving = int(self.fraction * self.head_dim // 2)
        return turns if self.spread == "turned" else turns * (torch.arange(len(turns), device=device) < moving)

    def interpolated(self, frequencies: Tensor) -> Tensor:
        """Divided by the factor: all, or, where the original context is told, the slow ones (Llama 3.1)."""
        if self.original is None:
            return frequencies / self.factor
        turns = frequencies * self.original / (2 * math.pi)  # over the original context
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / self.factor)

    def angles(self, positions: Tensor, dtype: torch.dtype) -> Angles:
        """cos and sin of position * frequency, computed in fp32 and then cast."""
        if self.side is None:
            at = positions[:, None, None]  # T 1 1
        else:
            at = torch.stack((positions % self.side, positions // self.side), -1)[:, None, :, None]  # T 1 2 1
        turns = at.float() * self.frequencies(positions.device)  # T 1 P, T 1 2 P
        return turns.cos().to(dtype), turns.sin().to(dtype)


def rope_of(block: blocks.Attention) -> Rope | None:
    """What a block says of its rotation; None where it has none."""
    if block.rope_theta is None:
        return None
    side = None if block.rope_axes == 1 else block.side
    width = block.head_dim // block.rope_axes
    return Rope(
        width, block.rope_theta, block.rope_factor, block.rope_fraction, block.rope_spread, side,
        block.rope_original, block.rope_slow, block.rope_fast,
    )  # fmt: skip


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """x B T N H, its first 2P dimensions turned."""
    cos, sin = angles
    pairs = cos.shape[-1]
    a, b, rest = x.split((pairs, pairs, x.shape[-1] - 2 * pairs), -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


def rotate_halves(x: Tensor, angles: Angles) -> Tensor:
    """x B T N H, each half of it turned by an axis of its own."""
    return rotate(x.unflatten(-1, (2, -1)), angles).flatten(-2)  # B T N 2 H/2
