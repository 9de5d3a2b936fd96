"""The column types of stored parts: by name, not by what a part happens to hold, so that all parts read as one table.

A part all of whose points stand has no reason, one below 2**53 only whole numbers: told from its values, its columns
would have other types than its neighbour's, and a query over both would fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from archlab.sweep.axes import show_values
from archlab.sweep.measures import LABELS

_ROWS = ("kept", "point", "base", "workload", "hardware", "precision", "engine", "status", "reason", "family")
TEXT = frozenset([*_ROWS, "config_hash", "key", "column", *LABELS])
TRUTH = frozenset({"is_base", "fits"})
WHOLE = frozenset({"batch", "context", "position"})
"""Columns that are not numbers of float64, which all others are: exact for whole numbers below 2**53."""


def table_of(rows: pd.DataFrame, grid: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows as a table of fixed types; an axis's type is that of all its values, those of other parts too."""
    kinds = {name: _axis_kind(grid[name]) if name in grid else _kind(name, rows[name]) for name in rows.columns}
    columns = [_column(rows[name], kind) for name, kind in kinds.items()]
    return pa.Table.from_arrays(columns, names=[*kinds])


def _column(values: pd.Series, kind: pa.DataType) -> pa.Array:
    """The values in their type; whole numbers from 2**53 on are rounded, which Arrow by itself refuses to do."""
    return pa.array(values.astype("float64") if kind == pa.float64() else values, type=kind, from_pandas=True)


def _kind(name: str, values: pd.Series) -> pa.DataType:
    if name in TRUTH:
        return pa.bool_()
    if name in WHOLE:
        return pa.int64()
    is_text = name in TEXT or (values.dtype.kind == "O" and any(isinstance(v, str) for v in values))
    return pa.string() if is_text else pa.float64()


def _axis_kind(values: Sequence[Any]) -> pa.DataType:
    kinds = {type(v) for v in show_values(values) if v is not None}
    if kinds <= {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.bool_() if kinds == {bool} else pa.string()
