"""AltUp: layers run on one of several residual streams, and predict and correct the others."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import blocks
from archlab import layers as spec_layers
from archlab.nn.declare import Declared, project
from archlab.nn.mlp import unchanged
from archlab.nn.norm import rms_norm
from archlab.nn.stack import Layer, Make
from archlab.nn.step import Step
from archlab.rows import Weight

LEAST = 1e-5
"""What a mean square is clamped to before its root, when a stream is rescaled."""


class AltUp(Declared):
    """Prediction and correction of M streams around a layer."""

    block: blocks.AltUp
    router: Tensor  # M D
    router_norm: Tensor  # D
    predict: Tensor  # O N M
    correct: Tensor  # O M
    correct_scale: Tensor  # D

    def __init__(self, block: blocks.AltUp, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset, self.active = float(block.norm_plus_one), block.active - 1
        self.scaled = self._scaled if block.scaled else unchanged

    def initial(self, weight: Weight) -> float | Tensor:
        """The gate starts by reading the stream as it is, whatever a norm's gain is stored as."""
        return 1.0 if weight.name == "correct_scale" else super().initial(weight)

    def forward(self, streams: Tensor, made: Tensor | None = None) -> Tensor:
        """Streams M B T D -> predicted streams; with what the layer made of the active one, these -> corrected."""
        return self._predicted(streams) if made is None else self._corrected(streams, made)

    def _predicted(self, streams: Tensor) -> Tensor:
        """X_o + sum over i of C[o, i] X_i."""
        mix = project(self._modalities(streams[self.active]), self.predict)  # B T O N
        return streams + (mix @ streams.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)

    def _corrected(self, predicted: Tensor, y: Tensor) -> Tensor:
        """pred_o + (y - pred_active) * (c_o + 1): what is new in the active stream, passed on to all."""
        shares = project(self._modalities(y), self.correct) + 1  # B T O
        return predicted + (y - predicted[self.active]) * shares.permute(2, 0, 1)[..., None]

    def _scaled(self, x: Tensor) -> Tensor:
        """The active stream as the per-layer gate reads it."""
        return x * self.correct_scale

    def _modalities(self, x: Tensor) -> Tensor:
        normed = rms_norm(x, self.router_norm, self.block.norm_eps, self.gain_offset)
        routed = project(normed * normed.new_full((), self.block.d_model**-1.0), self.router)
        return torch.tanh(routed.float()).to(x.dtype)  # B T M


class AltUpLayer(Layer):
    """A layer of streams M B T D: its residuals run on the active one; what comes after them reads that one too, and is
    added to all but the first.
    """

    altup: AltUp

    def __init__(self, layer: spec_layers.Layer, make: Make) -> None:
        super().__init__(layer, make)
        inside = len(layer.residuals)
        self.inside, self.outside = self.residuals[:inside], self.residuals[inside:]
        self.altup = make(layer.altup)  # type: ignore[arg-type, assignment]

    def forward(self, streams: Tensor, step: Step) -> Tensor:
        predicted = self.altup(streams)
        x = predicted[self.altup.active]
        for residual in self.inside:
            x = residual(x, step)
        streams = self.altup(predicted, x)
        for residual in self.outside:
            x = self.altup.scaled(streams[self.altup.active])
            streams = torch.cat((streams[:1], streams[1:] + residual.block(x, step)))
        return self.layer_scalar(streams)


def rescaled(x: Tensor, like: Tensor) -> Tensor:
    """x, each token brought to the RMS of the same token of `like`; in the format of x throughout, as trained."""
    own = x.square().mean(-1, keepdim=True).clamp_min(LEAST).sqrt()
    return x * like.square().mean(-1, keepdim=True).sqrt() / own


class AltUpSplit(Declared):
    """The embedding B T D -> streams M B T D, each further one projected and rescaled."""

    block: blocks.AltUpSplit
    project: Tensor  # Z I D

    def forward(self, x: Tensor, step: Step) -> Tensor:
        return torch.stack([x, *(rescaled(project(x, w), x) for w in self.project)])


class AltUpMerge(Declared):
    """Streams M B T D -> the mean of the first and of the others, projected back and rescaled: B T D."""

    block: blocks.AltUpMerge
    project: Tensor  # Z I D

    def forward(self, streams: Tensor) -> Tensor:
        first, others = streams[0], streams[1:]
        back = [rescaled(project(x, w), first) for x, w in zip(others, self.project, strict=True)]
        return torch.stack([first, *back]).mean(0)
