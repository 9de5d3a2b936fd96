"""The fast decoder: the reference's stacks, with the modules and the residuals that have a faster way to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archlab import layers as spec_layers
from archlab.nn.altup import AltUpLayer
from archlab.nn.cache import Cache, NoCache
from archlab.nn.declare import Declared
from archlab.nn.decoder import Decoder
from archlab.nn.fast.step import FastStep
from archlab.nn.kernels import Kernels, Norm, Turn
from archlab.nn.norm import RMSNorm
from archlab.nn.rope import Rope
from archlab.nn.stack import Layer, Make, PlainResidual, Residual
from archlab.nn.step import Step
from archlab.spec import ModelSpec


class FastResidual:
    """x + post(block(pre(x))), the norms fused with what stands beside them."""

    def __init__(self, block: Declared, kernels: Kernels) -> None:
        self.block, self.kernels = block, kernels

    def plan(self) -> None:
        """Gathers the norms."""
        self.pre, self.post = norm_of(self.block.pre_norm), norm_of(self.block.post_norm)
        self.run = getattr(self.block, "after", self._after)

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        return self.kernels.add_norm(x, self.run(self.pre, x, step), self.post)

    def _after(self, norm: Norm | None, x: Tensor, step: Step) -> Tensor:
        """A block of the reference behind its norm."""
        return self.block(self.kernels.normed(x, norm), step)


def norm_of(module: nn.Module) -> Norm | None:
    """What an RMSNorm does, or no norm at all."""
    return Norm(module.gain, module.eps, module.gain_offset) if isinstance(module, RMSNorm) else None


class FastLayer(Layer):
    """A layer whose plain residuals are fused; those with branches or a scale beside them run as they are."""

    def __init__(self, layer: spec_layers.Layer, make: Make, kernels: Kernels) -> None:
        super().__init__(layer, make)
        fuse(self.residuals, kernels)


class FastAltUpLayer(AltUpLayer):
    """The same around AltUp's streams."""

    def __init__(self, layer: spec_layers.Layer, make: Make, kernels: Kernels) -> None:
        super().__init__(layer, make)
        fuse(self.inside, kernels)


def fuse(residuals: list[Any], kernels: Kernels) -> None:
    """Replaces plain residuals between RMSNorms, in place."""
    for index, residual in enumerate(residuals):
        if type(residual) is PlainResidual and _between_rms(residual.block):
            residuals[index] = FastResidual(residual.block, kernels)


def _between_rms(block: Declared) -> bool:
    return all(isinstance(norm, nn.Identity | RMSNorm) for norm in (block.pre_norm, block.post_norm))


class FastDecoder(Decoder):
    """A decoder whose parameters are packed; `plan` packs them again where something replaced them."""

    _turned: dict[tuple[int, int], dict[Rope, Turn]]  # (context, new) of the last step -> its angles

    def __init__(self, spec: ModelSpec, make: Make, kernels: Kernels) -> None:
        self.kernels = kernels
        super().__init__(spec, make)

    def layer_of(self, layer: spec_layers.Layer, make: Make) -> Layer:
        return (FastLayer if layer.altup is None else FastAltUpLayer)(layer, make, self.kernels)

    @torch.inference_mode(False)  # parameters stay ordinary tensors, in whatever pass they are packed again
    def plan(self) -> None:
        """Packs weights and gathers norms, of every block and residual that has a plan, and notes where they are."""
        self._turned = {}
        for module in self.modules():
            residuals: Sequence[Residual | FastResidual] = getattr(module, "residuals", ())
            for part in (module, *residuals, *getattr(module, "inside", ())):
                if part is not self and hasattr(part, "plan"):
                    part.plan()
        self._watched = [(module._parameters, name) for module in self.modules() for name in module._parameters]
        self._planned = self._places()

    def _places(self) -> list[tuple[int, int]]:
        """Each parameter and where it lies: another after something replaced or moved it."""
        found = (held[name] for held, name in self._watched)
        return [(id(p), p.data_ptr()) for p in found if p is not None]

    def _step(self, new: int, memory: Cache | NoCache, **more: object) -> Step:
        """A step; one that stands where the last one stood turns by the same angles, which are kept.

        Weights that something replaced or moved since they were packed are packed again first.
        """
        if self._places() != self._planned:
            self.plan()
        first = next(self.parameters())
        step = FastStep(new, memory, first.device, first.dtype, **more)  # type: ignore[arg-type]
        place = (step.context, new)
        if not torch.is_inference_mode_enabled():
            step.turns = {}
        elif place in self._turned:
            step.turns = self._turned[place]
        else:
            step.turns = {}
            self._turned = {place: step.turns}
        return step
