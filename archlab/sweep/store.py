"""The blocks of a sweep on disk: a parquet file for each part of a grid, named by what decides its numbers.

    FOLDER/<block>.json                  the configuration of a block: model, workload, device, precision, engine, grid
    FOLDER/<block>-<part>.parquet        the points of a part of it, with provenance in the metadata
    FOLDER/marginals/<block>-<part>.parquet   of a large grid: each axis value's points, sums, lows and highs

A file appears under its name when it is whole. What is there already is not computed again: an interrupted sweep goes
on where it was, and two that share a block compute it once. A column has the same type in all parts (part_types), so
pandas and DuckDB read FOLDER/*.parquet as one table.
"""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from archlab import __version__
from archlab.errors import ArchlabError
from archlab.measure.provenance import cpu_model
from archlab.sweep.part_types import table_of
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import write_arrow, write_text
from archlab.sweep.writers import is_gone

SCHEMA = 3
"""Of a block's columns and metadata: with another, a stored block is not the same block."""

FACTS = b"archlab"
"""The key of a file's metadata under which its provenance is, as JSON."""

UNREADABLE = (OSError, ValueError, KeyError, pa.ArrowException)


class StoreError(ArchlabError):
    """A folder that cannot be written to, or a file that cannot be read."""


def block_name(config: Mapping[str, Any]) -> str:
    """The name of a block, from its configuration."""
    return hash_of({"schema": SCHEMA, **config})[:16]


def part_name(block: str, part: tuple[slice, ...]) -> str:
    """The name of a part: the block's, and where the part is in the grid."""
    return f"{block}-{hash_of([[p.start, p.stop] for p in part])[:8]}"


def write_config(folder: Path, config: Mapping[str, Any]) -> str:
    """Writes a block's configuration, where it is not there and whole. Returns its name. Raises StoreError."""
    name = block_name(config)
    path, text = folder / f"{name}.json", json.dumps(dict(config)) + "\n"
    with writing(folder):
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
    return name


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """A block's configuration. Raises StoreError for a file that cannot be read."""
    path = folder / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as problem:
        raise StoreError(f"{path} cannot be read: {_first_line(problem)}") from None


def write_part(
    folder: Path,
    name: str,
    rows: pd.DataFrame,
    facts: Mapping[str, Any],
    more: pd.DataFrame | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Writes a part's rows and, before them, its marginals where there are. Raises StoreError.

    facts  what the metadata says beside who wrote it, on what and when
    grid   key -> all values of each axis, by which the columns of the axes have their types
    """
    facts = {"schema": SCHEMA, **facts, **_maker(), "utc": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    with writing(folder):
        if more is not None:
            write_arrow(_marginals(folder, name), table_of(more, {}), facts)
        write_arrow(folder / f"{name}.parquet", table_of(rows, grid or {}), facts | {"marginals": more is not None})


@lru_cache(maxsize=1)
def _maker() -> dict[str, str]:
    """The program and the machine: no host names, paths or users."""
    machine = f"{platform.system()} {platform.machine()}, {cpu_model()}"
    return {"archlab": __version__, "python": platform.python_version(), "pyarrow": pa.__version__, "machine": machine}


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
        elif problem.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            hint = "; give a folder that can be written to with out="
        raise StoreError(f"{folder} cannot be written: {why[:1].lower()}{why[1:]}{hint}") from None


def facts_of(folder: Path, name: str) -> dict[str, Any] | None:
    """The metadata of a part that is there and whole; None of one that is not."""
    try:
        known = pq.read_schema(folder / f"{name}.parquet").metadata or {}
        facts: dict[str, Any] = json.loads(known[FACTS])
        whole = facts["schema"] == SCHEMA and (not facts["marginals"] or _marginals(folder, name).is_file())
    except (*UNREADABLE, TypeError):
        return None
    return facts if whole else None


def read_part(folder: Path, name: str, columns: list[str] | None = None, kept: bool = False) -> pd.DataFrame:
    """A part's rows: all, or those of note. Raises StoreError for a file that cannot be read."""
    return _read(folder / f"{name}.parquet", columns, [("kept", "!=", "")] if kept else None)


def read_marginals(folder: Path, name: str) -> pd.DataFrame | None:
    """A part's marginals, where it has them. Raises StoreError."""
    path = _marginals(folder, name)
    return _read(path) if path.exists() else None


def set_aside(folder: Path, name: str) -> None:
    """Gives a part that cannot be read another name, so that it is computed again and can be looked at."""
    for path in (folder / f"{name}.parquet", _marginals(folder, name)):
        if path.is_file():
            path.replace(path.with_suffix(".parquet.corrupt"))


def clear_left_overs(run: Path) -> None:
    """Removes the temporary files of processes that were killed while they wrote into a run's folder."""
    for folder in (run, run / "blocks", run / "blocks" / "marginals"):
        for path in folder.glob(".*") if folder.is_dir() else ():
            if path.is_file() and is_gone(path):
                path.unlink(missing_ok=True)


def _marginals(folder: Path, name: str) -> Path:
    return folder / "marginals" / f"{name}.parquet"


def _read(path: Path, columns: list[str] | None = None, filters: Any = None) -> pd.DataFrame:
    """A table whose pages are what they were when they were written. Raises StoreError."""
    try:
        how = {"page_checksum_verification": True, "partitioning": None}
        return pq.read_table(path, columns=columns, filters=filters, **how).to_pandas()
    except UNREADABLE as problem:
        raise StoreError(f"{path} cannot be read: {_first_line(problem)}") from None


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
