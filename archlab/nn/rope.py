"""Rotary position embedding, half-split: dimension i turns with i + H/2. Interpolation divides the frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

Angles = tuple[Tensor, Tensor]
"""cos and sin, T 1 H/2."""


def angles_of(positions: Tensor, head_dim: int, theta: float, factor: float, dtype: torch.dtype) -> Angles:
    """cos and sin of position * theta^(-2i/H) / factor, computed in fp32 and then cast."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    turns = positions.float()[:, None, None] * (1.0 / theta**exponents / factor)  # T 1 H/2
    return turns.cos().to(dtype), turns.sin().to(dtype)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """x B T N H, turned."""
    cos, sin = angles
    a, b = x.chunk(2, -1)  # B T N H/2
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
