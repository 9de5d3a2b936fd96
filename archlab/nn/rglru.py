"""The recurrent block of Griffin: a gated branch, a short causal convolution, and the RG-LRU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.mlp import ACTIVATIONS, biased
from archlab.nn.step import Step
from archlab.rows import Weight

SHARPNESS = 8.0
"""c in a = exp(-c r softplus(decay)); Griffin, equation 4."""
SLOWEST, FASTEST = 0.999, 0.9
"""Griffin starts with a between these, evenly, where its gate r is 1."""

LEAST = torch.finfo(torch.float32).tiny
"""What 1 - a^2 is clamped to before its root, so that the slope stays finite; too little to change a sum."""


class RGLRU(Declared):
    """out(RG-LRU(conv(x)) * gelu(y)). The recurrence runs in fp32, whatever the weights' format."""

    block: blocks.RGLRU
    y: Tensor  # L D
    x: Tensor  # L D
    out: Tensor  # D L
    conv: Tensor  # L C
    conv_bias: Tensor  # L
    input_gate: Tensor  # N H I
    decay_gate: Tensor  # N H I
    decay: Tensor  # L

    def initial(self, weight: Weight) -> float | Tensor:
        """Biases 0; a decay such that a is spread over the channels."""
        if weight.name != "decay":
            return 0.0
        a = torch.linspace(FASTEST, SLOWEST, self.block.width)
        return (-a.log() / SHARPNESS).expm1().log()  # the inverse of softplus

    def forward(self, x: Tensor, step: Step) -> Tensor:
        y = ACTIVATIONS["gelu_tanh"](biased(project(x, self.y), self, "y"))  # B T L
        u = self._convolved(biased(project(x, self.x), self, "x"), step)
        h = self._recurrence(u, step).to(x.dtype)
        return biased(project(h * y, self.out), self, "out")  # B T D

    def _convolved(self, u: Tensor, step: Step) -> Tensor:
        """Each channel with its own taps, over the token and those before it; zeros before the first."""
        behind = self.block.conv - 1
        past = u.new_zeros(len(u), behind, u.shape[2]) if step.first else step.cache.read(self.path, "taps")[:, 0]
        u = torch.cat((past.to(u.dtype), u), 1)  # B PT L
        step.cache.write(self.path, "taps", u[:, None, -behind:])
        return convolved(u, self.conv, self.conv_bias)

    def _recurrence(self, u: Tensor, step: Step) -> Tensor:
        """h_t = a h_(t-1) + sqrt(1 - a^2) i u, in fp32: B T L. The first token has nothing to forget: h = i u."""
        log_a = -SHARPNESS * self._gate(u, "decay") * F.softplus(self.decay.float())
        root = (1 - torch.exp(2 * log_a)).clamp_min(LEAST).sqrt()
        fresh, a = self._gate(u, "input") * u, log_a.exp()
        if step.first:
            fresh = torch.cat((fresh[:, :1], (fresh * root)[:, 1:]), 1)
        else:
            fresh = carried(step.cache.read(self.path, "h"), a, fresh * root)
        h = scan(a, fresh)
        step.cache.write(self.path, "h", h[:, -1:])
        return h

    def _gate(self, u: Tensor, name: str) -> Tensor:
        """The sigmoid, in fp32, of a block-diagonal linear: u B T L -> B T L."""
        weight = getattr(self, f"{name}_gate")
        heads = u.unflatten(-1, weight.shape[:2]).flatten(0, 1).transpose(0, 1)  # N BT H
        gate = torch.bmm(heads, weight).transpose(0, 1).unflatten(0, u.shape[:2])  # B T N I
        return torch.sigmoid(biased(gate, self, f"{name}_gate").float()).flatten(-2)


def convolved(u: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """Each channel of u B PT L with its own taps L C: B T L."""
    if u.is_meta and torch.jit.is_tracing():  # torch 2.13 cannot tell there which shape a convolution has
        return products_of_windows(u, taps, bias)
    return F.conv1d(u.transpose(1, 2), taps.unsqueeze(1), bias, groups=len(taps)).transpose(1, 2)


def products_of_windows(u: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """The same as matrix products."""
    windows = u.unfold(1, taps.shape[1], 1)  # B T L C
    product = torch.bmm(windows.flatten(0, 1).transpose(0, 1), taps.unsqueeze(-1))  # L BT 1
    return product.view(len(taps), *windows.shape[:2]).permute(1, 2, 0) + bias


def carried(h: Tensor, a: Tensor, fresh: Tensor) -> Tensor:
    """fresh B T L, with what is left of the last state B 1 L in its first token."""
    return torch.cat((fresh[:, :1] + a[:, :1] * h, fresh[:, 1:]), 1)


def scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t along the tokens, from h = 0: B T L of both -> B T L.

    Odd-even reduction: two steps in one are a step too, a = a2 a1 and b = a2 b1 + b2. So every second h comes from a
    scan of half the length, and the others follow. O(T) work in O(log T) operations; a <= 1, so nothing grows.
    """
    length = b.shape[1]
    if length == 1:
        return b
    pairs = length // 2 * 2
    a1, a2, b1, b2 = a[:, 0:pairs:2], a[:, 1:pairs:2], b[:, 0:pairs:2], b[:, 1:pairs:2]
    second = scan(a2 * a1, a2 * b1 + b2)  # h at 1, 3, 5 ...
    between = a[:, 2::2] * second[:, : (length - 1) // 2] + b[:, 2::2]  # h at 2, 4, 6 ...
    first = torch.cat((b[:, :1], between), 1)
    woven = torch.stack((first[:, : pairs // 2], second), 2).flatten(1, 2)
    return torch.cat((woven, first[:, pairs // 2 :]), 1)
