"""Blocks before the layers, residual layers, blocks after them: a decoder, an encoder or a tower."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from archlab import layers as spec_layers
from archlab.layers import Block
from archlab.nn.declare import Declared
from archlab.nn.step import Step

Make = Callable[[Block], Declared]
"""A block's module."""


class Residual:
    """(x + joint(post(block(pre(x))) + branches)) * scale. Holds no weights: the layer that made it does."""

    def __init__(self, block: Declared, branches: Sequence[tuple[Declared, bool]], scale: float) -> None:
        self.block, self.scale = block, scale
        self.normed = [branch for branch, reads_normed in branches if reads_normed]
        self.raw = [branch for branch, reads_normed in branches if not reads_normed]

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        h = self.block.pre_norm(x)
        y = self.block.post_norm(self.block(h, step))
        for branch in self.normed:
            y = y + branch.post_norm(branch(branch.pre_norm(h), step))
        for branch in self.raw:
            y = y + branch.post_norm(branch(branch.pre_norm(x), step))
        return (x + self.block.joint_norm(y)) * self.scale


class PlainResidual(Residual):
    """x + post(block(pre(x))): nothing beside it."""

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        return x + self.block.post_norm(self.block(self.block.pre_norm(x), step))


class Layer(nn.Module):
    """Residuals, one after another, and a scalar at the end where there is one."""

    def __init__(self, layer: spec_layers.Layer, make: Make) -> None:
        super().__init__()
        self.residuals = [self._residual(residual, make) for residual in (*layer.residuals, *layer.after)]
        self.layer_scalar = nn.Identity() if layer.layer_scalar is None else make(layer.layer_scalar)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        for residual in self.residuals:
            x = residual(x, step)
        return self.layer_scalar(x)

    def _residual(self, residual: spec_layers.Residual, make: Make) -> Residual:
        block = self._wrapped(residual.name, residual.block, residual.pre, residual.post, make)
        block.joint_norm = nn.Identity() if residual.joint is None else make(residual.joint)
        branches = [(self._wrapped(b.name, b.block, b.pre, b.post, make), b.reads == "normed") for b in residual.beside]
        kind = Residual if branches or residual.scale != 1 else PlainResidual
        return kind(block, branches, residual.scale)

    def _wrapped(self, name: str, block: Block, pre: Block | None, post: Block | None, make: Make) -> Declared:
        """A block's module with its norms, as a child of the layer."""
        module = make(block)
        module.pre_norm = nn.Identity() if pre is None else make(pre)
        module.post_norm = nn.Identity() if post is None else make(post)
        self.add_module(name, module)
        return module


class Stack(nn.Module):
    """What a spec's stack says, in torch. The first block makes the stream; the others before the layers change it."""

    embedding: Declared
    patches: Declared
    layers: nn.ModuleList

    def __init__(
        self, stack: spec_layers.Stack, make: Make, layer_of: Callable[[spec_layers.Layer, Make], Layer]
    ) -> None:
        super().__init__()
        for name, block in stack.before:
            self.add_module(name, make(block))
        self.layers = nn.ModuleList(layer_of(layer, make) for layer in stack.in_order())
        for name, block in stack.after:
            self.add_module(name, make(block))
        self.before = [name for name, _ in stack.before[1:]]
        self.after = [name for name, _ in stack.after]
        for index, layer in enumerate(self.layers):
            for module in cast(Iterable[Declared], layer.children()):
                module.index = index

    def run(self, x: Tensor, step: Step, last: bool = False) -> Tensor:
        """The stream through the layers and what follows them; of the last token alone, if `last`."""
        for name in self.before:
            x = getattr(self, name)(x, step)
        for layer in self.layers:
            x = layer(x, step)
        x = x[..., -1:, :] if last else x
        for name in self.after:
            x = getattr(self, name)(x)
        return x
