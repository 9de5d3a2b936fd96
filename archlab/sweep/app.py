"""The Hydra application: one job is a block of points. `python -m archlab.sweep` takes Hydra's own flags.

`archlab sweep` calls `run` with the same words. When the jobs are done, the parent gathers their blocks into a run's
folder, times what this machine can, and renders the report.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from archlab.errors import ArchlabError
from archlab.paths import data_dir
from archlab.spec import ModelSpec
from archlab.sweep.argv import GROUPS, Command, prepare, spoken
from archlab.sweep.block import point_specs, read_block, run_block
from archlab.sweep.evaluate import show_value
from archlab.sweep.provenance import hash_of, provenance
from archlab.sweep.results import (
    ASSUMPTIONS,
    MOST_CURVES,
    curve_rows,
    formulas,
    frame_of,
    layer_rows,
    serving_keys,
    short_key,
    write_run,
    write_text,
)  # fmt: skip
from archlab.sweep.timing import measured_table

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """A finished sweep: its folder, the report (None where not asked for), and what became of the points."""

    folder: Path
    report: Path | None
    points: pd.DataFrame
    measured: pd.DataFrame | None


def run(words: Sequence[str], say: Say = lambda _: None, report: bool = True) -> Outcome | None:
    """Runs a sweep from its command line; None where a flag only shows something. Raises ArchlabError."""
    started = datetime.now(UTC)
    command = prepare(list(words))
    folder = Path(command.out)
    with _nothing_left_on_failure(folder):
        with _hydra_argv(command.argv()):
            try:
                _job()
            except (HydraException, OmegaConfBaseException) as problem:
                raise ArchlabError(_one_sentence(problem)) from None
        if command.only_shows:
            return None
        return gather(folder, command, spoken(list(words)), started, say, report)


@hydra.main(version_base="1.3", config_path=str(data_dir("conf")), config_name="config")
def _job(config: DictConfig) -> None:
    """One Hydra job: evaluates a block into OUT/blocks. Runs wherever the launcher puts it."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    changed = {k: OmegaConf.select(config, k) for k in (o.partition("=")[0] for o in overrides) if "." in k}
    changed = {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in changed.items()}
    blocks = Path(plain["out"]) / "blocks"
    mark = blocks / str(plain["run_id"])
    try:
        write_text(mark / run_block(read_block(plain, changed), blocks).stem, f"{_job_number():06}")
    except ArchlabError as problem:  # wrong for every point of this job; the others go on
        names = {group: str(plain[group].get("name")) for group in GROUPS}
        write_text(mark / f"{hash_of(names)[:16]}.refused", json.dumps({**names, "reason": str(problem)}))


def _job_number() -> int:
    job = HydraConfig.get().job
    return 0 if OmegaConf.is_missing(job, "num") else int(job.num)


def gather(folder: Path, command: Command, spoken_as: str, started: datetime, say: Say, report: bool) -> Outcome:
    """Blocks into tables: points, curves, layers, measured; then run.json and the report."""
    marks = sorted((folder / "blocks" / command.run_id).iterdir(), key=lambda mark: mark.read_text(encoding="utf-8"))
    refused = [json.loads(mark.read_text(encoding="utf-8")) for mark in marks if mark.suffix == ".refused"]
    paths = [folder / "blocks" / f"{mark.name}.parquet" for mark in marks if not mark.suffix]
    if not paths:
        raise ArchlabError(refused[0]["reason"])
    configs = [json.loads(p.with_suffix(".json").read_text(encoding="utf-8")) for p in paths]
    points = pd.concat([*(pd.read_parquet(p) for p in paths), *_refused_rows(refused)], ignore_index=True)
    specs: dict[str, tuple[str, ModelSpec]] = {}
    for path in paths:
        specs |= {name: (base, spec) for name, base, spec in point_specs(path, MOST_CURVES)}
    drawn = dict(list(specs.items())[:MOST_CURVES])
    tables = {
        "points": points,
        "curves": frame_of([row for name, (base, spec) in drawn.items() for row in curve_rows(name, base, spec)]),
        "layers": frame_of([row for name, (_, spec) in drawn.items() for row in layer_rows(name, spec)]),
    }
    measured = measured_table(folder, command, specs, say)
    if measured is not None:
        tables["measured"] = measured
    facts = provenance(spoken_as, started, configs)
    write_run(folder, _run_facts(command, configs) | {"provenance": facts}, tables)
    return Outcome(folder, _render(folder) if report else None, points, measured)


def _refused_rows(refused: list[dict[str, str]]) -> list[pd.DataFrame]:
    if not refused:
        return []
    rows = [{**r, "point": r["model"], "base": r["model"], "is_base": False, "status": "refused"} for r in refused]
    return [pd.DataFrame(rows).drop(columns="model")]


def _run_facts(command: Command, configs: list[dict[str, Any]]) -> dict[str, Any]:
    grid = configs[0]["grid"]
    blocks = [read_block(config, config["changed"]) for config in configs]
    return {
        "kind": "study",
        "name": command.name,
        "question": command.study.question if command.study else "What changes from point to point?",
        "axes": [{"key": k, "label": short_key(k), "values": [show_value(v) for v in vs]} for k, vs in grid.items()],
        "hold": configs[0]["hold"],
        "hold_multiple": configs[0]["hold_multiple"],
        "bases": list(dict.fromkeys(c["model"]["name"] for c in configs)),
        "hardware": {c["hardware"]["name"]: {k: v for k, v in c["hardware"].items() if k != "name"} for c in configs},
        "workloads": {c["workload"]["name"]: serving_keys(c["workload"]) for c in configs},
        "precisions": {
            c["precision"]["name"]: {k: v for k, v in c["precision"].items() if k != "name"} for c in configs
        },
        "formulas": formulas({block.base: block.spec for block in blocks}),
        "assumptions": [*ASSUMPTIONS, *_held(configs[0])],
    }


def _held(config: dict[str, Any]) -> list[str]:
    if not config["hold"]:
        return []
    what = {"params": "parameters", "flops": f"prefill FLOPs at {config['hold_workload']}"}[config["hold"]]
    return [
        f"Each point's d_ff is rescaled to hold the base's {what}, "
        f"to the nearest multiple of {config['hold_multiple']}."
    ]


def _render(folder: Path) -> Path:
    from archlab.report import render

    return render(folder)


@contextmanager
def _hydra_argv(words: list[str]) -> Any:
    """Hydra reads sys.argv, and would print and exit by itself: here its errors come to us."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["archlab sweep", *words], "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            os.environ.pop("HYDRA_FULL_ERROR")
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


@contextmanager
def _nothing_left_on_failure(folder: Path) -> Any:
    """Takes back the folders that a run made, when it could not start; a folder that was there stays as it was."""
    made = next((p for p in reversed([folder, *folder.parents]) if not p.exists()), None)
    try:
        yield
    except ArchlabError:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise


def _one_sentence(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip() and "full_key" not in line]
    return "; ".join(lines[:2]).rstrip(".") or type(problem).__name__
