"""One number a layer, a buffer, that the stream is multiplied by."""

from __future__ import annotations

from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared


class LayerScalar(Declared):
    """x * scalar."""

    block: blocks.LayerScalar
    scalar: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scalar
