"""What the jobs of a sweep are told and what they did: one folder, readable while they run, wherever they run.

    FOLDER/sheet.json     what all jobs need and a command line cannot hold: the axes of the grid, the command
    FOLDER/NUMBER.jsonl   of each job: a line a part, and a last one when it has ended

The folder is named after the process that started the jobs. A job of a sweep that was killed finds it gone when
another takes over, and stops.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archlab.sweep.results import write_text
from archlab.sweep.store import writing
from archlab.sweep.writers import is_gone, writer

Entry = dict[str, Any]

KINDS = frozenset({"part", "reason", "failed", "end"})
"""What a line says: a part is stored, a block cannot be, could not be computed, or the job has ended."""


def open_logs(blocks: Path, run_id: str, sheet: Mapping[str, Any]) -> Path:
    """A folder for the logs of this process's jobs; those of earlier ones of the same run go. Raises StoreError."""
    folder = blocks / f"{run_id}.{writer()}"
    with writing(blocks):
        for earlier in blocks.glob(f"{run_id}.*"):
            if is_gone(earlier):
                shutil.rmtree(earlier, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "sheet.json", json.dumps(dict(sheet)))
    return folder


def read_sheet(folder: Path) -> dict[str, Any]:
    """What all jobs need."""
    found: dict[str, Any] = json.loads((folder / "sheet.json").read_text(encoding="utf-8"))
    return found


class JobLog:
    """The log of one job. Raises StoreError where it cannot be written."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = _path(folder, number)
        with writing(folder):
            self.path.write_text("", encoding="utf-8")

    def add(self, entry: Mapping[str, Any]) -> None:
        """A line, there for others at once."""
        with writing(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(entry)) + "\n")

    def end(self) -> None:
        """The last line."""
        self.add({"end": True})


class Reader:
    """Reads the logs of a folder again and again, only what is new: of each file a line once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, int] = {}

    def new(self) -> Iterator[Entry]:
        """What the jobs said since the last time."""
        with os.scandir(self.folder) as files:
            sizes = {file.name: file.stat().st_size for file in files if file.name.endswith(".jsonl")}
        for name in sorted(name for name, size in sizes.items() if size != self._read.get(name, 0)):
            start = self._read.get(name, 0) if sizes[name] > self._read.get(name, 0) else 0  # it began again
            with (self.folder / name).open("rb") as file:
                file.seek(start)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read[name] = start + len(whole) + len(newline)
            yield from _parsed(whole)


def entries(folder: Path) -> list[Entry]:
    """What all jobs did, in the order of the command line: once, what two jobs say."""
    found: dict[Any, Entry] = {}
    for entry in Reader(folder).new():
        if "end" not in entry:
            key = entry.get("part") or tuple(sorted(entry.items()))
            found[key] = entry | ({"fresh": True} if found.get(key, entry).get("fresh") else {})
    return [*found.values()]


def whole(folder: Path, number: int) -> bool:
    """Whether a job ended, and all that it said can be read."""
    path = _path(folder, number)
    text = path.read_bytes() if path.is_file() else b""
    found = [*_parsed(text)]
    return bool(found) and "end" in found[-1] and len(found) == len(text.splitlines())


def forget(folder: Path, number: int) -> None:
    """Takes a job's log away, so that the job runs again."""
    _path(folder, number).unlink(missing_ok=True)


def failures(folder: Path, number: int) -> list[Entry]:
    """What a job could not do."""
    path = _path(folder, number)
    return [entry for entry in _parsed(path.read_bytes()) if "failed" in entry] if path.is_file() else []


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.jsonl"


def _parsed(text: bytes) -> Iterator[Entry]:
    """The lines that are whole: a job that is killed may leave half of one."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and not KINDS.isdisjoint(entry):
            yield entry
