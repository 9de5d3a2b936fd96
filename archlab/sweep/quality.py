"""A user's own losses or scores beside what archlab computes: a table joins a sweep's points by name or by hash."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlab.errors import SpecError, nearest

if TYPE_CHECKING:
    import pandas

KEYS = {"point": "point", "model": "base", "config_hash": "config_hash"}
"""Key column of a table -> the points' column that it must equal. A model's row holds for every point made of it."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Joined:
    """The points with their quality columns, and what became of the table.

    matched          keys of the table that are keys of points
    unmatched_keys   the others, in the table's order
    notes            sentences for a reader: what was left out
    """

    frame: pandas.DataFrame
    matched: int
    unmatched_keys: tuple[str, ...]
    notes: tuple[str, ...]


def join_quality(points: pandas.DataFrame, path: str | Path) -> Joined:
    """The points with a float64 column quality_<name> for each column of numbers of a table; NaN where it says nothing.

    path: a .csv or .tsv in UTF-8 with a header, .jsonl (a JSON object a line) or .parquet. One of its columns is the
    key: point (a point's name), model (its base) or config_hash. Names must be equal but for blanks around them. An
    empty cell is no value. The points given are not changed.

    Raises SpecError for a file that cannot be read, for no or several key columns, for a key of other points, for a
    value that is no finite number and for a key that is given twice with different values.
    """
    path = Path(path)
    columns, rows = _read(path)
    key, target = _key(path, columns, points)
    names = [name for name in columns if name != key]
    _check_names(path, key, names, points)
    values = _by_key(path, key, names, rows)
    known = points[target].astype("string").str.strip()
    found = known.isin(list(values))
    frame = points.copy()
    for position, name in enumerate(names):
        column = {k: numbers[position] for k, numbers in values.items()}
        frame[f"quality_{name}"] = known.map(column).astype("float64")
    there = set(known[found])
    unmatched = tuple(k for k in values if k not in there)
    return Joined(
        frame, len(values) - len(unmatched), unmatched, _notes(path, key, unmatched, len(values), set(known.dropna()))
    )


def _notes(path: Path, key: str, unmatched: Sequence[str], given: int, known: set[str]) -> tuple[str, ...]:
    if not unmatched:
        return ()
    if len(unmatched) == given:
        hint = nearest(unmatched[0], sorted(known))
        return (f"{path} gives no {key} of these points; its first is {unmatched[0]!r}{hint}",)
    more = f" and {len(unmatched) - 5} more" if len(unmatched) > 5 else ""
    listed = ", ".join(map(repr, unmatched[:5]))
    return (f"{len(unmatched)} of {given} keys of {path} are not among these points: {listed}{more}",)


def _key(path: Path, columns: Sequence[str], points: pandas.DataFrame) -> tuple[str, str]:
    """The table's key column and the points' column that it goes by."""
    found = [name for name in columns if name in KEYS]
    if len(found) != 1:
        has = f"it has {' and '.join(found)}" if found else f"its columns are {', '.join(columns)}"
        hint = "" if found else next(filter(None, (nearest(name, KEYS) for name in columns)), "")
        raise SpecError(f"{path} must have one of the columns {', '.join(KEYS)} as its key; {has}{hint}")
    if KEYS[found[0]] not in points:
        raise SpecError(f"{path} goes by {found[0]}, and these points have no column {KEYS[found[0]]}")
    return found[0], KEYS[found[0]]


def _check_names(path: Path, key: str, names: Sequence[str], points: pandas.DataFrame) -> None:
    if not names:
        raise SpecError(f"{path} has no column of values beside its key {key}")
    for name in names:
        if f"quality_{name}" in points:
            raise SpecError(f"{path} has a column {name}, and these points have a column quality_{name} already")


def _by_key(path: Path, key: str, names: Sequence[str], rows: Rows) -> dict[str, tuple[float, ...]]:
    """key -> its numbers, in the order of the names."""
    values: dict[str, tuple[float, ...]] = {}
    for number, row in enumerate(rows, 1):
        name = str(_cell(row, key)).strip()
        if _cell(row, key) is None or not name:
            raise SpecError(f"{path}, row {number}: {key} is empty")
        numbers = tuple(_number(path, number, n, _cell(row, n)) for n in names)
        if not _same(values.setdefault(name, numbers), numbers):
            raise SpecError(f"{path} gives {key} {name!r} twice with different values, the second time in row {number}")
    return values


def _cell(row: Mapping[str, Any], name: str) -> Any:
    """A row's value; None where it is missing in any of the ways of the formats."""
    value = row.get(name)
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    empty = (isinstance(value, Real) and value != value) or (isinstance(value, str) and not value.strip())
    return None if missing or empty else value


def _number(path: Path, row: int, name: str, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value) if isinstance(value, Real | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None or math.isinf(number):
        raise SpecError(f"{path}, row {row}: {name}={value!r} must be a finite number")
    return number


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- the formats


def _read(path: Path) -> tuple[list[str], Rows]:
    """Column names, blanks around them removed, and rows. Raises SpecError."""
    readers: dict[str, Callable[[Path], tuple[list[str], Rows]]] = {
        ".csv": lambda p: _separated(p, ","),
        ".tsv": lambda p: _separated(p, "\t"),
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if path.suffix not in readers:
        raise SpecError(f"{path} must end in {', '.join(readers)}{nearest(path.suffix, readers)}")
    columns, rows = readers[path.suffix](path)
    if not rows:
        raise SpecError(f"{path} has no rows")
    return columns, rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark at the beginning
    except OSError as problem:
        raise SpecError(f"{path} cannot be read: {(problem.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not a text file in UTF-8") from None


def _separated(path: Path, by: str) -> tuple[list[str], Rows]:
    try:
        lines = [line for line in csv.reader(StringIO(_text(path)), delimiter=by, strict=True) if any(line)]
    except csv.Error as problem:
        raise SpecError(f"{path} cannot be read: {problem}") from None
    columns = [name.strip() for name in lines[0]] if lines else []
    _check_columns(path, columns)
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(columns):
            raise SpecError(f"{path}, row {number}: {len(line)} values where the header has {len(columns)}")
    return columns, [dict(zip(columns, line, strict=True)) for line in lines[1:]]


def _json_lines(path: Path) -> tuple[list[str], Rows]:
    rows: Rows = []
    for number, line in enumerate(filter(str.strip, _text(path).split("\n")), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise SpecError(f'{path}, row {number}: a row must be a JSON object, as {{"point": ..., "loss": ...}}')
        rows.append({name.strip(): value for name, value in row.items()})
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _parquet(path: Path) -> tuple[list[str], Rows]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except Exception as problem:  # pyarrow's errors and the system's
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
        raise SpecError(f"{path} cannot be read as parquet: {reason}") from None
    columns = [str(name).strip() for name in frame.columns]
    _check_columns(path, columns)
    frame.columns = pandas.Index(columns)
    return columns, [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in columns:
        if not name:
            raise SpecError(f"{path} has a column without a name")
        if columns.count(name) > 1:
            raise SpecError(f"{path} has two columns {name}")
