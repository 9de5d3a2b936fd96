"""What each axis does to a number, the mean over all other axes: of marginals.parquet, else of the points of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd

from archlab.report import words
from archlab.report.columns import Quantity, quantity
from archlab.report.load import Run

PLACE = ("base", "workload", "hardware", "precision", "engine")
COLUMNS = ("kv_cache_bytes", "decode_bound_s", "prefill_bound_s", "params", "memory_bytes", "max_context")
"""What axes are drawn for, beside the run's objectives."""
MOST = 6
"""So many columns can be chosen."""
STILL = 1.005
"""An axis whose means differ by less does not move the number."""


@dataclass(frozen=True)
class Axis:
    """An axis of the whole run: of the shape, of the workload or of a device."""

    key: str
    label: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Effect:
    """A number along an axis: at each value how many points count, their mean, the least and the largest."""

    axis: Axis
    values: tuple[Any, ...]
    points: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def ends(self) -> tuple[int, int]:
        """Where the mean is least, and where it is largest."""
        places = range(len(self.mean))
        return min(places, key=lambda i: self.mean[i]), max(places, key=lambda i: self.mean[i])

    @property
    def ratio(self) -> float:
        """The largest mean over the least; 1 where the least is none."""
        least, most = (self.mean[i] for i in self.ends)
        return most / least if least > 0 else 1.0

    @property
    def moves(self) -> bool:
        """It changes the number."""
        return self.ratio >= STILL

    @property
    def is_even(self) -> bool:
        """As many points count at each value."""
        return len(set(self.points)) == 1


@dataclass(frozen=True, eq=False)
class Effects:
    """Every effect of a run: a long table, a row a column, place, axis and value."""

    run: Run
    table: pd.DataFrame

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """Key in the table -> axis. Keys that were varied together are one."""
        named = {str(a["key"]).removeprefix("model."): a for a in self.run.meta["axes"]}
        found = {}
        for key in self.table["key"].unique():
            own = [named[k] for k in str(key).split(" ") if k in named]
            if own:
                label = words.listing([str(a.get("label", a["key"])) for a in own])
                found[key] = Axis(str(key), label, tuple(own[0]["values"]))
        return found

    @cached_property
    def quantities(self) -> list[Quantity]:
        """What some axis moves, the objectives first."""
        there = set(self.table["column"])
        named = [c for c in dict.fromkeys([*_objectives(self.run), *COLUMNS]) if c in there]
        place = self.places[0]
        return [quantity(c) for c in named if any(e.moves for e in self.at(c, place))][:MOST]

    @cached_property
    def places(self) -> list[tuple[Any, ...]]:
        """Base, workload, device, precision and engine of the groups, in their order."""
        return list(self._groups)

    @cached_property
    def _groups(self) -> dict[tuple[Any, ...], dict[str, pd.DataFrame]]:
        groups = self.table.groupby(list(PLACE), sort=False, dropna=False)
        return {
            tuple(None if pd.isna(part) else part for part in key): {
                str(c): rows for c, rows in found.groupby("column", sort=False)
            }
            for key, found in groups
        }

    def at(self, column: str, place: tuple[Any, ...]) -> list[Effect]:
        """The effect of each axis on a column, that which moves it most first."""
        if (column, place) not in self._known:
            rows = self._groups[place].get(column)
            keyed = [] if rows is None else rows.groupby("key", sort=False)
            found = [_effect(self.axes[k], mine) for k, mine in keyed if k in self.axes]
            self._known[column, place] = sorted((e for e in found if len(e.mean) > 1), key=lambda e: -e.ratio)
        return self._known[column, place]

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[Any, ...]], list[Effect]]:
        return {}


def _effect(axis: Axis, rows: pd.DataFrame) -> Effect:
    rows = rows.sort_values("position")
    at = rows["position"].tolist()
    values = tuple(axis.values[i] if i < len(axis.values) else i for i in at)
    numbers = (tuple(float(v) for v in rows[name]) for name in ("mean", "low", "high"))
    return Effect(axis, values, tuple(int(n) for n in rows["points"]), *numbers)


