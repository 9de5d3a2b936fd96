"""What all layers share in one forward pass: where the new tokens stand, which keys they see, what is remembered."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from archlab.blocks.masks import keys_seen
from archlab.nn.cache import Cache, NoCache
from archlab.nn.rope import Angles, angles_of


class Step:
    """T new tokens that end at context S. Masks and angles are made once for each kind of layer."""

    def __init__(self, new: int, cache: Cache | NoCache, device: torch.device, dtype: torch.dtype) -> None:
        self.new, self.context, self.cache, self.dtype = new, cache.position + new, cache, dtype
        self.positions = torch.arange(cache.position, self.context, device=device)
        self._masks: dict[int | None, Tensor] = {}
        self._angles: dict[tuple[int, float, float], Angles] = {}

    def mask(self, window: int | None) -> Tensor:
        """True where token i sees key j, i - W < j <= i: T U."""
        if window not in self._masks:
            first = self.context - keys_seen(self.new, self.context, window)
            keys = torch.arange(first, self.context, device=self.positions.device)
            ago = self.positions[:, None] - keys  # T U
            self._masks[window] = ago >= 0 if window is None else (ago >= 0) & (ago < window)
        return self._masks[window]

    def angles(self, head_dim: int, theta: float, factor: float) -> Angles:
        """What RoPE turns the new tokens by."""
        key = (head_dim, theta, factor)
        if key not in self._angles:
            self._angles[key] = angles_of(self.positions, *key, self.dtype)
        return self._angles[key]

    def remember(self, path: str, **fresh: Tensor) -> Iterable[Tensor]:
        """Writes the new tokens' states (B T ...) of the block at `path`; returns what it sees of each (B U ...)."""
        return [self.cache.append(path, name, tensor) for name, tensor in fresh.items()]
