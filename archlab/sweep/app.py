"""The Hydra application: one job is a block of points. `python -m archlab.sweep` takes Hydra's own flags.

`archlab sweep` calls `run` with the same words. When the jobs are done, the parent gathers their blocks into a run's
folder, times what this machine can, and renders the report.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from archlab import yamlfile
from archlab.config import named
from archlab.errors import ArchlabError
from archlab.paths import data_dir
from archlab.presets import read
from archlab.sweep.argv import GROUPS, Command, prepare, spoken
from archlab.sweep.block import block_config, read_block, run_block
from archlab.sweep.gather import Outcome, Say, gather
from archlab.sweep.joblog import JobLog, entries, whole
from archlab.sweep.progress import progress
from archlab.sweep.results import write_text
from archlab.sweep.store import StoreError, clear_left_overs, writing


def run(words: Sequence[str], say: Say = lambda _: None) -> Outcome | None:
    """Runs a sweep from its command line; None where a flag only shows something. Raises ArchlabError.

    What an earlier run of the same settings stored in the same folder is not computed again.
    """
    started = datetime.now(UTC)
    command = prepare(list(words))
    folder = Path(command.out)
    with _nothing_left_on_failure(folder) as clear:
        for name, keys in command.files.items():
            with writing(folder):
                write_text(folder / "conf" / "model" / f"{name}.yaml", yaml.safe_dump(keys, sort_keys=False))
        if command.only_shows:
            _hydra(command.argv())
            clear()
            return None
        logs = folder / "blocks" / command.run_id
        _clear(folder, logs)
        with progress(logs, command.points):
            _jobs(command, logs, say)
        return gather(folder, command, spoken(list(words)), started, say)


def _clear(folder: Path, logs: Path) -> None:
    """Takes away what a killed run left: temporary files, and logs of jobs that are to run again."""
    with writing(folder):
        clear_left_overs(folder / "blocks")
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)


def _jobs(command: Command, logs: Path, say: Say) -> None:
    """All jobs by the launcher that was asked for; what is missing then, here, one after another. Raises ArchlabError."""
    try:
        _hydra(command.argv())
    except (ArchlabError, KeyboardInterrupt):
        raise
    except Exception as problem:  # a launcher's own: a worker that was killed, a time limit
        say(f"the launcher ended early: {_one_sentence(problem)}")
    missing = [n for n in range(command.jobs) if not whole(logs, n)]
    failed = [entry for entry in entries(logs) if "failed" in entry]
    if stops := [entry["failed"] for entry in failed if entry.get("ends")]:
        raise StoreError(stops[0])
    if not missing and not failed:
        return
    say(f"{len(missing)} of {command.jobs} jobs did not end and {len(failed)} blocks failed; trying again here")
    for entry in failed:
        say(f"  {entry['model']} at {entry['workload']} on {entry['hardware']}: {entry['failed']}")
    shutil.rmtree(logs)
    logs.mkdir()
    _hydra(command.argv(here=True))


def _hydra(words: list[str]) -> None:
    """Hydra on a command line. Raises ArchlabError for what it finds wrong."""
    with _hydra_argv(words):
        try:
            _job()
        except (HydraException, OmegaConfBaseException) as problem:
            raise ArchlabError(_one_sentence(problem)) from None
        except ValueError as problem:  # two flags that show
            raise ArchlabError(_one_sentence(problem)) from None


@hydra.main(version_base="1.3", config_path=str(data_dir("conf")), config_name="config")
def _job(config: DictConfig) -> None:
    """One Hydra job: evaluates its blocks, or its share of their parts, into OUT/blocks. Runs wherever the launcher
    puts it, and says what it did in OUT/blocks/RUN/JOB.jsonl, a line a part.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    changed = {k: OmegaConf.select(config, k) for k in (o.partition("=")[0] for o in overrides) if "." in k}
    changed = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in changed.items()}
    log = JobLog(Path(plain["out"]) / "blocks" / str(plain["run_id"]), _job_number())
    for device in _devices(plain, changed):
        for entry in _done(plain | {"hardware": device}, changed, Path(plain["out"]) / "blocks"):
            log.add(entry)
    log.end()


def _done(plain: Mapping[str, Any], changed: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """The parts of a block, or why there are none: wrong for all of it, or failed and worth another try."""
    here = {group: str(plain[group].get("name")) for group in GROUPS}
    try:
        block = read_block(block_config(plain, _model_keys(), changed))
        yield from run_block(block, folder, int(plain["part"]), int(plain["parts"]))
    except StoreError as problem:
        yield here | {"failed": str(problem), "ends": True}
    except ArchlabError as problem:  # wrong for every point of this block; the others go on
        yield here | {"reason": str(problem)}
    except (MemoryError, OSError, ArithmeticError) as problem:
        yield here | {"failed": f"{type(problem).__name__}: {problem}".strip(": ")}


def _devices(plain: Mapping[str, Any], changed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The devices of a job, with the keys of theirs that the command line changed."""
    if not plain["devices"]:
        return [plain["hardware"]]
    found = [named(yamlfile.read(path := _file("hardware", name)), path) for name in plain["devices"]]
    for device in found:
        for key, value in changed.items():
            group, _, name = key.partition(".")
            if group == "hardware":
                *sections, last = name.split(".")
                reduce(lambda data, section: data.setdefault(section, {}), sections, device)[last] = value
    return found


def _model_keys() -> dict[str, Any]:
    """The model's keys as archlab's own loader reads the file that Hydra found: one inheritance, one set of checks."""
    path = _file("model", HydraConfig.get().runtime.choices["model"])
    return named(read(path), path)


def _file(group: str, name: str) -> Path:
    """The file that Hydra finds for a group's name."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path) for source in sources if source.schema == "file"]
    return next(found for folder in folders if (found := folder / group / f"{name}.yaml").is_file())


def _job_number() -> int:
    job = HydraConfig.get().job
    return 0 if OmegaConf.is_missing(job, "num") else int(job.num)


@contextmanager
def _hydra_argv(words: list[str]) -> Any:
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
def _nothing_left_on_failure(folder: Path) -> Any:
    """Takes back the folders that a run made, when it could not start; a folder that was there stays as it was."""
    made = next((p for p in reversed([folder, *folder.parents]) if not p.exists()), None)

    def clear() -> None:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)

    try:
        yield clear
    except ArchlabError:
        clear()
        raise


def _one_sentence(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip() and "full_key" not in line]
    return "; ".join(lines[:2]).rstrip(".") or type(problem).__name__
