"""The open mesh that a program runs over: its axes, and the parts of it that stay in the processor's caches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from archlab.columns.writer import Line

CACHED = 8192
"""Points of linked columns that are computed at a time."""

SLAB = 2**15
"""Points of a mesh that are computed at a time: its own passes are few, and fewer parts cost less."""

SMALL = 2**16
"""Numbers of a line that is computed at once."""

Piece = tuple[slice, ...]


@dataclass(frozen=True)
class Mesh:
    """Lengths of the axes, in the order in which they are laid out; and which axis each of them is."""

    lengths: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Mesh:
        """Axes turned so that the longest is the innermost, along which numpy's loops run."""
        order = tuple(sorted(range(len(lengths)), key=lambda i: (lengths[i], i)))
        return cls(tuple(lengths[i] for i in order), order)

    def shape(self, line: Line) -> tuple[int, ...]:
        """Of what a line computes."""
        return tuple(n if line.axes >> i & 1 else 1 for n, i in zip(self.lengths, self.order, strict=True))

    def points(self, line: Line) -> int:
        """Numbers that a line computes."""
        return prod(self.shape(line))

    def part(self, piece: Piece) -> Mesh:
        """The mesh of a piece."""
        return Mesh(tuple(p.stop - p.start for p in piece), self.order)

    def pieces(self) -> Iterable[Piece]:
        """Parts of the outermost axes, with all of the inner ones."""
        most, lengths = CACHED if len(self.lengths) == 1 else SLAB, self.lengths
        steps = [min(n, max(1, most // prod(lengths[i + 1 :]))) for i, n in enumerate(lengths)]
        starts = product(*(range(0, n, step) for n, step in zip(lengths, steps, strict=True)))
        for at in starts:
            yield tuple(slice(i, min(i + step, n)) for i, step, n in zip(at, steps, lengths, strict=True))


def cut(array: np.ndarray, piece: Piece) -> np.ndarray:
    """A part of an array, whole along the axes on which it does not depend."""
    return array[tuple(p if n > 1 else slice(None) for n, p in zip(array.shape, piece, strict=True))]


def picked(values: np.ndarray | float, places: tuple[np.ndarray, ...]) -> np.ndarray | float:
    """Values at places of an open mesh."""
    if np.ndim(values) == 0:
        return values
    array = np.asarray(values)
    return array[tuple(at if n > 1 else 0 for at, n in zip(places, array.shape, strict=True))]
