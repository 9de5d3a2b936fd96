"""The bridge from rows to torch: a module stores what its block declares, and nothing else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archlab.algebra import product
from archlab.layers import Block
from archlab.rows import Weight

ABSENT = ("unread", "counted")
"""Uses of weights that a module does not hold: no layer reads them, or only their number is known."""


class Declared(nn.Module):
    """A block's module. Its parameters are the rows of `block.weights()`, under their own names and shapes.

    A tied weight has no storage here: `tie` lends it another module's, once the model stands. Weights that nothing
    reads have none either.
    """

    path = ""  # where the module stands in the model, as in "layers.3.attention"; set by the model
    gain_offset = 0.0  # what is added to a stored gain: 1 where a norm multiplies by 1 + w
    pre_norm: nn.Module  # of a block that a layer holds: x + post_norm(block(pre_norm(x)))
    post_norm: nn.Module
    joint_norm: nn.Module  # of the sum of a block and what stands beside it
    index = 0  # of the layer that holds the block; set by the stack

    def __init__(self, block: Block, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__()
        for weight in block.weights():
            if weight.tied is None and weight.use not in ABSENT:
                self._store(weight, torch.empty(block.shape(weight.axes), device=device, dtype=dtype))
        self.block = block

    def initial(self, weight: Weight) -> float | Tensor:
        """What an elementwise weight starts as: a bias as 0, a gain as the identity."""
        return 0.0 if weight.name.endswith("bias") else 1 - self.gain_offset

    def _store(self, weight: Weight, tensor: Tensor) -> None:
        if weight.trainable:
            self.register_parameter(weight.name, nn.Parameter(tensor))
        else:
            self.register_buffer(weight.name, tensor)


def project(x: Tensor, weight: Tensor) -> Tensor:
    """A weight [*out, in] on the last axis: x ... D with w NHD gives ... N H."""
    return F.linear(x, weight.flatten(0, -2)).unflatten(-1, weight.shape[:-1])


def merge(x: Tensor, weight: Tensor) -> Tensor:
    """A weight [out, *in] on the last two axes: x ... N H with w DNH gives ... D."""
    return F.linear(x.flatten(-2), weight.flatten(1))


def tie(model: nn.Module) -> None:
    """Lends each tied weight the parameter that it names, the encoder's before those that are tied through it."""
    for module in declared(model).values():
        for weight in module.block.weights():
            if weight.tied is not None:
                module.register_parameter(weight.name, model.get_parameter(weight.tied))


def declared(model: nn.Module) -> dict[str, Declared]:
    """path -> module of each block, in the order in which they run."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Declared)}


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Random weights that keep activations near 1, in place and in the parameters' own format; norms start as identity.

    The draw depends on the seed, the device and the format. Weights on meta have nothing to fill.
    """
    first = next(model.parameters())
    if first.is_meta:
        return
    generator = torch.Generator(first.device).manual_seed(seed)
    for module in declared(model).values():
        for weight in module.block.weights():
            if weight.use in ABSENT or weight.tied is not None:
                continue
            if weight.use == "vector":
                getattr(module, weight.name).copy_(torch.as_tensor(module.initial(weight)))
            else:
                getattr(module, weight.name).normal_(std=fan_in(module.block, weight) ** -0.5, generator=generator)


def fan_in(block: Block, weight: Weight) -> int:
    """Terms of the sums that the weight takes part in: the size of its axes that the operation contracts.

    A lookup sums nothing; its rows start as if the stream's width were summed over, as in the head that shares them.
    """
    for op in block.ops():
        for operand in op.line.weights:
            if operand.name == weight.name:
                left = {axis for output in op.line.outputs for axis in output.axes}
                summed = weight.axes[-1] if op.kind == "lookup" else [axis for axis in operand.axes if axis not in left]
                return product(block.shape("".join(summed)))
    return 1
