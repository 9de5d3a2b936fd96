"""The measured rows of a run: every point on a GPU; on a CPU the study's small stand-in, within a minute."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from archlab.config import load_workload
from archlab.errors import ArchlabError
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.argv import Command
from archlab.sweep.evaluate import WORKLOAD_KEYS, bare_key, show_value
from archlab.sweep.hold import budget, hold_budget
from archlab.sweep.results import frame_of, label
from archlab.sweep.study import Study, cpu_study

CPU_SECONDS = 60.0
GPU_SECONDS = 300.0

Say = Callable[[str], None]
Timed = dict[str, tuple[str, ModelSpec, dict[str, Any]]]
"""point -> (base, spec, axis values)"""


def measured_table(
    folder: Path, command: Command, specs: dict[str, tuple[str, ModelSpec]], say: Say = lambda _: None
) -> pd.DataFrame | None:
    """Times what the study asks for and this machine can; None where nothing is to be timed."""
    if command.study is None or command.measure == "never":
        return None
    import torch

    on_gpu = torch.cuda.is_available()
    study = command.study if on_gpu else cpu_study(command.study)
    if study is None:
        return None
    timed = study_points(study)
    say(f"timing {len(timed)} points of {', '.join(study.base)} on this {'GPU' if on_gpu else 'CPU'}")
    rows = _measure(folder, timed, study.workloads, GPU_SECONDS if on_gpu else CPU_SECONDS)
    return frame_of(rows) if rows else None


def study_points(study: Study) -> Timed:
    """The points of a study that stand, as models: what evaluate masks is left out here."""
    found: Timed = {}
    axes = {k: v for k, v in study.grid.items() if k not in WORKLOAD_KEYS}
    for name in study.base:
        base = load(name)
        held = budget(study.hold, base, load_workload(study.workloads[0]), study.hold_multiple) if study.hold else None
        for values in product(*axes.values()):
            at = dict(zip(axes, values, strict=True))
            try:
                spec = load(name, {bare_key(k): v for k, v in at.items()})
                spec, fits = hold_budget(spec, held) if held else (spec, True)
            except ArchlabError:
                continue
            if fits:
                found[label(name, {bare_key(k): v for k, v in at.items()})] = (name, spec, at)
    return found


def _measure(folder: Path, timed: Timed, workloads: list[str], seconds: float) -> list[dict[str, Any]]:
    """Rows with their axis values; the samples and their provenance go to measured.jsonl."""
    from archlab.measure import measure_points

    raw = folder / "measured.jsonl"
    raw.unlink(missing_ok=True)
    points = [(name, spec) for name, (_, spec, _) in timed.items()]
    rows = []
    for row in measure_points(points, workloads, budget_seconds=seconds, raw=raw):
        base, _, at = timed[row["point"]]
        rows.append({**row, "base": base, **{k: show_value(v) for k, v in at.items()}})
    return rows
