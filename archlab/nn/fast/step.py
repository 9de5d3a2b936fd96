"""What the fast layers share in one pass."""

from __future__ import annotations

from archlab.nn.kernels import Turn
from archlab.nn.rope import Rope
from archlab.nn.step import Step


class FastStep(Step):
    """A step that prepares its angles once for all layers of a kind, and may take those of another at its place."""

    turns: dict[Rope, Turn]

    def angles(self, rope: Rope) -> Turn:
        if rope not in self.turns:
            self.turns[rope] = Turn(super().angles(rope))
        return self.turns[rope]
