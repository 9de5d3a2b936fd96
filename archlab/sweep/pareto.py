"""Exact Pareto fronts: the points that no other point beats, of a whole array, of a stream, and thinned to boxes.

A row beats another where it is at most as large in every objective and smaller in one; equal rows do not beat each
other, so all copies of a point of the front are kept. Objectives are made smaller; a sense of "max" turns one round.
A row with NaN or an infinity in any objective is left out: nobody can choose it.

The way: the rows of a sample that beat most of it sweep away the bulk (exact: whatever they beat is beaten). What is
left is sorted by all objectives and halved: rows of the second half never beat one of the first, so a front is the
first half's front and what it does not reach of the second's. (H. T. Kung, F. Luccio, F. P. Preparata, "On finding the
maxima of a set of vectors", JACM 22(4), 1975: O(n log^(k-2) n) for k objectives, also where all n are on the front.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archlab.errors import SpecError, nearest

SENSES = ("min", "max")

_SAMPLE = 1024  # rows that show which others sweep well; at most _FEW
_GUIDES = 8  # sweeping rows of one round
_FEW = 4096  # rows that are not worth a sweep
_LEAF = 64  # rows that are compared with each other at once
_PAIRS = 2**17  # comparisons that are made at once
_WORTH = 0.7  # a round that leaves more than this share is the last


DEFAULT = ("min memory_bytes", "min prefill_bound_s", "min decode_bound_s")
"""What is made small where nothing is said, and, where limits are asked, LIMIT besides."""

LIMIT = "max max_context"


@dataclass(frozen=True)
class Objective:
    """A column to make small (min) or large (max)."""

    name: str
    sense: str = "min"

    def __str__(self) -> str:
        return f"{self.sense} {self.name}"


def parse_objective(text: str, known_names: Iterable[str] | None = None) -> Objective:
    """'min decode_s', 'max max_context', or 'decode_s', which is made small.

    A column named max_... or min_... needs its sense: `max_context` alone would ask for the smallest.
    Raises SpecError for another sense, an unknown name (where names are given), or a missing sense.
    """
    words = text.split() if isinstance(text, str) else []
    if not 1 <= len(words) <= 2:
        raise SpecError(f"objective={text!r} must be a column, or min or max and a column, as 'min decode_bound_s'")
    name, sense = words[-1], words[0] if len(words) == 2 else "min"
    if sense not in SENSES:
        raise SpecError(f"objective={text!r} must begin with min or max{nearest(sense, SENSES)}")
    if len(words) == 1 and name.startswith(("min_", "max_")):
        raise SpecError(f"objective={text!r} needs its sense: write 'max {name}' or 'min {name}'")
    known = None if known_names is None else list(known_names)
    if known is not None and name not in known:
        raise SpecError(f"unknown column {name!r}{nearest(name, known)}")
    return Objective(name, sense)


def front(values: Any, senses: Sequence[str] | None = None) -> np.ndarray:
    """Indices of the rows of (n, k) that no row beats, in rising order. Raises SpecError for another shape or sense."""
    rows, columns = _finite(_columns(values, senses))
    return np.sort(rows[_front(columns)])


def epsilon_front(values: Any, epsilon: float, senses: Sequence[str] | None = None) -> np.ndarray:
    """Indices of few rows of the front that stand for all: every row is within a factor 1 + epsilon of one of them.

    The epsilon-Pareto set with boxes of M. Laumanns, L. Thiele, K. Deb, E. Zitzler, "Combining convergence and
    diversity in evolutionary multiobjective optimization", Evolutionary Computation 10(3), 2002: a row lies in the box
    floor(log(value) / log(1 + epsilon)), and of each box that no other box beats one row of the front is kept: the one
    nearest to the box's best corner, in logs, the first of equals. A maximised value counts as 1 / value.
    Raises SpecError unless epsilon is above 0 and all finite values are.
    """
    if not 0 < epsilon < np.inf:
        raise SpecError(f"epsilon={epsilon!r} must be above 0, such as 0.05 for boxes of 5 %")
    found = front(values, senses)
    kept = _columns(values, None)[:, found]
    if (kept <= 0).any():
        raise SpecError("epsilon needs values above 0: a factor of 1 + epsilon around 0 or less says nothing")
    logs = _turned(np.log(kept), senses) / np.log1p(epsilon)
    boxes = np.floor(logs)
    best = _front(boxes)
    away = np.square(logs - boxes).sum(axis=0)[best]
    order = np.lexsort((best, away, *boxes[:, best]))
    first = _changes(boxes[:, best][:, order])
    return np.sort(found[best[order[first]]])


@dataclass
class Front:
    """A front of points that come in chunks: after every `add`, the front of all that came.

    ids     what was given with the points that are left, in the order in which they came
    values  their objectives (n, k), as they were given
    """

    senses: Sequence[str] | None = None
    ids: np.ndarray = field(init=False, default_factory=lambda: np.empty(0, dtype=np.int64))
    seen: int = field(init=False, default=0)
    _kept: np.ndarray | None = field(init=False, default=None, repr=False)  # (k, n), all to be made small

    @property
    def values(self) -> np.ndarray:
        """(n, k); (0, 0) before the first chunk."""
        return np.empty((0, 0)) if self._kept is None else _turned(self._kept, self.senses).T.copy()

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, values: Any, ids: Any = None) -> None:
        """Takes a chunk (n, k); ids are n of anything, else the number of the row in the stream, from 0.

        Raises SpecError for another number of objectives than before, or of ids than rows.
        """
        columns = _columns(values, self.senses)
        count = columns.shape[1]
        named = np.arange(self.seen, self.seen + count) if ids is None else np.asarray(ids)
        kept = np.empty((len(columns), 0)) if self._kept is None else self._kept
        if named.shape != (count,):
            raise SpecError(f"ids must be one for each of {count} rows, not of shape {named.shape}")
        if len(kept) != len(columns):
            raise SpecError(f"a chunk of {len(columns)} objectives cannot join a front of {len(kept)}")
        rows, columns = _finite(columns)
        rows, columns = _swept(rows, columns, kept)
        both = np.concatenate([kept, columns], axis=1)
        left = np.sort(_front(both))
        self._kept = both[:, left]
        self.ids = np.concatenate([self.ids, named[rows]])[left] if self.seen else named[rows][left]
        self.seen += count


# ---------------------------------------------------------------- columns: (k, n), each objective contiguous


def _columns(values: Any, senses: Sequence[str] | None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise SpecError(f"a front needs points of shape (n, k), not {array.shape}")
    return _turned(np.ascontiguousarray(array.T), senses)


def _turned(columns: np.ndarray, senses: Sequence[str] | None) -> np.ndarray:
    """The columns with the maximised ones negated. Raises SpecError for senses that do not match."""
    if senses is None:
        return columns
    if len(senses) != len(columns):
        raise SpecError(f"senses={list(senses)!r} must be one for each of {len(columns)} objectives")
    for sense in senses:
        if sense not in SENSES:
            raise SpecError(f"sense={sense!r} must be min or max{nearest(sense, SENSES)}")
    return columns * np.array([[-1.0 if sense == "max" else 1.0] for sense in senses])


def _finite(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of the rows that have no NaN and no infinity, their columns)."""
    good = np.isfinite(columns).all(axis=0)
    return np.flatnonzero(good), columns if good.all() else columns[:, good]


