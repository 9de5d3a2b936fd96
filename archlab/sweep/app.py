"""The Hydra application: one job is a block of points. `python -m archlab.sweep` takes Hydra's own flags.

`archlab sweep` calls `run` with the same words. When the jobs are done, the parent gathers their blocks into a run's
folder, times what this machine can, and renders the report.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from archlab.errors import ArchlabError
from archlab.paths import user_dir
from archlab.sweep.argv import Command, prepare, spoken
from archlab.sweep.gather import Outcome, Say, gather
from archlab.sweep.job import job
from archlab.sweep.joblog import failures, forget, open_logs, whole
from archlab.sweep.launchers import checked
from archlab.sweep.naming import escaped
from archlab.sweep.progress import progress
from archlab.sweep.results import write_text
from archlab.sweep.store import StoreError, clear_left_overs, writing
from archlab.sweep.study import hydra_text

QUIET = 5.0
"""Seconds without a word after which jobs are taken to have ended, where their launcher gave up."""

RELATIVE = re.compile(r"file://(?!/)([^\],'\"]+)")


def run(words: Sequence[str], say: Say = lambda _: None) -> Outcome | None:
    """Runs a sweep from its command line; None where a flag only shows something. Raises ArchlabError.

    What an earlier run of the same settings stored in the same folder is not computed again.
    """
    started = datetime.now(UTC)
    if {"-sc", "--shell-completion"} & set(words):  # its own words are no settings: install=bash
        _hydra([w for w in words if not w.startswith("study=")])
        return None
    command = prepare(list(words))
    command = replace(command, settings=checked(command.settings, command.flags))
    folder, told = Path(command.out), spoken(list(words))
    with _nothing_left_on_failure(folder) as clear:
        with writing(folder):
            clear_left_overs(folder)
            for name, keys in command.files.items():
                write_text(folder / "conf" / "model" / f"{name}.yaml", yaml.safe_dump(escaped(keys), sort_keys=False))
        if command.only_shows:
            _hydra(command.argv())
            clear()
            return None
        sheet = {"command": told, "grid": dict(command.axes), "user_dir": str(user_dir().resolve())}
        logs = open_logs(folder / "blocks", command.run_id, sheet)
        with progress(logs, command.points):
            _jobs(_from_anywhere(command, logs), logs, say)
        return gather(folder, logs, command, told, started, say)


def _from_anywhere(command: Command, logs: Path) -> Command:
    """The command for jobs of other processes: whole paths, and a grid that Hydra does not read for each job again."""
    settings = command.settings | {"grid": "++grid={}", "log": f"log={hydra_text(str(logs.resolve()))}"}
    settings["out"] = f"out={hydra_text(str(Path(command.out).resolve()))}"
    if "hydra.searchpath" in settings:
        settings["hydra.searchpath"] = RELATIVE.sub(
            lambda found: f"file://{Path(found[1]).resolve()}", settings["hydra.searchpath"]
        )
    return replace(command, settings=settings)


def _jobs(command: Command, logs: Path, say: Say) -> None:
    """All jobs by the launcher that was asked for; what is missing then, here, one by one. Raises ArchlabError."""
    try:
        _hydra(command.argv())
    except (ArchlabError, KeyboardInterrupt):
        raise
    except Exception as problem:  # a launcher's own: a worker that was killed, a time limit
        if not any(logs.glob("*.jsonl")):
            raise ArchlabError(f"the launcher could not start: {_one_sentence(problem)}") from None
        say(f"the launcher ended early: {_one_sentence(problem)}")
        _wait_for_the_others(logs, command.jobs)
    again = _left(command, logs, say)
    if again:
        for number in again:
            forget(logs, number)
        _hydra(command.argv(here=True))
        _stopped(logs, command.jobs)
    if missing := [n for n in range(command.jobs) if not whole(logs, n)]:
        with writing(logs):
            write_text(logs / "missing.json", str(missing))
        raise StoreError(f"{len(missing)} of {command.jobs} jobs did not end, here neither; the same command goes on")
    shutil.rmtree(Path(command.out) / ".submitit", ignore_errors=True)  # what submitit handed to its processes


def _left(command: Command, logs: Path, say: Say) -> list[int]:
    """The jobs that did not end or had a block that failed. Raises StoreError for what another try cannot mend."""
    failed = {n: found for n in range(command.jobs) if (found := failures(logs, n))}
    missing = [n for n in range(command.jobs) if not whole(logs, n)]
    _stopped(logs, command.jobs)
    if missing or failed:
        blocks = sum(map(len, failed.values()))
        say(f"{len(missing)} of {command.jobs} jobs did not end and {blocks} blocks failed; trying again here")
    for entry in (entry for found in failed.values() for entry in found):
        say(f"  {entry['model']} at {entry['workload']} on {entry['hardware']}: {entry['failed']}")
    return sorted({*missing, *failed})


def _stopped(logs: Path, jobs: int) -> None:
    """Raises StoreError where a job could not store its parts: neither can the others."""
    for number in range(jobs):
        for entry in failures(logs, number):
            if entry.get("ends"):
                raise StoreError(entry["failed"])


def _wait_for_the_others(logs: Path, jobs: int) -> None:
    """Until the jobs that began have ended or are silent: a launcher gives up at the first one that fails."""
    while begun := [path for n in range(jobs) if not whole(logs, n) and (path := logs / f"{n:06}.jsonl").is_file()]:
        if time.time() - max(path.stat().st_mtime for path in begun) > QUIET:
            return
        time.sleep(QUIET / 10)


def _hydra(words: list[str]) -> None:
    """Hydra on a command line. Raises ArchlabError for what it finds wrong."""
    with _hydra_argv(words):
        try:
            job()
        except (HydraException, OmegaConfBaseException, ValueError) as problem:  # ValueError: two flags that show
            raise ArchlabError(_one_sentence(problem)) from None


@contextmanager
def _hydra_argv(words: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and would print and exit by itself: here its errors come to us."""
    before, full, loud = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), logging.raiseExceptions
    logging.raiseExceptions = False  # Hydra shows by logging: a reader that has gone (head) is no error
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["archlab sweep", *words], "1"
    try:
        yield
    finally:
        sys.argv, logging.raiseExceptions = before, loud
        if full is None:
            os.environ.pop("HYDRA_FULL_ERROR")
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


@contextmanager
def _nothing_left_on_failure(folder: Path) -> Iterator[Callable[[], None]]:
    """Takes back the folders that a run made, when it could not start; a folder that was there stays, and so does one
    that holds parts.
    """
    made = next((p for p in reversed([folder, *folder.parents]) if not p.exists()), None)

    def clear() -> None:
        if made is not None and not any((folder / "blocks").glob("*.parquet")):
            shutil.rmtree(made, ignore_errors=True)

    try:
        yield clear
    except ArchlabError:
        clear()
        raise


def _one_sentence(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip() and "full_key" not in line]
    return "; ".join(lines[:2]).rstrip(".") or type(problem).__name__
