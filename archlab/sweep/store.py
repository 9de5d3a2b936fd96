"""The blocks of a sweep on disk: a parquet file for each part of a grid, named by what decides its numbers.

    FOLDER/<block>.json          the configuration of a block: model, workload, device, precision, engine, grid
    FOLDER/<block>-<part>.parquet   the points of a part of it, with provenance in the metadata
    FOLDER/<block>-<part>.marginals.parquet   of a large grid: each axis value's points, sums, lows and highs

A file appears under its name when it is whole. What is there already is not computed again: an interrupted sweep goes
on where it was, and two that share a block compute it once. pandas and DuckDB read the folder as it is.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from archlab.errors import ArchlabError
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import write_table, write_text

SCHEMA = 2
"""Of a block's columns and metadata: with another, a stored block is not the same block."""

LEFT_OVER = 3600
"""Seconds after which a temporary file is taken to be a killed process's."""

COLUMNS = b"archlab"


class StoreError(ArchlabError):
    """A folder that cannot be written to, or a file that cannot be read."""


def block_name(config: Mapping[str, Any]) -> str:
    """The name of a block, from its configuration."""
    return hash_of({"schema": SCHEMA, **config})[:16]


def part_name(block: str, part: tuple[slice, ...]) -> str:
    """The name of a part: the block's, and where the part is in the grid."""
    return f"{block}-{hash_of([[p.start, p.stop] for p in part])[:8]}"


def write_config(folder: Path, config: Mapping[str, Any]) -> str:
    """Writes a block's configuration, where it is not there. Returns its name. Raises StoreError."""
    name = block_name(config)
    path = folder / f"{name}.json"
    if not path.is_file() or not path.stat().st_size:
        with writing(folder):
            write_text(path, json.dumps(dict(config)) + "\n")
    return name


def write_part(
    folder: Path, name: str, rows: pd.DataFrame, facts: Mapping[str, Any], more: pd.DataFrame | None
) -> None:
    """Writes a part's rows and, before them, its marginals where there are. Raises StoreError."""
    with writing(folder):
        if more is not None:
            write_table(folder / f"{name}.marginals.parquet", more, {"schema": SCHEMA})
        write_table(folder / f"{name}.parquet", rows, {"schema": SCHEMA, **facts})


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says in a sentence what keeps a file from being written; what is there already stays as it is."""
    try:
        yield
    except OSError as problem:
        why = problem.strerror or str(problem)
        hint = "; what is done is kept, and the same command goes on from there"
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "; make room, or give another folder with out=; what is done is kept, and the same command goes on"
        elif problem.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            hint = "; give a folder that can be written to with out="
        raise StoreError(f"{folder} cannot be written: {why}{hint}") from None


def facts_of(folder: Path, name: str) -> dict[str, Any] | None:
    """The metadata of a part that is there and whole; None of one that is not."""
    path = folder / f"{name}.parquet"
    try:
        known = pq.read_schema(path).metadata or {}
        facts: dict[str, Any] = json.loads(known[COLUMNS])
        return facts if facts.get("schema") == SCHEMA else None
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def read_part(folder: Path, name: str, columns: list[str] | None = None, kept: bool = False) -> pd.DataFrame:
    """A part's rows: all, or those of note. Raises StoreError for a file that cannot be read."""
    path = folder / f"{name}.parquet"
    try:
        filters = [("kept", "!=", "")] if kept else None
        return pd.read_parquet(path, columns=columns, filters=filters)
    except (OSError, ValueError, KeyError, pa.ArrowException) as problem:
        raise StoreError(f"{path} cannot be read: {_first_line(problem)}") from None


def read_marginals(folder: Path, name: str) -> pd.DataFrame | None:
    """A part's marginals, where it has them. Raises StoreError."""
    path = folder / f"{name}.marginals.parquet"
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as problem:
        raise StoreError(f"{path} cannot be read: {_first_line(problem)}") from None


def set_aside(folder: Path, name: str) -> None:
    """Gives a part that cannot be read another name, so that it is computed again and can be looked at."""
    for path in (folder / f"{name}.parquet", folder / f"{name}.marginals.parquet"):
        if path.exists():
            path.replace(path.with_suffix(".parquet.corrupt"))


def clear_left_overs(folder: Path) -> None:
    """Removes temporary files that a killed process left."""
    now = time.time()
    for path in folder.glob(".*.parquet.*") if folder.is_dir() else ():
        try:
            if now - path.stat().st_mtime > LEFT_OVER:
                path.unlink()
        except OSError:
            continue


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
