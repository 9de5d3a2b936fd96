"""Soft-capping of attention scores and logits. Gemma 2 report, section 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


def soft_cap(limit: float | None) -> Callable[[Tensor], Tensor]:
    """x -> limit * tanh(x / limit), in the format of x; without a limit, x."""
    return uncapped if limit is None else partial(capped, limit=limit)


def capped(x: Tensor, limit: float) -> Tensor:
    """limit * tanh(x / limit)."""
    return limit * torch.tanh(x / limit)


def uncapped(x: Tensor) -> Tensor:
    """x itself."""
    return x
