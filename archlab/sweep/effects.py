"""What each axis of a full grid does to a number: means along it, ratios to a base, and its share of the variance.

Values come as one array over the axes, a broadcast view as well as a whole one: along an axis where a view only
repeats itself nothing is computed, and the rest is read in blocks. A mesh of 10^8 points costs what its distinct values
cost.
Columns of yes and no count as 1 and 0: their mean is the share of the points that, say, fit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from archlab.errors import SpecError, nearest
from archlab.sweep.evaluate import Points
from archlab.sweep.where_values import unrepeated

_BLOCK = 2**18  # values that are read at once: 2 MB, which a cache holds

At = tuple[slice, ...]


def axes_of(points: Points) -> dict[str, list[Any]]:
    """Axis -> values of evaluated points, as the functions below take them; linked keys are one axis of tuples."""
    named = [(" + ".join(axis.values), list(axis.values.values())) for axis in points.axes]
    return {name: list(lists[0]) if len(lists) == 1 else list(zip(*lists, strict=True)) for name, lists in named}


def main_effects(
    values: Any,
    axes: Mapping[str, Sequence[Any]],
    base: Mapping[str, Any] | None = None,
    mask: Any = None,
) -> pd.DataFrame:
    """A row an axis and value: `axis`, `value`, `points` (that count), `mean`, `min`, `max`, `ratio`.

    values  broadcastable to the lengths of the axes, in their order
    base    axis -> the value that ratios are to; the first one where an axis is not named
    mask    broadcastable too: points that count; NaN and infinities never do
    ratio   geometric mean of value / value at the base, over pairs of points that differ in this axis alone and both
            count. NaN where there is no such pair, or where a value that counts is 0 or less.
    Raises SpecError for another shape, for text, and for a base that is no value of its axis.
    """
    mesh = _mesh(values, axes, mask)
    given = dict(base or {})
    for name in given:
        if name not in axes:
            raise SpecError(f"base names the axis {name!r}, which is none{nearest(name, axes)}")
    starts = [_position(name, options, given) for name, options in axes.items()]
    frames = [
        pd.DataFrame({"axis": name, "value": _column(options), **_effect(mesh, i, starts[i])})
        for i, (name, options) in enumerate(axes.items())
    ]
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Shares:
    """Shares of a variance. `table` is None where they cannot be had, and `sentence` says why; else what they are of.

    table  a row an axis, a row a pair of axes ("a x b"), and "higher order": `term`, `order` (1, 2, 3), `share`; the
           shares sum to 1
    """

    table: pd.DataFrame | None
    sentence: str


def variance_shares(values: Any, axes: Mapping[str, Sequence[Any]], mask: Any = None) -> Shares:
    """How much of the variance over a complete grid each axis explains alone, each pair besides, and all the rest.

    The functional ANOVA (I. M. Sobol, "Sensitivity estimates for nonlinear mathematical models", 1993) with the grid's
    own uniform weights: a share is the variance of the means along an axis over the total; a pair's is that of its
    means less both axes' own. Of log(value) where every value is above 0 (factors then have no interaction), else of
    the value. The parts are orthogonal on a complete grid only: where points are masked, there is no table.
    Raises SpecError for another shape, and for text.
    """
    mesh = _mesh(values, axes, mask)
    if not all(mesh.kept[at].all() for at in _blocks(mesh.kept.shape)):
        return Shares(None, "Some points do not count, and shares of variance add up on a complete grid only.")
    logs = all(bool((mesh.values[at] > 0).all()) for at in _blocks(mesh.values.shape))
    moving = [i for i, n in enumerate(mesh.values.shape) if n > 1]
    terms = [*((i,) for i in moving), *itertools.combinations(moving, 2)]
    spread, means = _marginals(mesh.values, terms, logs)
    if not spread:
        return Shares(None, "The value is the same at every point: there is no variance to share.")
    of = {term: float(np.square(mean).mean()) / spread for term, mean in means.items()}
    names = list(axes)
    alone = {names[i]: of.get((i,), 0.0) for i in range(len(names))}
    pairs = {
        f"{names[i]} x {names[j]}": max(of[i, j] - of[(i,)] - of[(j,)], 0.0) if (i, j) in of else 0.0
        for i, j in itertools.combinations(range(len(names)), 2)
    }
    rest = max(1.0 - sum(alone.values()) - sum(pairs.values()), 0.0)
    rows = [*((n, 1, s) for n, s in alone.items()), *((n, 2, s) for n, s in pairs.items()), ("higher order", 3, rest)]
    table = pd.DataFrame(rows, columns=["term", "order", "share"])
    return Shares(table, f"Shares of the variance of {'log(value)' if logs else 'the value'} over the whole grid.")


# ---------------------------------------------------------------- the mesh


@dataclass(frozen=True)
class _Mesh:
    """Distinct values and the mask, each of size 1 along axes where it repeats itself, and the lengths of all axes."""

    values: np.ndarray
    kept: np.ndarray
    shape: tuple[int, ...]

    @property
    def distinct(self) -> tuple[int, ...]:
        """The shape that holds every pair of a value and its mask once."""
        return np.broadcast_shapes(self.values.shape, self.kept.shape)


def _mesh(values: Any, axes: Mapping[str, Sequence[Any]], mask: Any) -> _Mesh:
    shape = tuple(len(options) for options in axes.values())
    array = np.asarray(values)
    if not shape or 0 in shape:
        raise SpecError("effects need one or more axes, each with values")
    if array.dtype.kind not in "biuf":
        raise SpecError(f"effects are of numbers, or of yes and no, not of values of type {array.dtype}")
    kept = np.asarray(True if mask is None else mask, dtype=bool)
    try:
        array, kept = (unrepeated(np.broadcast_to(a, shape)) for a in (array, kept))
    except ValueError:
        raise SpecError(f"values and mask must broadcast to the axes' lengths {shape}, unlike {array.shape}") from None
    if array.dtype.kind == "f" and not all(np.isfinite(array[at]).all() for at in _blocks(array.shape)):
        kept = kept & np.isfinite(array)
    return _Mesh(array, kept, shape)


def _position(name: str, options: Sequence[Any], base: Mapping[str, Any]) -> int:
    if name not in base:
        return 0
    if base[name] not in options:
        raise SpecError(f"base has {name}={base[name]!r}, which is not among its values {list(options)}")
    return list(options).index(base[name])


def _column(options: Sequence[Any]) -> pd.Series:
    """Axis values as they are: pandas would read tuples and lists as more columns."""
    column = pd.Series([None] * len(options), dtype=object)
    for i, option in enumerate(options):
        column.iat[i] = option
    return column


def _blocks(shape: tuple[int, ...], most: int = _BLOCK) -> Iterator[At]:
    """Slices that together cover a shape, each of at most `most` entries where an axis can be cut."""
    inner, lead = math.prod(shape), 0
    while inner > most and lead < len(shape):
        inner //= shape[lead]
        lead += 1
    if lead == 0:
        yield (slice(None),) * len(shape)
        return
    step = max(1, most // max(inner, 1))
    for outer in np.ndindex(*shape[: lead - 1]):
        for start in range(0, shape[lead - 1], step):
            fixed = (slice(i, i + 1) for i in outer)
            yield (*fixed, slice(start, start + step), *(slice(None),) * (len(shape) - lead))


# ---------------------------------------------------------------- main effects


@dataclass
class _Tally:
    """Sums along one axis, an entry a value of it."""

    size: int

    def __post_init__(self) -> None:
        self.count, self.total, self.pairs, self.logs = np.zeros((4, self.size))
        self.least, self.most = np.full(self.size, np.inf), np.full(self.size, -np.inf)
        self.positive = True

    def add(self, values: np.ndarray, kept: np.ndarray, start: int) -> None:
        """Takes (size, n) values and which count."""
        whole = bool(kept.all())  # then nothing is to be blanked out

        def blanked(array: np.ndarray, blank: float, where: np.ndarray = kept) -> np.ndarray:
            return array if whole else np.where(where, array, blank)

        self.count += kept.sum(axis=1)
        self.total += blanked(values, 0.0).sum(axis=1)
        self.least = np.minimum(self.least, blanked(values, np.inf).min(axis=1))
        self.most = np.maximum(self.most, blanked(values, -np.inf).max(axis=1))
        self.positive = self.positive and bool((self.least > 0).all())
        if self.positive:
            logs, both = np.log(blanked(values, 1.0)), kept & kept[start]
            self.pairs += both.sum(axis=1)
            self.logs += blanked(logs - logs[start], 0.0, both).sum(axis=1)

    def columns(self, times: int) -> dict[str, np.ndarray]:
        """The statistics, NaN where nothing counts. `times`: how often each entry stands in the whole mesh."""
        some = self.count > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.exp(self.logs / self.pairs) if self.positive else np.full(self.size, np.nan)
            mean = self.total / self.count
        return {
            "points": (self.count * times).astype(np.int64),
            "mean": mean,
            "min": np.where(some, self.least, np.nan),
            "max": np.where(some, self.most, np.nan),
            "ratio": ratio,
        }


def _effect(mesh: _Mesh, axis: int, start: int) -> dict[str, np.ndarray]:
    """The statistics along one axis; computed once for all its values where the mesh repeats itself along it."""
    distinct = mesh.distinct
    values, kept = (np.moveaxis(np.broadcast_to(a, distinct), axis, 0) for a in (mesh.values, mesh.kept))
    size = distinct[axis]
    tally = _Tally(size)
    for at in _blocks(values.shape[1:], max(1, _BLOCK // size)):
        block = values[(slice(None), *at)].reshape(size, -1).astype(np.float64)
        tally.add(block, kept[(slice(None), *at)].reshape(size, -1), start if size > 1 else 0)
    rest = math.prod(mesh.shape) // mesh.shape[axis]
    found = tally.columns(rest // (math.prod(distinct) // size))
    return {name: np.broadcast_to(column, mesh.shape[axis]) for name, column in found.items()}


# ---------------------------------------------------------------- variance


def _marginals(
    values: np.ndarray, terms: Sequence[tuple[int, ...]], logs: bool
) -> tuple[float, dict[tuple[int, ...], np.ndarray]]:
    """(the variance, term -> means over the other axes less the mean of all), of logs or of the values themselves."""

    def read(at: At) -> np.ndarray:
        block = values[at].astype(np.float64)
        return np.log(block) if logs else block

    centre = sum(float(read(at).sum()) for at in _blocks(values.shape)) / values.size
    sums = {term: np.zeros([values.shape[i] for i in term]) for term in terms}
    squares = 0.0
    for at in _blocks(values.shape):
        block = read(at) - centre
        squares += float(np.square(block).sum())
        for term in terms:
            others = tuple(i for i in range(values.ndim) if i not in term)
            sums[term][tuple(at[i] for i in term)] += block.sum(axis=others)
    means = {term: total * (total.size / values.size) for term, total in sums.items()}
    return _unless_noise(squares / values.size, centre), means


def _unless_noise(variance: float, centre: float) -> float:
    """0 for what is left of a constant by rounding."""
    return variance if variance > (1e-14 * abs(centre)) ** 2 else 0.0
