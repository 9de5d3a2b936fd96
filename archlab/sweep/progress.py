"""How far a sweep is, on stderr: points, rate, time left, failures. Nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archlab.sweep.joblog import entries

EVERY = 0.25
"""Seconds between two looks at the jobs' logs."""


@contextmanager
def progress(logs: Path, points: int) -> Iterator[None]:
    """Shows the work of jobs that log to a folder, wherever they run, while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("computing", total=points, told="")
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(EVERY):
                done, failed = _so_far(logs)
                speed = bar.tasks[0].speed or 0
                told = f"{done:,} of {points:,} points, {speed:,.0f} a second"
                bar.update(task, completed=done, told=told + (f", {failed} blocks failed" if failed else ""))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _so_far(logs: Path) -> tuple[int, int]:
    """(points done, blocks that failed)."""
    found = [*entries(logs)]
    return sum(e.get("points", 0) for e in found), sum("failed" in e for e in found)
