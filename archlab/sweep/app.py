"""The Hydra application: one job is a block of points. `python -m archlab.sweep` takes Hydra's own flags.

`archlab sweep` calls `run` with the same words. When the jobs are done, the parent gathers their blocks into a run's
folder, times what this machine can, and renders the report.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from archlab import yamlfile
from archlab.analyzers.memory import TIGHT
from archlab.analyzers.special import short
from archlab.config import named
from archlab.errors import ArchlabError
from archlab.paths import data_dir
from archlab.presets import read
from archlab.spec import Workload
from archlab.sweep.argv import GROUPS, Command, prepare, spoken
from archlab.sweep.block import Block, Point, block_config, read_block, run_block, standing_points, workloads_of
from archlab.sweep.evaluate import show_value
from archlab.sweep.provenance import provenance
from archlab.sweep.results import (
    MOST_CURVES,
    assumptions,
    curve_rows,
    device_facts,
    engine_facts,
    formulas,
    frame_of,
    layer_rows,
    precision_facts,
    short_key,
    write_run,
    write_text,
)  # fmt: skip
from archlab.sweep.timing import measured_table

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """A finished sweep: its folder, the report, what became of the points, and what was timed (None: nothing)."""

    folder: Path
    report: Path
    points: pd.DataFrame
    measured: pd.DataFrame | None


def run(words: Sequence[str], say: Say = lambda _: None) -> Outcome | None:
    """Runs a sweep from its command line; None where a flag only shows something. Raises ArchlabError."""
    started = datetime.now(UTC)
    command = prepare(list(words))
    folder = Path(command.out)
    with _nothing_left_on_failure(folder) as clear:
        for name, keys in command.files.items():
            write_text(folder / "conf" / "model" / f"{name}.yaml", yaml.safe_dump(keys, sort_keys=False))
        with _hydra_argv(command.argv()):
            try:
                _job()
            except (HydraException, OmegaConfBaseException) as problem:
                raise ArchlabError(_one_sentence(problem)) from None
            except ValueError as problem:  # two flags that show
                if not command.only_shows:
                    raise
                raise ArchlabError(_one_sentence(problem)) from None
        if command.only_shows:
            clear()
            return None
        return gather(folder, command, spoken(list(words)), started, say)


@hydra.main(version_base="1.3", config_path=str(data_dir("conf")), config_name="config")
def _job(config: DictConfig) -> None:
    """One Hydra job: evaluates a block into OUT/blocks. Runs wherever the launcher puts it."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    changed = {k: OmegaConf.select(config, k) for k in (o.partition("=")[0] for o in overrides) if "." in k}
    changed = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in changed.items()}
    blocks = Path(plain["out"]) / "blocks"
    done = [_done(plain | {"hardware": device}, changed, blocks) for device in _devices(plain, changed)]
    write_text(blocks / str(plain["run_id"]) / f"{_job_number():06}.json", json.dumps(done))


def _done(plain: Mapping[str, Any], changed: Mapping[str, Any], blocks: Path) -> dict[str, str]:
    """The file of a block, or why there is none."""
    try:
        block = read_block(block_config(plain, _model_keys(), changed))
        return {"block": run_block(block, blocks).name}
    except ArchlabError as problem:  # wrong for every point of this block; the others go on
        return {group: str(plain[group].get("name")) for group in GROUPS} | {"reason": str(problem)}


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


def gather(folder: Path, command: Command, spoken_as: str, started: datetime, say: Say) -> Outcome:
    """Blocks into tables: points, curves, layers, measured; then run.json and the report."""
    jobs = sorted((folder / "blocks" / command.run_id).glob("*.json"))  # in the order of the command line
    done = [entry for job in jobs for entry in json.loads(job.read_text(encoding="utf-8"))]
    refused = [job for job in done if "reason" in job]
    paths = [folder / "blocks" / job["block"] for job in done if "block" in job]
    if not paths:
        raise ArchlabError(refused[0]["reason"])
    blocks = [read_block(json.loads(p.with_suffix(".json").read_text(encoding="utf-8"))) for p in paths]
    frames = [pd.read_parquet(p) for p in paths]
    points = pd.concat([*frames, *_refused_rows(refused)], ignore_index=True)
    standing: dict[str, Point] = {}
    workloads: dict[str, Workload] = {}
    for block, frame in zip(blocks, frames, strict=True):
        standing |= dict(standing_points(block, frame, MOST_CURVES))
        workloads |= dict(workloads_of(block, frame))
    drawn = dict(list(standing.items())[:MOST_CURVES])
    tables = {
        "points": points,
        "curves": frame_of([row for name, p in drawn.items() for row in curve_rows(name, p.base, p.spec)]),
        "layers": frame_of([row for name, p in drawn.items() for row in layer_rows(name, p.spec)]),
    }
    measured = measured_table(folder, command, drawn, workloads, say)
    if measured is not None:
        tables["measured"] = measured
    facts = provenance(spoken_as, started, [dict(block.config) for block in blocks])
    write_run(folder, _run_facts(command, blocks) | {"provenance": facts}, tables)
    return Outcome(folder, _render(folder), points, measured)


def _refused_rows(refused: list[dict[str, str]]) -> list[pd.DataFrame]:
    if not refused:
        return []
    rows = [{**r, "point": r["model"], "base": r["model"], "is_base": False, "status": "refused"} for r in refused]
    return [pd.DataFrame(rows).drop(columns="model")]


def _run_facts(command: Command, blocks: list[Block]) -> dict[str, Any]:
    first = blocks[0]
    return {
        "kind": "study",
        "name": command.name,
        "question": command.study.question if command.study else "What changes from point to point?",
        "axes": [
            {"key": k, "label": short_key(k), "values": [show_value(v) for v in vs]} for k, vs in first.grid.items()
        ],
        "hold": first.hold,
        "hold_multiple": first.hold_multiple,
        "bases": list(dict.fromkeys(block.base for block in blocks)),
        "hardware": {block.device.name: device_facts(block.device) for block in blocks},
        "workloads": {block.workload: asdict(block.serving) for block in blocks},
        "precisions": {block.precision.name: precision_facts(block.precision) for block in blocks},
        "engines": {block.engine_name: engine_facts(block.engine) for block in blocks},
        "tight": TIGHT,
        "formulas": formulas({block.base: block.spec for block in blocks}),
        "special": {block.base: ", ".join(short(block.spec)) for block in blocks if short(block.spec)},
        "assumptions": [*assumptions([block.engine for block in blocks]), *_held(first)],
    }


def _held(block: Block) -> list[str]:
    if not block.hold:
        return []
    at = f"prefill FLOPs at {block.config['hold_workload']}"
    what = {"params": "parameters", "flops": at}[block.hold]
    return [
        f"Each point's d_ff is rescaled to hold the base's {what}, to the nearest multiple of {block.hold_multiple}."
    ]


def _render(folder: Path) -> Path:
    from archlab.report import render

    return render(folder)


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