# ---------------------------------------------------------------- where they come from

_KNOWN: WeakKeyDictionary[Run, Effects | None] = WeakKeyDictionary()


def effects(run: Run) -> Effects | None:
    """The effects of a run; None of one that is no grid of two axes or more, and where no axis moves anything."""
    if run not in _KNOWN:
        _KNOWN[run] = _found(run)
    return _KNOWN[run]


def _found(run: Run) -> Effects | None:
    table = run.marginals if len(run.marginals) else _of_points(run)
    if table is None or table.empty:
        return None
    found = Effects(run, table)
    return found if len(found.axes) > 1 and found.quantities else None


def _of_points(run: Run) -> pd.DataFrame | None:
    """The same table of the rows that stand, where these are all of a grid and not a sample of it."""
    rows = run.every[run.every["status"] == "ok"]
    axes = [a for a in run.meta["axes"] if a["key"] in rows.columns]
    for axis in axes:  # a released shape beside the grid is of no row or column of it
        rows = rows[rows[axis["key"]].isin(axis["values"])]
    turned = [a for a in axes if rows[a["key"]].nunique() > 1]
    if len(turned) < 2 or run.meta.get("sampled") or not len(rows):
        return None
    works = rows["workload"].astype("string")
    if any(str(a["key"]).startswith("workload.") for a in axes):
        works = works.str.split(" ").str[0]
    rows = rows.assign(workload=works, **{c: None for c in PLACE if c not in rows.columns})
    names = list(dict.fromkeys([*_objectives(run), *COLUMNS]))
    made = [_along(rows, a, c) for a in turned for c in names if c in rows.columns and rows[c].notna().any()]
    return pd.concat(made, ignore_index=True) if made else None


def _objectives(run: Run) -> list[str]:
    return [str(text).split(" ")[-1] for text in run.meta["objectives"]]


def _along(rows: pd.DataFrame, axis: dict[str, Any], column: str) -> pd.DataFrame:
    place = [c for c in PLACE if c != axis["key"]]  # the precision of a run may be an axis of it
    known = rows.assign(it=rows[column].astype("float64"), at=rows[axis["key"]]).dropna(subset=["it"])
    known = known[[*place, "at", "it"]]
    found = known.groupby([*place, "at"], sort=False, dropna=False)["it"].agg(
        points="count", mean="mean", low="min", high="max"
    )
    found = found.reset_index()
    found["position"] = [axis["values"].index(v) for v in found["at"].tolist()]
    return found.assign(column=column, key=str(axis["key"]).removeprefix("model."), **_absent(place))


def _absent(place: Sequence[str]) -> dict[str, None]:
    return {c: None for c in PLACE if c not in place}


# ---------------------------------------------------------------- in words


def sentence(of: Quantity, found: Sequence[Effect]) -> str:
    """'n_kv_heads moves it most: the mean is 1.07 GiB at 1 and 17.05 GiB at 16, 16 times as high; then d_ff 1.9'."""
    first, *rest = found
    if not first.moves:
        return "No axis moves it."
    rest_moves = [e for e in rest if e.moves]
    still = [e.axis.label for e in rest if not e.moves]
    more = [f"{e.axis.label} {words.times(e.ratio)} times" for e in rest_moves]
    said = f"{first.axis.label} moves it most: {_span(of, first)}, {words.times(first.ratio)} times as high"
    said += f"; then {words.listing(more)}" if more else ""
    verb = "does" if len(still) == 1 else "do"
    return said + (f"; {words.listing(still)} {verb} not move it." if still else ".")


def _span(of: Quantity, effect: Effect) -> str:
    least, most = effect.ends
    low, high = (of.say(effect.mean[i]) for i in (least, most))
    at = [words.axis_tag(effect.values[i]) for i in (least, most)]
    return f"the mean is {low} at {at[0]} and {high} at {at[1]}"