def _changes(columns: np.ndarray) -> np.ndarray:
    """Of sorted columns, True where a row differs from the one before it."""
    first = np.ones(columns.shape[1], dtype=bool)
    first[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
    return first


def _front(columns: np.ndarray) -> np.ndarray:
    """Numbers of the rows that no row beats, in any order."""
    rows = np.arange(columns.shape[1])
    if not len(rows) or len(columns) == 1:
        return rows[columns[0] == columns[0].min(initial=np.inf)]
    rows, columns = _swept(rows, columns)
    order = np.lexsort(columns[::-1])
    ordered = columns[:, order]
    first = _changes(ordered)
    distinct = ordered[:, first]
    best = np.zeros(distinct.shape[1], dtype=bool)
    best[_best_of_sorted(distinct)] = True
    return rows[order[best[np.cumsum(first) - 1]]]


# ---------------------------------------------------------------- the sweep


def _swept(rows: np.ndarray, columns: np.ndarray, by: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) less most of what a few rows beat: rows of `by` in a first round, of a sample in the others."""
    while columns.shape[1] > _FEW:
        before = columns.shape[1]
        sample = _sampled(columns)
        members = sample[:, _front(sample)] if by is None or not by.shape[1] else _sampled(by)
        for guide in _guides(members, sample):
            left = ~_beaten(guide, columns)
            rows, columns = rows[left], columns[:, left]
        if by is None and columns.shape[1] > _WORTH * before:
            break
        by = None
    return rows, columns


def _sampled(columns: np.ndarray) -> np.ndarray:
    """At most _SAMPLE rows, by chance (a fixed one: a grid that is taken at even steps shows one edge)."""
    count = columns.shape[1]
    if count <= _SAMPLE:
        return columns
    return columns[:, np.random.default_rng(0).integers(0, count, _SAMPLE)]


def _guides(members: np.ndarray, sample: np.ndarray) -> list[np.ndarray]:
    """The few members that together beat most of the sample, the best first."""
    beats = np.stack([_beaten(member, sample) for member in members.T])
    chosen: list[np.ndarray] = []
    while len(chosen) < _GUIDES:
        gains = beats.sum(axis=1)
        best = int(gains.argmax())
        if gains[best] * 100 <= sample.shape[1]:
            break
        chosen.append(members[:, best])
        beats &= ~beats[best]
    return chosen


def _beaten(guide: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether the guide beats each row."""
    reached = columns[0] >= guide[0]
    beyond = columns[0] > guide[0]
    for own, column in zip(guide[1:], columns[1:], strict=True):
        reached &= column >= own
        beyond |= column > own
    return reached & beyond


# ---------------------------------------------------------------- halving


def _best_of_sorted(columns: np.ndarray) -> np.ndarray:
    """Numbers of the rows that no row beats; rows are distinct and sorted by the first column, then the second ..."""
    count = columns.shape[1]
    if len(columns) == 2:
        lowest = np.minimum.accumulate(columns[1])
        return np.flatnonzero(np.concatenate([[True], columns[1][1:] < lowest[:-1]]))
    if count <= _LEAF:
        return np.flatnonzero(_pairs(columns, columns).sum(axis=0) == 1)  # itself
    half = count // 2
    first = _best_of_sorted(columns[:, :half])
    second = half + _best_of_sorted(columns[:, half:])
    return np.concatenate([first, second[~_reached(columns[1:, first], columns[1:, second])]])


def _pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(rows of a, rows of b): whether a is at most b in every column."""
    found = a[0][:, None] <= b[0]
    for own, other in zip(a[1:], b[1:], strict=True):
        found &= own[:, None] <= other
    return found


def _reached(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether some row of a is at most a row of b in every column, for each row of b."""
    if not a.shape[1] or not b.shape[1]:
        return np.zeros(b.shape[1], dtype=bool)
    if len(a) == 1:
        return np.asarray(b[0] >= a[0].min())
    if len(a) == 2:
        return _reached_in_two(a, b)
    if a.shape[1] * b.shape[1] <= _PAIRS:
        return np.asarray(_pairs(a, b).any(axis=0))
    if a[0].max() <= b[0].min():
        return _reached(a[1:], b[1:])
    return _reached_by_halves(a, b)


def _reached_in_two(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    order = np.argsort(a[0])
    lowest = np.concatenate([[np.inf], np.minimum.accumulate(a[1][order])])
    return np.asarray(lowest[np.searchsorted(a[0][order], b[0], side="right")] <= b[1])


def _reached_by_halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Both cut at a middle of the first column: a row below it reaches one above it whatever that column says."""
    middle = _middle(np.concatenate([a[0], b[0]]))
    low_a, low_b = a[0] <= middle, b[0] <= middle
    found = np.empty(b.shape[1], dtype=bool)
    found[low_b] = _reached(a[:, low_a], b[:, low_b])
    found[~low_b] = _reached(a[:, ~low_a], b[:, ~low_b])
    rest = np.flatnonzero(~low_b & ~found)
    found[rest] = _reached(a[1:, low_a], b[1:, rest])
    return found


def _middle(values: np.ndarray) -> float:
    """The median, or where that is the largest value the one below it: something lies on either side."""
    half = len(values) // 2
    middle = np.partition(values, half)[half]
    top = values.max()
    return float(middle if middle < top else values[values < top].max())
