"""A run folder, read and checked: run.json beside points and what else the run has as parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from archlab.errors import ArchlabError
from archlab.report.thin import thinned

SCHEMA = 1
"""The newest run.json that this version reads."""

KINDS = ("study", "compare", "family")

_SHAPE: dict[str, tuple[type, ...]] = {
    "name": (str,), "question": (str,), "axes": (list,), "bases": (list,), "hardware": (dict,), "workloads": (dict,),
    "precisions": (dict,), "formulas": (list,), "assumptions": (list,), "provenance": (dict,), "objectives": (list,),
    "evidence": (list,), "notes": (list,), "diagrams": (list,),
}  # fmt: skip
"""Key of run.json -> what it must be."""

PLACES = ("workload.", "hardware", "precision", "engine")
"""How keys begin that say where and how a point runs: axes of the run, and none of the shape."""

_NEEDED = ("point", "base", "status", "workload", "hardware", "precision")
"""Columns without which points.parquet is not one."""

_BESIDE = ("measured", "curves", "layers", "marginals", "batches", "operations")
"""Tables that a run may have beside its points."""

_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
"""Embeddings, overrides and isolates of bidirectional text."""

Record = Mapping[str, Any]
"""One row of a table; an absent value is None."""


@dataclass(frozen=True)
class Axis:
    """What a study turned: the key, the name that people read, the values in their order."""

    key: str
    label: str
    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as tables. `meta` is run.json; the frames are empty where the run has no such file.

    `points` are the rows that a page shows, of a large run some hundred points alone; `every` are all that it stored.
    """

    folder: Path
    meta: Mapping[str, Any]
    points: pd.DataFrame
    measured: pd.DataFrame
    curves: pd.DataFrame
    layers: pd.DataFrame
    marginals: pd.DataFrame
    batches: pd.DataFrame
    operations: pd.DataFrame
    every: pd.DataFrame

    @property
    def is_thinned(self) -> bool:
        """A page shows a part of the rows."""
        return len(self.points) < len(self.every)

    @property
    def computed(self) -> int:
        """Points, workload and place counted, that were computed: those that have no row too."""
        return int(self.meta.get("computed") or len(self.every))

    @cached_property
    def statuses(self) -> dict[str, int]:
        """Status -> how many of all rows have it: those that stand, those that have numbers, then the others."""
        found = {str(k): int(n) for k, n in self.every["status"].value_counts(sort=False).items()}
        return {k: found[k] for k in sorted(found, key=lambda k: (k != "ok", k != "excluded", k == "failed", k))}

    @property
    def is_study(self) -> bool:
        """Shapes were varied; a comparison of models, or of one model at several workloads, is none."""
        return self.meta["kind"] == "study" and bool(self.axes)

    @property
    def pays(self) -> str:
        """The size that is rescaled where something is held."""
        return str(self.meta.get("hold_by") or "mlp.d_ff")

    @property
    def usual(self) -> str:
        """What the shape that was not changed is called: released, or original where somebody's own model is a base."""
        return "original" if self.meta.get("unreleased") else "released"

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the shape. One that varies within a point, as a workload's context does, is not of these."""
        named = (Axis(a["key"], a.get("label", a["key"]), tuple(a["values"])) for a in self.meta["axes"])
        shapes = (a for a in named if not a.key.startswith(PLACES))
        return tuple(a for a in shapes if all(len({r[a.key] for r in rows}) == 1 for rows in self.rows.values()))

    @cached_property
    def rows(self) -> dict[str, list[Record]]:
        """Point -> its rows of points.parquet, points in the order of the run."""
        return _by_point(self.points)

    @cached_property
    def curve_rows(self) -> dict[str, list[Record]]:
        """Point -> its rows of curves.parquet, by context."""
        ordered = {p: sorted(rows, key=lambda r: r["context"]) for p, rows in _by_point(self.curves).items()}
        return {p: ordered[p] for p in self.rows if p in ordered}

    @cached_property
    def layer_rows(self) -> dict[str, list[Record]]:
        """Point -> its layers, in order."""
        return {p: sorted(rows, key=lambda r: r["index"]) for p, rows in _by_point(self.layers).items()}

    @cached_property
    def batch_rows(self) -> dict[str, list[Record]]:
        """Point -> memory and decode times by place, context and batch."""
        return _by_point(self.batches)

    @cached_property
    def operation_rows(self) -> dict[str, list[Record]]:
        """Point -> its kinds of operation by place, workload and phase."""
        return _by_point(self.operations)

    @cached_property
    def measured_rows(self) -> list[Record]:
        """What was measured, what was tried included."""
        return _records(self.measured)

    def distinct(self, column: str) -> list[Any]:
        """The values of a column of the rows, each once, in their order; none where there is no such column."""
        if column not in self._distinct:
            values = (r.get(column) for rows in self.rows.values() for r in rows)
            self._distinct[column] = [v for v in dict.fromkeys(values) if v is not None]
        return self._distinct[column]

    @cached_property
    def works(self) -> dict[str, Record]:
        """Workload -> the first of its rows, which says its context and its batch."""
        found: dict[str, Record] = {}
        for row in (r for rows in self.rows.values() for r in rows):
            found.setdefault(row["workload"], row)
        return found

    def rows_at(self, point: str, **at: str | None) -> list[Record]:
        """The rows of a point at this workload, hardware, precision; a key that is None is not looked at."""
        wanted = tuple((k, v) for k, v in at.items() if v is not None)
        if (point, wanted) not in self._found:
            rows = self.rows.get(point, [])
            self._found[point, wanted] = [r for r in rows if all(r[k] == v for k, v in wanted)]
        return self._found[point, wanted]

    def row(self, point: str, **at: str | None) -> Record | None:
        """The first row of a point there."""
        return next(iter(self.rows_at(point, **at)), None)

    def value(self, point: str, column: str, **at: str | None) -> Any:
        """One number of a point, None where there is none."""
        return next((x for r in self.rows_at(point, **at) if (x := r.get(column)) is not None), None)

    @cached_property
    def _distinct(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def _found(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[Record]]:
        return {}


def load_run(run: str | Path) -> Run:
    """Reads a run folder. Raises ArchlabError, with one sentence, for a folder that is not a run or not whole."""
    folder = Path(run)
    if folder.is_file():
        raise ArchlabError(f"{str(folder)!r} is a file; a run is a folder")
    if not folder.is_dir():
        raise ArchlabError(f"there is no run folder {str(folder)!r}")
    meta = _meta(folder)
    every = _frame(folder / "points.parquet")
    _check_points(folder, every, [a["key"] for a in meta["axes"]])
    frames = {name: _frame(folder / f"{name}.parquet") for name in _BESIDE}
    drawn = () if frames["curves"].empty else frames["curves"]["point"].unique()
    return Run(folder, meta, thinned(every, drawn), every=every, **frames)


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise ArchlabError(f"{str(folder)!r} is not a run: it has no run.json")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as e:
        raise ArchlabError(f"{str(path)!r} cannot be read as JSON: {e}") from e
    if not isinstance(meta, dict) or not isinstance(meta.get("schema"), int):
        raise ArchlabError(f"{str(path)!r} is not a run's: it names no schema")
    if meta["schema"] > SCHEMA:
        newer = f"schema {meta['schema']}, and this archlab reads up to {SCHEMA}"
        raise ArchlabError(f"{str(folder)!r} was written by a newer archlab ({newer}); update archlab to report it")
    return _whole(path, _readable(meta))


def _whole(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    if meta.get("kind") not in KINDS:
        raise ArchlabError(f"{str(path)!r}: kind={meta.get('kind')!r} must be {' or '.join(KINDS)}")
    for key, kinds in _SHAPE.items():
        meta.setdefault(key, kinds[0]())
        if not isinstance(meta[key], kinds):
            raise ArchlabError(f"{str(path)!r}: {key} must be a {kinds[0].__name__}, not {type(meta[key]).__name__}")
    if meta["kind"] == "family" and not meta.get("generations"):
        raise ArchlabError(f"{str(path)!r}: a family must have generations")
    for axis in meta["axes"]:
        if not isinstance(axis, dict) or "key" not in axis or not isinstance(axis.get("values"), list):
            raise ArchlabError(f"{str(path)!r}: an axis must have a key and a list of values, not {axis!r}")
    return meta


def _frame(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (ArrowException, OSError, ValueError) as e:
        raise ArchlabError(f"{str(path)!r} cannot be read as parquet: {str(e).splitlines()[0]}") from e


def _check_points(folder: Path, points: pd.DataFrame, axes: Sequence[str]) -> None:
    if points.empty:
        raise ArchlabError(f"{str(folder)!r} holds no points: points.parquet is absent or empty")
    lacking = [c for c in (*_NEEDED, *axes) if c not in points.columns]
    if lacking:
        raise ArchlabError(f"{str(folder / 'points.parquet')!r} lacks the column {lacking[0]!r}")


def _by_point(frame: pd.DataFrame) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in _records(frame):
        found.setdefault(record["point"], []).append(record)
    return found


def _records(frame: pd.DataFrame) -> list[Record]:
    """Rows as dicts of plain Python values. Parquet has no empty whole number: NaN comes back as None."""
    return [{k: _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _readable(value: Any) -> Any:
    """Text from outside without the characters that turn the direction of what stands after them."""
    if isinstance(value, str):
        return value if value.isascii() else value.translate(_TURNING)
    if isinstance(value, dict):
        return {_readable(k): _readable(v) for k, v in value.items()}
    return [_readable(v) for v in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _readable(value)
    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
