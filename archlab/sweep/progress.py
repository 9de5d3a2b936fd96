"""How far a sweep is, on stderr: points, rate, time left, failures. Nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from archlab.sweep.joblog import Reader

EVERY = 0.25
"""Seconds between two looks at the jobs' logs."""


@dataclass
class Tally:
    """What the jobs that log to a folder have done so far."""

    reader: Reader
    parts: set[str] = field(default_factory=set)
    points: int = 0
    failed: int = 0

    def look(self) -> None:
        """Reads what is new: a part that is said twice counts once."""
        for entry in self.reader.new():
            self.failed += "failed" in entry
            if "part" in entry and entry["part"] not in self.parts:
                self.parts.add(entry["part"])
                self.points += entry["points"]


@contextmanager
def progress(logs: Path, points: int) -> Iterator[None]:
    """Shows the work of jobs that log to a folder, wherever they run, while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    tally, ended = Tally(Reader(logs)), threading.Event()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("computing", total=points, told="")

        def show() -> None:
            tally.look()
            told = f"{tally.points:,} of {points:,} points, {bar.tasks[0].speed or 0:,.0f} a second"
            failed = f", {tally.failed} blocks failed" if tally.failed else ""
            bar.update(task, completed=tally.points, told=told + failed)

        def watch() -> None:
            while not ended.wait(EVERY):
                show()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            show()
