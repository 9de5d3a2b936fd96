"""Which points of a large grid have a row of their own: the Pareto front of the study's objectives, and a sample.

Every point is computed. Of more than can be looked at the others are not stored: the block's configuration makes any of
them again, faster than a disk would give it back. What the axes do over all points is kept as marginals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from archlab.sweep.evaluate import Points
from archlab.sweep.marginals import marginals
from archlab.sweep.pareto import Objective, epsilon_front, front, parse_objective
from archlab.sweep.where import parse_where

MOST_FRONT = 20_000
"""Points of a part's front that are stored each: of more, one for each box of 1 % (see epsilon_front)."""

MARGINAL = ("params", "kv_cache_bytes", "memory_bytes", "prefill_bound_s", "decode_bound_s", "max_context")
"""Columns whose marginals a large grid keeps, beside its objectives'."""

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Wanted:
    """Which rows are stored.

    rows    all | kept (those of note)
    sample  rows of a part that are of note as a sample; 0: every row is, as the run is small
    where, objectives, epsilon   of the study
    """

    rows: str = "all"
    sample: int = 0
    where: Sequence[str] = ()
    objectives: Sequence[str] = ()
    epsilon: float | None = None


@dataclass(frozen=True)
class Chosen:
    """Flat places of the rows to store, why each is of note ("": it is not), whether it keeps every `where`."""

    places: np.ndarray
    why: np.ndarray
    within: np.ndarray
    n_ok: int


def notable(points: Points, wanted: Wanted) -> Chosen:
    """The rows of a part. Raises SpecError for a condition or an objective on a column that there is not."""
    within = _within(points, wanted.where)
    n = len(points)
    n_ok = int(points.ok.sum()) * (n // points.ok.size)
    if wanted.sample == 0:
        return Chosen(np.arange(n), np.full(n, "all"), _at(within, points.shape, np.arange(n)), n_ok)
    sample, best = _spread(n, wanted.sample), _front(points, within & points.ok, wanted)
    places = np.arange(n) if wanted.rows == "all" else np.union1d(sample, best)
    why = np.full(len(places), "", dtype="<U12")
    why[np.searchsorted(places, sample)] = "sample"
    why[np.searchsorted(places, best)] = np.where(np.isin(best, sample), "front sample", "front")
    return Chosen(places, why, _at(within, points.shape, places), n_ok)


def _within(points: Points, conditions: Sequence[str]) -> np.ndarray:
    """Which points keep the conditions: an array that broadcasts over the axes."""
    if not conditions:
        return np.ones((1,) * len(points.shape), dtype=bool)
    return parse_where(list(conditions), known_columns(points)).mask(lambda name: column(points, name))


def _at(mask: np.ndarray, shape: tuple[int, ...], places: np.ndarray) -> np.ndarray:
    """A mask that broadcasts to a shape, at flat places of it."""
    if mask.all():
        return np.ones(len(places), dtype=bool)
    whole = np.broadcast_to(mask, shape)
    return whole[np.unravel_index(places, shape)] if shape else whole.reshape(1)[places]


def known_columns(points: Points) -> list[str]:
    """What a condition may name: the axes, as a sweep names them, and the columns."""
    return [*axis_names(points), *points.columns]


def axis_names(points: Points) -> dict[str, str]:
    """Axis key as a sweep writes it -> as it is: model keys begin with their group."""
    grouped = ("workload.", "hardware", "precision", "engine")
    return {k if k.startswith(grouped) else f"model.{k}": k for axis in points.axes for k in axis.values}


def column(points: Points, name: str) -> np.ndarray:
    """A column, or an axis's values, as an array that broadcasts over the axes; null where a point is refused."""
    names = axis_names(points)
    if name not in names:
        return points[name]
    for i, axis in enumerate(points.axes):
        if names[name] in axis.values:
            shape = [1] * len(points.axes)
            shape[i] = len(axis)
            return np.asarray(axis.values[names[name]]).reshape(shape)
    raise KeyError(name)


def _front(points: Points, good: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Flat places of the points of the mask that no other beats."""
    objectives = [o for o in map(parse_objective, wanted.objectives) if o.name in points.columns]
    every = bool(good.all())
    candidates = None if every else np.flatnonzero(np.broadcast_to(good, points.shape))
    n = len(points) if candidates is None else len(candidates)
    if not objectives or not n:
        return np.empty(0, dtype=np.int64)
    columns = np.empty((len(objectives), n))
    for row, objective in zip(columns, objectives, strict=True):
        if candidates is None:
            np.copyto(row.reshape(points.shape), points[objective.name])
        else:
            row[:] = points[objective.name].reshape(-1)[candidates]
    values, senses = columns.T, [o.sense for o in objectives]
    best = front(values, senses) if wanted.epsilon is None else _thinned(values, wanted.epsilon, objectives)
    if len(best) > MOST_FRONT:
        best = best[_thinned(values[best], 0.01, objectives)]
    return best if candidates is None else candidates[best]


def _thinned(values: np.ndarray, epsilon: float, objectives: Sequence[Objective]) -> np.ndarray:
    """One of each box of points alike, where all values are above 0: a front in factors."""
    senses = [o.sense for o in objectives]
    good = np.flatnonzero((values > 0).all(axis=1))
    return good[epsilon_front(values[good], epsilon, senses)] if len(good) else front(values, senses)


def _spread(n: int, size: int) -> np.ndarray:
    """Places spread evenly over n without falling into step with an axis: multiples of the golden ratio."""
    if size >= n:
        return np.arange(n)
    return np.unique((np.arange(size) * GOLDEN % 1 * n).astype(np.int64))


def marginal_rows(points: Points, part: tuple[slice, ...], wanted: Wanted) -> pd.DataFrame | None:
    """The marginals of a part of a large grid; None of a small one, whose rows say it all."""
    if wanted.sample == 0 or not points.axes:
        return None
    names = list(dict.fromkeys([*(parse_objective(o).name for o in wanted.objectives), *MARGINAL]))
    keys = [" ".join(axis.values) for axis in points.axes]
    places = [range(p.start, p.stop) for p in part]
    found = [
        marginals(points.columns[name], points.ok, keys, places).assign(column=name)
        for name in names
        if name in points.columns and points.columns[name].dtype.kind in "fi"
    ]
    return pd.concat(found, ignore_index=True) if found else None
