"""What the layers of a stack share in one pass: where the new tokens stand, what they see, what is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from archlab.blocks.masks import keys_seen
from archlab.nn.cache import Cache, NoCache
from archlab.nn.rope import Angles, Rope


@dataclass(frozen=True)
class Sight:
    """Which keys a token sees: the mask's name, tokens behind (itself included; None: all) and ahead, image blocks."""

    mask: str = "causal"
    window: int | None = None
    ahead: int | None = None
    image_blocks: bool = False


class Step:
    """T new tokens that end at context S. Masks and angles are made once for each kind of layer.

    prefix   leading tokens, all of them new, that see each other (mask: prefix)
    images   B T: which image a new token belongs to, from 1; 0 for text. None without images
    source   B E J: the encoder's output where it is new; None once it is remembered
    """

    ids: Tensor  # B T: what a table of per-layer embeddings is read with; set by the model
    per_layer: Tensor  # B T L P: each layer's own embedding of the new tokens; set before the layers

    def __init__(
        self,
        new: int,
        cache: Cache | NoCache,
        device: torch.device,
        dtype: torch.dtype,
        prefix: int = 0,
        images: Tensor | None = None,
        source: Tensor | None = None,
    ) -> None:
        self.new, self.context, self.cache, self.dtype = new, cache.position + new, cache, dtype
        self.prefix, self.images, self.source = prefix, images, source
        self.positions = torch.arange(cache.position, self.context, device=device)
        self._masks: dict[Sight, Tensor] = {}
        self._angles: dict[Rope, Angles] = {}
        self._lent: dict[str, tuple[Tensor, ...]] = {}

    @property
    def first(self) -> bool:
        """Whether nothing went before."""
        return self.cache.position == 0

    @property
    def plain(self) -> bool:
        """One token or the first ones, of which causality and windows alone hide keys: no mask is needed."""
        return (self.new == 1 or self.first) and not self.prefix and self.images is None

    def mask(self, sight: Sight) -> Tensor:
        """True where a new token sees a key: T U, or B 1 1 T U where images differ between sequences."""
        if sight not in self._masks:
            self._masks[sight] = self._two_sided(sight) if sight.mask == "bidirectional" else self._causal(sight)
        return self._masks[sight]

    def _two_sided(self, sight: Sight) -> Tensor:
        ago = self.positions[:, None] - self.positions  # T T
        if sight.window is None:
            return torch.ones_like(ago, dtype=torch.bool)
        ahead = sight.window - 1 if sight.ahead is None else sight.ahead
        return (ago < sight.window) & (ago >= -ahead)

    def _causal(self, sight: Sight) -> Tensor:
        """i - W < j <= i; besides, all of a prefix within it, windows or not, and j > i within one image."""
        first = self.context - keys_seen(self.new, self.context, sight.window)
        keys = torch.arange(first, self.context, device=self.positions.device)
        ago = self.positions[:, None] - keys  # T U
        seen = ago >= 0 if sight.window is None else (ago >= 0) & (ago < sight.window)
        if sight.mask == "prefix" and self.prefix:
            seen = seen | ((self.positions[:, None] < self.prefix) & (keys < self.prefix))
        if sight.image_blocks and self.images is not None:
            past = self.images.new_zeros(len(self.images), len(keys) - self.new)
            among = torch.cat((past, self.images), 1)  # B U
            same = (self.images[:, :, None] == among[:, None]) & (self.images > 0)[:, :, None]  # B T U
            seen = (seen | ((ago < 0) & same))[:, None, None]  # B 1 1 T U
        return seen

    def angles(self, rope: Rope) -> Angles:
        """What RoPE turns the new tokens by."""
        if rope not in self._angles:
            self._angles[rope] = rope.angles(self.positions, self.dtype)
        return self._angles[rope]

    def remember(self, path: str, **fresh: Tensor) -> tuple[Tensor, ...]:
        """Writes the new tokens' states (B T ...) of the block at `path`; returns what it sees of each (B U ...)."""
        return tuple(self.cache.append(path, name, tensor) for name, tensor in fresh.items())

    def lend(self, path: str, *seen: Tensor) -> tuple[Tensor, ...]:
        """Holds what the block at `path` sees in this pass for the layers that share its keys and values."""
        self._lent[path] = seen
        return seen

    def borrow(self, path: str) -> tuple[Tensor, ...]:
        """What the block at `path` saw in this pass: a ring has forgotten the first of it since."""
        return self._lent[path]

    def keep(self, path: str, **fresh: Tensor) -> tuple[Tensor, ...]:
        """Writes states of the source (B E ...), once; returns them."""
        return tuple(self.cache.write(path, name, tensor) for name, tensor in fresh.items())

    def kept(self, path: str, *names: str) -> tuple[Tensor, ...]:
        """States of the source that an earlier step kept."""
        return tuple(self.cache.read(path, name) for name in names)
