"""What the jobs of a sweep did: a file a job, a line a part, readable while they run, wherever they run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class JobLog:
    """The log of one job: FOLDER/NUMBER.jsonl. Its last line says that the job ended."""

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{number:06}.jsonl"
        self.path.write_text("", encoding="utf-8")

    def add(self, entry: Mapping[str, Any]) -> None:
        """A line, on disk at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(entry)) + "\n")

    def end(self) -> None:
        """The last line."""
        self.add({"end": True})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # a line that a killed job did not finish
            return


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """What all jobs did, in the order of the command line."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from (entry for entry in _lines(path) if "end" not in entry)


def whole(folder: Path, number: int) -> bool:
    """Whether a job ended."""
    path = folder / f"{number:06}.jsonl"
    return path.is_file() and any("end" in entry for entry in _lines(path))
