"""The operations that the fast decoder is made of: in torch, and in Triton where a GPU runs them.

Both have the functions of `Kernels`, under the same names and with the same meaning; a decoder takes one of them when
it is built. Tensors are rows (tokens) before features; nothing here knows a layer, a cache or a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from archlab.errors import ArchlabError


class Turn(tuple[Tensor, Tensor]):
    """cos and sin of RoPE, T 1 P: they turn dimension i of a head with i + P; dimensions from 2P on stay."""

    @cached_property
    def whole(self) -> tuple[Tensor, Tensor]:
        """T 1 2P: what a dimension is multiplied by, and its partner in the other half."""
        cos, sin = self
        return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


@dataclass
class Norm:
    """An RMSNorm over the last axis: x / rms(x) * (offset + gain), in fp32, gain included, then cast back."""

    gain: Tensor | None  # D; None for 1
    eps: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        self._held: tuple[int, Tensor | None] = (-1, None)

    @property
    def version(self) -> int:
        """Changes whenever the gain is written to."""
        return 0 if self.gain is None else self.gain._version

    @property
    def scale(self) -> Tensor | None:
        """offset + gain in fp32, D: made anew only after the gain was written to."""
        if self.gain is None:
            return None
        if self._held[0] != self.version:
            self._held = self.version, self.gain.detach().float() + self.offset
        return self._held[1]


@dataclass
class Heads:
    """How a packed row of queries, keys and values is read: (N + 2K) H; N H of queries alone; (N + K) H if k is v.

    q_norm, k_norm   over head_dim, before RoPE, both or neither of the two that there are; v_norm without a gain
    """

    n_heads: int
    n_kv_heads: int
    head_dim: int
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    v_norm: Norm | None = None
    k_is_v: bool = False
    owns_kv: bool = True

    def __post_init__(self) -> None:
        self._held: tuple[tuple[int, int], Tensor | None] = ((-1, -1), None)

    @property
    def scale(self) -> Tensor | None:
        """What normed queries and keys are multiplied by, (N + K) H in fp32; None without norms."""
        if self.q_norm is None or self.k_norm is None or self.q_norm.scale is None or self.k_norm.scale is None:
            return None
        versions = self.q_norm.version, self.k_norm.version
        if self._held[0] != versions:
            q, k = self.q_norm.scale, self.k_norm.scale
            self._held = versions, torch.cat((q.expand(self.n_heads, -1), k.expand(self.n_kv_heads, -1)))
        return self._held[1]


class Kernels(Protocol):
    """What the fast decoder needs. M is rows: batch times new tokens."""

    def normed(self, x: Tensor, norm: Norm | None) -> Tensor:
        """norm(x)."""

    def norm_linear(self, x: Tensor, norm: Norm | None, weight: Tensor) -> Tensor:
        """norm(x) @ weight^T: x B T D, weight O D -> B T O."""

    def gated_linear(self, x: Tensor, norm: Norm | None, weight: Tensor, activation: str) -> Tensor:
        """act(gate) * up of norm(x): x B T D, weight 2F D (the gate's rows, then up's) -> B T F."""

    def add_norm(self, x: Tensor, y: Tensor, norm: Norm | None) -> Tensor:
        """x + norm(y), both B T D."""

    def step_attention(
        self,
        qkv: Tensor,
        heads: Heads,
        turn: Turn | None,
        keys: Tensor,
        values: Tensor,
        slot: int | None,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        """One new token a sequence: its heads normed and turned, its key and value written, all slots attended to.

        qkv B 1 (N + 2K)H; keys and values B U K H, all of which is seen, in any order: views of a cache, of which the
        token's own key and value go to `slot` (None: another layer's cache, which holds them already) -> B 1 N H.
        """

    def split_heads(self, qkv: Tensor, heads: Heads, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries B T N H, keys and values B T K H (empty where the row has none), normed and turned."""

    def causal_attention(
        self, q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, cap: float | None
    ) -> Tensor:
        """T tokens, nothing before them; each sees itself and those before it, at most the last W -> B T N H."""


def kernels_for(device: torch.device) -> Kernels:
    """Triton's on a GPU, torch's elsewhere. Raises ArchlabError on a GPU without Triton: nothing slower instead."""
    from archlab.nn.kernels import torch_kernels

    if device.type != "cuda":
        return face(torch_kernels)
    try:
        from archlab.nn.kernels import triton_kernels
    except ImportError:
        raise ArchlabError(
            "the fast decoder needs triton on a GPU, and it is not installed; build the reference (fast=False) instead"
        ) from None
    return face(triton_kernels)


def face(module: Any) -> Any:
    """A module's functions as an object, which can be copied and pickled with the decoder that holds it."""
    names = [name for name in vars(Kernels) if not name.startswith("_")]
    return SimpleNamespace(**{name: getattr(module, name) for name in names})
