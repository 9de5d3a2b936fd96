"""Self-attention from packed weights, without masks: a step over its cache, or a first pass over the tokens alone."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.attention import Attention
from archlab.nn.cache import Cache
from archlab.nn.fast.pack import pack
from archlab.nn.fast.step import FastStep
from archlab.nn.kernels import Heads, Kernels, Norm
from archlab.nn.mlp import biased
from archlab.nn.step import Step


class FastAttention(Attention):
    """The same parameters and the same result as the reference."""

    packed: Tensor  # (N + 2K)H D
    lends = False

    def __init__(self, block: blocks.Attention, device: torch.device | str, dtype: torch.dtype, kernels: Kernels):
        super().__init__(block, device, dtype)
        self.kernels = kernels

    @staticmethod
    def takes(block: blocks.Attention) -> bool:
        """Whether the fast way covers it: causal, over its own tokens alone, at most a bias after the output."""
        return block.causal and block.source == "none" and block.bias != "all" and block.rope_axes == 1

    def plan(self) -> None:
        """Packs the projections and gathers the norms: once the parameters stand, and again where they are replaced."""
        block = self.block
        own = block.kv == "own"
        self.packed = pack(self, *(("q", "k") if block.k_is_v else ("q", "k", "v")) if own else ("q",))
        self.heads = Heads(
            block.n_heads, block.n_kv_heads, block.head_dim,
            q_norm=self._norm("q_norm"),
            k_norm=self._norm("k_norm") if own else None,
            v_norm=Norm(None, block.norm_eps) if own and block.v_norm else None,
            k_is_v=block.k_is_v, owns_kv=own,
        )  # fmt: skip
        self.out = self.o.detach().flatten(1)  # D NH: a view

    def _norm(self, name: str) -> Norm | None:
        return Norm(getattr(self, name), self.block.norm_eps, self.gain_offset) if self.block.qk_norm else None

    def lend(self) -> None:
        super().lend()
        self.lends = True

    def forward(self, x: Tensor, step: Step) -> Tensor:
        return self.after(None, x, cast(FastStep, step))

    def after(self, norm: Norm | None, x: Tensor, step: FastStep) -> Tensor:
        """block(norm(x))."""
        if not step.plain:
            return super().forward(self.kernels.normed(x, norm), step)
        qkv = self.kernels.norm_linear(x, norm, self.packed)  # B T (N + 2K)H
        one = step.new == 1 and isinstance(step.cache, Cache)
        seen = (self._step if one else self._pass)(qkv, step)
        return biased(self.kernels.norm_linear(seen.flatten(-2), None, self.out), self, "o")

    def _step(self, qkv: Tensor, step: FastStep) -> Tensor:
        """One token: everything that the cache holds is seen, in whatever order."""
        cache = cast(Cache, step.cache)
        path = self.path if self.heads.owns_kv else self.owner
        keys, values = cache.held(path, "k"), cache.held(path, "v")
        slot = cache.slot(path, "k") if self.heads.owns_kv else None
        turn = None if self.rope is None else step.angles(self.rope)
        return self.kernels.step_attention(qkv, self.heads, turn, keys, values, slot, self.scale, self.block.softcap)

    def _pass(self, qkv: Tensor, step: FastStep) -> Tensor:
        """The first tokens, which see each other alone."""
        turn = None if self.rope is None else step.angles(self.rope)
        q, k, v = self.kernels.split_heads(qkv, self.heads, turn)
        if self.heads.owns_kv:
            step.cache.fill(self.path, k=k, v=v)
        else:
            k, v = step.borrow(self.owner)
        if self.lends:
            step.lend(self.path, k, v)
        return self.kernels.causal_attention(q, k, v, self.block.window, self.scale, self.block.softcap)
