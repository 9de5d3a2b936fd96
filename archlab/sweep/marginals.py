"""What a column is at each value of an axis, over all others: sums, lows and highs that add up over parts of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pandas as pd

Reduced = Mapping[str, np.ndarray]
"""points, sum, low, high: arrays over the axes that are left."""

FOLDS: Mapping[str, Callable[..., Any]] = {"points": np.sum, "sum": np.sum, "low": np.min, "high": np.max}


def marginals(
    values: np.ndarray, mask: np.ndarray, keys: Sequence[str], places: Sequence[Sequence[int]]
) -> pd.DataFrame:
    """A row for each position of each axis: key, position, points, sum, low, high over the points of the mask.

    values, mask   arrays on the open mesh of the axes: of 1 along an axis on which they do not depend
    keys, places   of each axis its name, and the position of each of its entries in the whole grid
    """
    shape = tuple(len(p) for p in places)
    known = np.isfinite(values)
    mask = mask if known.all() else mask & known
    if mask.all():  # each number counts as often as the axes on which it does not depend have positions
        times = prod(shape) / values.size
        whole = {"points": np.full(values.shape, times), "sum": values * times, "low": values, "high": values}
    else:
        values, mask = np.broadcast_arrays(values, mask)
        times = prod(shape) / values.size
        whole = {"points": mask * times, "sum": np.where(mask, values, 0.0) * times}
        whole |= {"low": np.where(mask, values, np.inf), "high": np.where(mask, values, -np.inf)}
    rows = [
        pd.DataFrame({"key": keys[axis], "position": np.asarray(places[axis]), **_whole(found, shape[axis])})
        for axis, found in _each(whole, list(range(len(shape))))
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _whole(found: Reduced, n: int) -> dict[str, np.ndarray]:
    """Numbers of an axis of n positions; of one on which nothing depends, each position's share."""
    if len(found["sum"]) == n:
        return dict(found)
    return {k: np.repeat(v / n if k in ("points", "sum") else v, n) for k, v in found.items()}


def _each(whole: Reduced, axes: list[int]) -> Iterator[tuple[int, Reduced]]:
    """(axis, its numbers): half of the axes are folded away, then the other half, so that few passes are over all."""
    if len(axes) <= 1:
        if axes:
            yield axes[0], whole
        return
    middle = len(axes) // 2
    left = {name: FOLDS[name](a, axis=tuple(range(middle, len(axes)))) for name, a in whole.items()}
    yield from _each(left, axes[:middle])
    right = {name: FOLDS[name](a, axis=tuple(range(middle))) for name, a in whole.items()}
    yield from _each(right, axes[middle:])


def merged(parts: Sequence[pd.DataFrame], by: Sequence[str]) -> pd.DataFrame:
    """The rows of several parts, added up by what they are of: points, mean, low, high."""
    rows = pd.concat(parts, ignore_index=True)
    found = rows.groupby([*by, "key", "position"], sort=False, dropna=False).agg(
        points=("points", "sum"), sum=("sum", "sum"), low=("low", "min"), high=("high", "max")
    )
    found = found[found["points"] > 0].reset_index()
    return found.assign(mean=found["sum"] / found["points"]).drop(columns="sum")
