"""How far a sweep is, on stderr: points, rate, time left, failures. Nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from archlab.sweep.joblog import Reader

EVERY = 0.25
"""Seconds between two looks at the jobs' logs, at least."""

SHARE = 100
"""Times as long as a look takes, at least, until the next one: watching takes a hundredth of a core at most."""


@dataclass
class Tally:
    """What the jobs that log to a folder have done so far; `fresh` points were not stored before."""

    reader: Reader
    parts: set[str] = field(default_factory=set)
    points: int = 0
    fresh: int = 0
    failed: int = 0

    def look(self) -> None:
        """Reads what is new: a part that is said twice counts once."""
        for entry in self.reader.new():
            self.failed += "failed" in entry
            if "part" in entry and entry["part"] not in self.parts:
                self.parts.add(entry["part"])
                self.points += entry["points"]
                self.fresh += entry["points"] if entry.get("fresh") else 0

    def told(self, points: int, seconds: float) -> str:
        """How far it is after so many seconds: points, rate, time left, failures."""
        rate = self.fresh / seconds if seconds else 0.0
        left = f", {timedelta(seconds=round((points - self.points) / rate))} left" if rate else ""
        failed = f", {self.failed} block{'s' * (self.failed > 1)} failed" if self.failed else ""
        return f"{self.points:,} of {points:,} points, {rate:,.0f} a second{left}{failed}"


@contextmanager
def progress(logs: Path, points: int) -> Iterator[None]:
    """Shows the work of jobs that log to a folder, wherever they run, while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("computing"), BarColumn(), TextColumn("{task.fields[told]}"))
    tally, ended, started = Tally(Reader(logs)), threading.Event(), time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=points, told="")

        def show() -> float:
            began = time.thread_time()  # of this thread alone: a busy machine is no reason to look away
            tally.look()
            bar.update(task, completed=tally.points, told=tally.told(points, time.monotonic() - started))
            return time.thread_time() - began

        def watch() -> None:
            took = 0.0
            while not ended.wait(max(EVERY, SHARE * took)):
                took = show()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            show()
