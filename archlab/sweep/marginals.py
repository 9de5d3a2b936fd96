"""What a column is at each value of an axis, over all others: sums, lows and highs that add up over parts of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pandas as pd

Reduced = Mapping[str, np.ndarray]
"""points, sum, low, high: arrays over the axes that are left; where all points count, no `points`."""

FOLDS: Mapping[str, Callable[..., Any]] = {"points": np.sum, "sum": np.sum, "low": np.min, "high": np.max}


def marginals(
    values: np.ndarray, mask: np.ndarray, keys: Sequence[str], places: Sequence[Sequence[int]]
) -> pd.DataFrame:
    """A row for each position of each axis: key, position, points, sum, low, high over the points of the mask.

    values, mask   arrays on the open mesh of the axes: of 1 along an axis on which they do not depend
    keys, places   of each axis its name, and the position of each of its entries in the whole grid
    """
    shape = tuple(len(p) for p in places)
    if not shape:
        return pd.DataFrame()
    mask = mask & np.isfinite(values)
    if mask.all():
        whole: Reduced = {"sum": values, "low": values, "high": values}
    else:
        values, mask = np.broadcast_arrays(values, mask)
        whole = {"points": mask, "sum": np.where(mask, values, 0.0)}
        whole = {**whole, "low": np.where(mask, values, np.inf), "high": np.where(mask, values, -np.inf)}
    times = prod(shape) / values.size  # points that each number stands for
    found = [_whole(numbers, times, shape, axis) for axis, numbers in _each(whole, list(range(len(shape))))]
    names = {"key": np.repeat(np.asarray(keys, dtype=object), shape), "position": np.concatenate(places)}
    return pd.DataFrame({**names, **{k: np.concatenate([own[k] for own in found]) for k in FOLDS}})


def _whole(found: Reduced, times: float, shape: Sequence[int], axis: int) -> dict[str, np.ndarray]:
    """Numbers of an axis's positions; of one on which nothing depends, each position's share."""
    n = shape[axis]
    counted = {"points": np.full(n, prod(shape) / n)} if "points" not in found else {}
    share = times * len(found["sum"]) / n
    scaled = {k: v * share if k in ("points", "sum") else v for k, v in found.items()}
    return counted | {k: v if len(v) == n else np.repeat(v, n) for k, v in scaled.items()}


def _each(whole: Reduced, axes: list[int]) -> Iterator[tuple[int, Reduced]]:
    """(axis, its numbers): half of the axes are folded away, then the other half, so that few passes are over all."""
    if len(axes) <= 1:
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
