"""The columns of several structures, laid side by side along their axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Placed = tuple[list[np.ndarray], dict[str, np.ndarray]]
"""Where a structure's points stand on each axis, and its columns on an open mesh."""


def joined(found: Sequence[Placed], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Columns of all points; one that a structure lacks is 0 there."""
    if len(found) == 1:
        return found[0][1]
    names = list(dict.fromkeys(name for _, columns in found for name in columns))
    return {name: _laid([(places, columns.get(name)) for places, columns in found], shape) for name in names}


def _laid(parts: Sequence[tuple[list[np.ndarray], np.ndarray | None]], shape: tuple[int, ...]) -> np.ndarray:
    """One column: whole along an axis on which it differs, or along which there are several structures."""
    own = [
        any(len(places[i]) < n for places, _ in parts) or any(a is not None and a.shape[i] > 1 for _, a in parts)
        for i, n in enumerate(shape)
    ]
    kind = np.result_type(*(a.dtype for _, a in parts if a is not None))
    result = np.zeros(tuple(n if varies else 1 for n, varies in zip(shape, own, strict=True)), dtype=kind)
    for places, array in parts:
        if array is not None:
            result[np.ix_(*(at if varies else [0] for at, varies in zip(places, own, strict=True)))] = array
    return result
