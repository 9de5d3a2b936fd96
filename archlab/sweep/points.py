"""Evaluated points: arrays on an open mesh, read as columns, as rows, or one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from archlab.errors import SpecError, nearest
from archlab.shown import Shown
from archlab.sweep.axes import Axis, show_values
from archlab.sweep.measures import labelled

if TYPE_CHECKING:
    import pandas

    from archlab.sweep.survey import Survey

MOST_REASONS = 1000
"""Refused points of which each is asked why; the others say the rule of a like one."""

MANY = "a rule of the model is broken, as at other points; ask for this one alone to hear which"


@dataclass
class Points(Shown):
    """Evaluated points: an array over the axes for each column; `ok` masks the points that keep every rule.

    start    where they stand on the survey's own axes
    inexact  columns with values of 2**53 or more: within 1e-12, not exact
    """

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    columns: dict[str, np.ndarray]
    ok: np.ndarray
    survey: Survey
    start: tuple[int, ...]
    inexact: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> np.ndarray:
        """A column at every point: a view of the points' shape. Raises SpecError for an unknown name."""
        if name not in self.columns:
            raise SpecError(f"unknown column {name!r}{nearest(name, self.columns)} (known: {', '.join(self.columns)})")
        return np.broadcast_to(labelled(name, self.columns[name]), self.shape)

    def __len__(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    def at(self, position: tuple[int, ...]) -> dict[str, Any]:
        """Key -> value of one point, as it was given."""
        return {key: value for axis, i in zip(self.axes, position, strict=True) for key, value in axis.at(i).items()}

    def reason(self, position: tuple[int, ...]) -> str | None:
        """Why a point is refused, in one sentence; None for a point that stands."""
        if np.broadcast_to(self.ok, self.shape)[tuple(position)]:
            return None
        return self.survey.reason(self.at(position))

    def frame(self, places: np.ndarray | None = None) -> pandas.DataFrame:
        """A row a point, or of those at flat places: axis values, `status`, `reason`, columns.

        A column is null where the point is refused, and where its structure lacks it.
        """
        import pandas

        places = np.arange(len(self)) if places is None else np.asarray(places)
        positions = np.unravel_index(places, self.shape) if self.shape else ()
        rows: dict[str, Any] = {}
        for axis, i in zip(self.axes, positions, strict=True):
            rows |= {key: _taken(values, i) for key, values in axis.values.items()}
        good = _picked(self.ok, positions, len(places))
        rows["status"] = np.where(good, "ok", "refused")
        rows["reason"] = self._reasons(positions, good)
        for name, values in self.columns.items():
            rows[name] = _masked(labelled(name, _picked(values, positions, len(places))), good)
        return pandas.DataFrame(rows)

    def _reasons(self, positions: Sequence[np.ndarray], good: np.ndarray) -> list[str | None]:
        """Why points are refused: asked once of all that differ only along axes on which the mask does not depend."""
        found: list[str | None] = [None] * len(good)
        asked: dict[tuple[int, ...], str | None] = {}
        shape = np.shape(self.ok) or (1,) * len(self.shape)
        for n in np.flatnonzero(~good):
            position = tuple(int(i[n]) for i in positions)
            own = tuple(i if size > 1 else 0 for i, size in zip(position, shape, strict=True))
            if own not in asked:
                asked[own] = self.reason(position) if len(asked) < MOST_REASONS else MANY
            found[n] = asked[own]
        return found


def positions(points: Points) -> Iterator[tuple[int, ...]]:
    """Every point's position, in the order of `frame`."""
    return iter(np.ndindex(*points.shape))


def _taken(values: Any, places: np.ndarray) -> Any:
    """An axis's values at places, as a table shows them."""
    if isinstance(values, np.ndarray):
        return values[places]
    shown = show_values(values)
    return [shown[i] for i in places.tolist()]


def _picked(values: np.ndarray, positions: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Values at n positions of the axes, of an array on an open mesh."""
    if np.ndim(values) == 0:
        return np.broadcast_to(values, n)
    at = tuple(i if size > 1 else 0 for i, size in zip(positions, values.shape, strict=True))
    return np.broadcast_to(values[at], n)


def _masked(values: np.ndarray, good: np.ndarray) -> Any:
    """A column without the values of refused points: NaN, or None among words and truths."""
    if good.all():
        return values
    if values.dtype.kind in "iuf":
        return np.where(good, values, np.nan)
    return [v if g else None for v, g in zip(values.tolist(), good, strict=True)]
