"""Which points of a large grid have a row of their own: the Pareto front of the study's objectives, and a sample.

Every point is computed. Of more than can be looked at the others are not stored: the block's configuration makes any of
them again, faster than a disk would give it back. What the axes do over all points is kept as marginals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from archlab.errors import SpecError, nearest
from archlab.sweep.axes import OTHER_KEYS
from archlab.sweep.column_names import of_any_model
from archlab.sweep.evaluate import Points
from archlab.sweep.marginals import marginals
from archlab.sweep.pareto import DEFAULT, LIMIT, Objective, epsilon_front, front, parse_objective
from archlab.sweep.where import Where, parse_where

MOST_FRONT = 20_000
"""Points of a part's front that are stored each: of more, one for each box of 1 % (see epsilon_front)."""

MOST_PLACES = 16
"""Places (a context, a device ...) of a large grid that have a front of their own."""

DEFAULTS = tuple(parse_objective(words).name for words in (*DEFAULT, LIMIT))
"""Objectives where a study names none: of these a device without a rate lacks some."""

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
    """Flat places of the rows to store, why each is of note ("": it is not), whether it keeps every `where`.

    `named` are the calculated columns that the conditions are about.
    """

    places: np.ndarray
    why: np.ndarray
    within: np.ndarray
    n_ok: int
    n_excluded: int
    named: tuple[str, ...] = ()


def notable(points: Points, wanted: Wanted) -> Chosen:
    """The rows of a part. Raises SpecError for a condition or an objective on a column that there is not."""
    condition = _condition(points, wanted.where)
    within = _within(points, condition)
    named = tuple(name for name in condition.names if name not in axis_names(points)) if condition else ()
    n = len(points)
    n_ok = int(points.ok.sum()) * (n // points.ok.size)
    out = points.ok & ~within
    n_out = int(out.sum()) * (n // out.size)
    if wanted.sample == 0:
        return Chosen(np.arange(n), np.full(n, "all"), _at(within, points.shape, np.arange(n)), n_ok, n_out, named)
    sample, best = _spread(n, wanted.sample), _front(points, within & points.ok, wanted)
    places = np.arange(n) if wanted.rows == "all" else np.union1d(sample, best)
    why = np.full(len(places), "", dtype="<U12")
    why[np.searchsorted(places, sample)] = "sample"
    why[np.searchsorted(places, best)] = np.where(np.isin(best, sample), "front sample", "front")
    return Chosen(places, why, _at(within, points.shape, places), n_ok, n_out, named)


def _condition(points: Points, conditions: Sequence[str]) -> Where | None:
    """The conditions, read; the columns of other models may be named too. Raises SpecError."""
    if not conditions:
        return None
    known = known_columns(points)
    try:
        return parse_where(list(conditions), known)
    except SpecError:
        return parse_where(list(conditions), [*known, *of_any_model()])


def _within(points: Points, condition: Where | None) -> np.ndarray:
    """Which points keep the condition: an array that broadcasts over the axes."""
    if condition is None:
        return np.ones((1,) * len(points.shape), dtype=bool)
    known = known_columns(points)
    absent = np.full((1,) * len(points.shape), np.nan)  # a column that these models lack
    return condition.mask(lambda name: column(points, name) if name in known else absent)


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
    """Flat places of the points of the mask that no other of the same workload, device, precision and engine beats."""
    objectives = objectives_in(points, wanted.objectives)
    if not objectives:
        return np.empty(0, dtype=np.int64)
    columns = [np.broadcast_to(column(points, o.name), points.shape) for o in objectives]
    mask = np.broadcast_to(good, points.shape)
    number = np.arange(len(points)).reshape(points.shape)
    found = [np.empty(0, dtype=np.int64)]
    for here in places_with_fronts(points):
        some, own = mask[here].reshape(-1), number[here].reshape(-1)
        flat = [c[here].reshape(-1) for c in columns]
        if not some.all():
            own, flat = own[some], [c[some] for c in flat]
        if len(own):
            found.append(own[_on_front(np.stack(flat).T, objectives, wanted.epsilon)])
    return np.sort(np.concatenate(found))


def _on_front(values: np.ndarray, objectives: Sequence[Objective], epsilon: float | None) -> np.ndarray:
    best = front(values, [o.sense for o in objectives]) if epsilon is None else _thinned(values, epsilon, objectives)
    return best[_thinned(values[best], 0.01, objectives)] if len(best) > MOST_FRONT else best


def objectives_in(points: Points, texts: Sequence[str]) -> list[Objective]:
    """The objectives that the points have: a default, or what other models have, may be missing. Raises SpecError."""
    known = known_columns(points)
    found = []
    for objective in map(parse_objective, texts):
        if objective.name in known:
            found.append(objective)
        elif objective.name not in DEFAULTS and objective.name not in of_any_model():
            raise SpecError(f"unknown column {objective.name!r} in objectives{nearest(objective.name, known)}")
    return found


def places_with_fronts(points: Points) -> Iterator[tuple[Any, ...]]:
    """The parts of the mesh whose points run the same in the same place, as indices.

    Of more places than MOST_PLACES in the whole grid, those spread evenly over them: the same ones in every part.
    """
    axes = [i for i, axis in enumerate(points.axes) if any(key in OTHER_KEYS for key in axis.values)]
    whole = [points.survey.shape[i] for i in axes]
    total = int(np.prod(whole, dtype=int))
    chosen = {*np.linspace(0, total - 1, min(total, MOST_PLACES)).round().astype(int).tolist()}
    for at in np.ndindex(*(points.shape[i] for i in axes)):
        absolute = [points.start[i] + n for i, n in zip(axes, at, strict=True)]
        if not axes or int(np.ravel_multi_index(absolute, whole)) in chosen:
            here: list[Any] = [slice(None)] * len(points.shape)
            for i, n in zip(axes, at, strict=True):
                here[i] = n
            yield tuple(here)


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
