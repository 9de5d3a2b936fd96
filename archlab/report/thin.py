"""Which rows of a large run a page shows: some hundred points, at workloads that most of them share.

The points of models as they are released, those on a front, the extremes, and an even sample of the rest. What an axis
does over all points is in marginals.parquet, and all rows are in points.parquet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

import pandas as pd

T = TypeVar("T")

MOST = 120
"""Points of a page."""
ROWS = 4000
"""Rows of a page."""
WORKLOADS = 4
"""Workloads of a page that has more rows than that."""

_FRONT, _BASES, _DRAWN, _LOST = 70, 30, 12, 20
"""At most so many points of a front, bases, points that have curves, rows that could not be computed."""

_EXTREMES = ("params", "kv_cache_bytes", "memory_bytes", "prefill_bound_s", "decode_bound_s")

GOLDEN = (5**0.5 - 1) / 2

STANDS = ("ok", "excluded")
"""Statuses of rows that have numbers."""


def thinned(points: pd.DataFrame, drawn: Collection[str] = ()) -> pd.DataFrame:
    """The rows that a page shows, in their order: all of a small run. `drawn` are the points that have curves."""
    if points["point"].nunique() <= MOST and len(points) <= ROWS:
        return points
    standing = points[points["status"].isin(STANDS)]
    lost = evenly(points.index[~points["status"].isin(STANDS)], _LOST)
    rows = standing[standing["workload"].isin(_workloads(standing))]
    kept = rows[rows["point"].isin(_names(rows, drawn))]
    return points.loc[sorted({*kept.index, *lost})]


def evenly(items: Iterable[T], most: int) -> list[T]:
    """At most so many of some items, evenly spread, the first and the last among them."""
    every = list(items)
    if len(every) <= most:
        return every
    return [every[i * (len(every) - 1) // (most - 1)] for i in range(most)] if most > 1 else every[: max(most, 0)]


def scattered(items: Sequence[T], most: int) -> list[T]:
    """So many items, spread by the golden ratio: even steps through a grid would meet the same values of an axis."""
    n, places = len(items), dict[int, None]()
    for i in range(n * 4):
        if len(places) == min(most, n):
            break
        places[int(i * GOLDEN % 1 * n)] = None
    return [items[place] for place in sorted(places)]


def _workloads(rows: pd.DataFrame) -> list[str]:
    """Some workloads, the shortest and the longest among them; one where few points are at more than one.

    A sample of a grid has each shape at a workload or two: then tables at several would be empty for the most part.
    """
    order = [c for c in ("context", "batch") if c in rows.columns]
    counts = rows["workload"].value_counts()
    works = rows.drop_duplicates("workload").sort_values(order, kind="stable")["workload"]
    some = evenly(works, WORKLOADS if len(rows) > ROWS else len(works))
    there = rows[rows["workload"].isin(some)].groupby("point")["workload"].nunique()
    if len(some) < 2 or (there == len(some)).mean() >= 0.5:
        return some
    return [w for w in works if counts[w] * 2 >= counts.max()][-1:]


def _names(rows: pd.DataFrame, drawn: Collection[str]) -> set[str]:
    firsts = rows.drop_duplicates("point")
    names = firsts["point"]
    kept = set(evenly(names[firsts["is_base"].fillna(False).astype(bool)], _BASES)) if "is_base" in rows else set()
    kept |= set(_extremes(rows)) | set(evenly(names[names.isin(list(drawn))], _DRAWN))
    kept |= set(evenly(_on_front(rows), _FRONT))
    return kept | set(scattered([n for n in names if n not in kept], MOST - len(kept)))


def _on_front(rows: pd.DataFrame) -> Sequence[str]:
    if "front" not in rows.columns:
        return []
    return list(rows.loc[rows["front"].fillna(False).astype(bool), "point"].drop_duplicates())


def _extremes(rows: pd.DataFrame) -> set[str]:
    """The least and the largest of each base, of what a page compares first."""
    found = set()
    for _, mine in rows[rows["status"] == "ok"].groupby("base", sort=False):
        for column in (c for c in _EXTREMES if c in mine.columns):
            known = mine[column].dropna()
            if len(known):
                found |= {mine["point"][known.idxmin()], mine["point"][known.idxmax()]}
    return found
