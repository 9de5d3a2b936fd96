"""The decoder: an embedding, residual layers, a final norm and a head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from archlab.errors import ArchlabError
from archlab.nn.cache import LAYOUTS, Cache, NoCache, Ring, Slots
from archlab.nn.declare import Declared, declared, tie
from archlab.nn.step import Step
from archlab.spec import Block, ModelSpec, Residual, Workload

Make = Callable[[Block], Declared]
"""A block's module."""


class Layer(nn.Module):
    """x + post(block(pre(x))), for each block in turn."""

    def __init__(self, residuals: tuple[Residual, ...], make: Make) -> None:
        super().__init__()
        for residual in residuals:
            block = make(residual.block)
            block.pre_norm = make(residual.pre)
            block.post_norm = nn.Identity() if residual.post is None else make(residual.post)
            self.add_module(residual.name, block)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        for block in cast(Iterable[Declared], self.children()):
            x = x + block.post_norm(block(block.pre_norm(x), step))
        return x


class Decoder(nn.Module):
    """Token ids to logits. Parameters are named as the spec names them: layers.3.attention.q."""

    embedding: nn.Module
    final_norm: nn.Module
    head: nn.Module

    def __init__(self, spec: ModelSpec, make: Make) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = make(spec.decoder.embedding)
        self.layers = nn.ModuleList(Layer(spec.layer(kind).residuals, make) for kind in spec.kinds())
        for name, block in spec.decoder.head:
            self.add_module(name, make(block))
        for path, module in declared(self).items():
            module.path = path
        tie(self)

    def forward(self, ids: Tensor, cache: Cache | None = None, logits: str = "all") -> Tensor:
        """ids B T -> logits B T V, or B 1 V of the last token (logits="last").

        With a cache the tokens follow those that it holds, and nothing is differentiated.
        Raises ArchlabError for ids that are not (B, T) integers, or that the cache cannot take.
        """
        batch, new = checked(ids, logits)
        memory = NoCache() if cache is None else cache
        memory.admit(batch, new)
        first = next(self.parameters())
        with torch.set_grad_enabled(cache is None and torch.is_grad_enabled()):
            step = Step(new, memory, first.device, first.dtype)
            x = self.embedding(ids)  # B T D
            for layer in self.layers:
                x = layer(x, step)
            x = x if logits == "all" else x[:, -1:]  # B R D
            x = self.head(self.final_norm(x))  # B R V
        memory.advance(new)
        return x

    def init_cache(self, batch: int, context: int, dtype: torch.dtype | None = None) -> Cache:
        """An empty cache for `batch` sequences of up to `context` tokens, in the weights' format unless told."""
        Workload(batch, context=context)  # refuses sizes that cannot be
        first = next(self.parameters())
        states: dict[str, Slots | Ring] = {}
        for path, module in declared(self).items():
            for state in module.block.state():
                shape = (batch, state.slots(context), *module.block.shape(state.axes))
                buffer = torch.zeros(shape, device=first.device, dtype=dtype or first.dtype)
                states[f"{path}.{state.name}"] = LAYOUTS[state.capacity](state, buffer)
        return Cache(states, batch, context)


def checked(ids: Tensor, logits: str) -> tuple[int, int]:
    """(batch, new tokens) of ids. Raises ArchlabError."""
    if not isinstance(ids, Tensor):
        raise ArchlabError(f"ids must be a tensor of shape (batch, tokens), not {type(ids).__name__}")
    if ids.dim() != 2 or ids.dtype not in (torch.int32, torch.int64) or ids.numel() == 0:
        raise ArchlabError(f"ids must be whole numbers (batch, tokens), not {ids.dtype} of shape {tuple(ids.shape)}")
    if logits not in ("all", "last"):
        raise ArchlabError(f"logits={logits!r} must be all or last")
    return int(ids.shape[0]), int(ids.shape[1])
