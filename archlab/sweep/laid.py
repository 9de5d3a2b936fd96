"""The columns of several structures, laid side by side along their axes.

A column that a structure lacks (`params_moe` of a dense model) is absent at its points, not 0: NaN in a column of
numbers, None in one of truths. Whole numbers become float64 then, as they are wherever a structure has many points;
where one of them is 2**53 or more, which float64 may round, they stay whole and the absent ones are None. Of a refused
structure there is only `ok`: what stands at its points is no number of theirs, and changes no column's type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

EXACT = 2**53
"""Whole numbers below it are exact in float64."""

Placed = tuple[list[np.ndarray], dict[str, np.ndarray]]
"""Where a structure's points stand on each axis, and its columns on an open mesh."""

Part = tuple[list[np.ndarray], np.ndarray | None]
"""Where a structure's points stand on each axis, and one of its columns, if it has it."""


def joined(found: Sequence[Placed], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Columns of all points; one that a structure lacks is absent there (see above)."""
    if len(found) == 1:
        return found[0][1]
    names = list(dict.fromkeys(name for _, columns in found for name in columns))
    standing = [columns.keys() for _, columns in found if columns.keys() != {"ok"}]
    parts = {name: [(places, columns.get(name)) for places, columns in found] for name in names}
    everywhere = {name for name in names if name == "ok" or all(name in own for own in standing)}
    return {name: _laid(own, shape, 0 if name in everywhere else _absent(own)) for name, own in parts.items()}


def _absent(parts: Sequence[Part]) -> Any:
    """What stands for a value that is not there: NaN, or None."""
    arrays = [a for _, a in parts if a is not None]
    kind = _kind(parts).kind
    return np.nan if kind == "f" or (kind in "iu" and all(abs(a).max() < EXACT for a in arrays)) else None


def _laid(parts: Sequence[Part], shape: tuple[int, ...], fill: Any) -> np.ndarray:
    """One column: whole along an axis on which it differs, or along which there are several structures."""
    own = [
        any(len(places[i]) < n for places, _ in parts) or any(a is not None and a.shape[i] > 1 for _, a in parts)
        for i, n in enumerate(shape)
    ]
    size = tuple(n if varies else 1 for n, varies in zip(shape, own, strict=True))
    result = np.full(size, fill, dtype=_kind(parts) if fill == 0 else object if fill is None else np.float64)
    for places, array in parts:
        if array is not None:
            result[np.ix_(*(at if varies else [0] for at, varies in zip(places, own, strict=True)))] = array
    return result


def _kind(parts: Sequence[Part]) -> np.dtype[Any]:
    """The type that holds the values of all structures."""
    return np.result_type(*(a.dtype for _, a in parts if a is not None))
