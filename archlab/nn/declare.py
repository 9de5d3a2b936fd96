"""The bridge from rows to torch: a module stores what its block declares, and nothing else."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archlab.algebra import product
from archlab.rows import Weight
from archlab.spec import Block

AnyBlock = TypeVar("AnyBlock", bound=Block)


class Declared(nn.Module):
    """A block's module. Its parameters are the rows of `block.weights()`, under their own names and shapes.

    A tied weight has no storage here: `tie` lends it another module's, once the model stands.
    """

    path = ""  # where the module stands in the model, as in "layers.3.attention"; set by the model
    gain_offset = 0.0  # what is added to a stored gain: 1 where a norm multiplies by 1 + w

    def __init__(self, block: Block, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__()
        for weight in block.weights():
            if weight.tied is None:
                stored = torch.empty(block.shape(weight.axes), device=device, dtype=dtype)
                self.register_parameter(weight.name, nn.Parameter(stored, requires_grad=weight.trainable))
        self.block = block


def project(x: Tensor, weight: Tensor) -> Tensor:
    """A weight [*out, in] on the last axis: x ... D with w NHD gives ... N H."""
    return F.linear(x, weight.flatten(0, -2)).unflatten(-1, weight.shape[:-1])


def merge(x: Tensor, weight: Tensor) -> Tensor:
    """A weight [out, *in] on the last two axes: x ... N H with w DNH gives ... D."""
    return F.linear(x.flatten(-2), weight.flatten(1))


def tie(model: nn.Module) -> None:
    """Lends each tied weight the parameter that it names."""
    for module in list(declared(model).values()):
        for weight in module.block.weights():
            if weight.tied is not None:
                module.register_parameter(weight.name, model.get_parameter(weight.tied))


def declared(model: nn.Module) -> dict[str, Declared]:
    """path -> module of each block, in the order in which they run."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Declared)}


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Random weights that keep activations near 1, in place and in the parameters' own format. Norms start as identity.

    The draw depends on the seed, the device and the format. Weights on meta have nothing to fill.
    """
    generators: dict[torch.device, torch.Generator] = {}
    for module in declared(model).values():
        for weight in module.block.weights():
            parameter = module.get_parameter(weight.name)
            if weight.tied is not None or parameter.is_meta:
                continue
            if weight.use == "vector":
                parameter.fill_(1 - module.gain_offset)
                continue
            device = parameter.device
            if device not in generators:
                generators[device] = torch.Generator(device).manual_seed(seed)
            parameter.normal_(std=fan_in(module.block, weight) ** -0.5, generator=generators[device])


def fan_in(block: Block, weight: Weight) -> int:
    """Terms of the sum that the weight takes part in: its axes that the operation contracts.

    A lookup sums nothing. Its rows are as wide as the stream, and start as if they were projected to it.
    """
    for op in block.ops():
        if weight.name in (o.name for o in op.reads("w")):
            kept = {a for out in op.line.outputs for a in out.axes}
            return product(block.shape("".join(a for a in weight.axes if (a in kept) == (op.kind == "lookup"))))
    return 1
