"""The measured rows of a run: every point on a GPU, large models from some of their layers; on a CPU the study's small
stand-in, whole, within a minute and a half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from archlab.config import Serving, load_serving, load_workload
from archlab.errors import ArchlabError
from archlab.measure.expected import expected
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.argv import Command
from archlab.sweep.axes import WORKLOAD_KEYS, bare_key, show_value
from archlab.sweep.block import Point
from archlab.sweep.gpus import gpus, timed_on_each
from archlab.sweep.hold import budget, hold_budget
from archlab.sweep.results import frame_of, label
from archlab.sweep.study import Study, cpu_study
from archlab.workload import Workload

CPU_SECONDS = 90.0
GPU_SECONDS = 300.0
RAW = "measured.jsonl"

Say = Callable[[str], None]
Workloads = Mapping[str, Workload | Serving]


def measured_table(
    folder: Path, command: Command, points: Mapping[str, Point], own: Callable[[], Workloads], say: Say = lambda _: None
) -> pd.DataFrame | None:
    """Times the run's own points on a GPU, the study's stand-in on a CPU; None where nothing is to be timed.

    own   makes the workloads of the points, which takes a while where they are many
    """
    if command.study is None or command.measure == "never":
        return None
    import torch

    place, seconds = "GPU", GPU_SECONDS
    if torch.cuda.is_available():
        workloads = own()
    else:
        study = cpu_study(command.study)
        if study is None:
            return None
        points = study_points(study)
        workloads = study_workloads(study)
        place, seconds = "CPU", CPU_SECONDS
    bases = dict.fromkeys(point.base for point in points.values())
    say(f"timing {len(points)} points of {', '.join(bases)} on this {place}")
    raw = folder / RAW
    rows = (_placed if place == "GPU" else _measure)(raw, points, workloads, seconds)
    return frame_of(rows) if rows else None


def study_points(study: Study) -> dict[str, Point]:
    """The points of a study that stand: what a sweep would refuse is left out."""
    found: dict[str, Point] = {}
    axes = {k: v for k, v in study.grid.items() if k not in WORKLOAD_KEYS}
    for name in study.base:
        base = load(name)
        held = (
            budget(study.hold, base, load_workload(study.workloads[0], base), study.hold_multiple, study.hold_by)
            if study.hold
            else None
        )
        for values in product(*axes.values()):
            at = dict(zip(axes, values, strict=True))
            shape = {bare_key(k): v for k, v in at.items()}
            try:
                spec, fits = load(name, shape), True
                if held is not None:
                    spec, fits = hold_budget(spec, held)
            except ArchlabError:
                continue
            if fits:
                found[label(base.name, shape)] = Point(base.name, spec, at)
    return found


def study_workloads(study: Study) -> dict[str, Serving]:
    """The workloads of a study, each at every combination of the workload axes, named as a sweep names them."""
    axes = {k: v for k, v in study.grid.items() if k in WORKLOAD_KEYS}
    found: dict[str, Serving] = {}
    for name, *values in product(study.workloads, *axes.values()):
        at = dict(zip(axes, values, strict=True))
        changes = {k.removeprefix("workload."): v for k, v in at.items()}
        found[label(name, at)] = replace(load_serving(name), **changes)
    return found


def _placed(raw: Path, points: Mapping[str, Point], workloads: Workloads, seconds: float) -> list[dict[str, Any]]:
    """Rows of points timed on the GPU, or on all of them at once."""
    places = gpus()
    if not places or len(points) < 2:
        return _measure(raw, points, workloads, seconds, sampled=True)
    raw.unlink(missing_ok=True)
    return timed_on_each(places, points, raw, partial(_measure, workloads=workloads, seconds=seconds, sampled=True))


def _measure(
    raw: Path, points: Mapping[str, Point], workloads: Workloads, seconds: float, sampled: bool = False
) -> list[dict[str, Any]]:
    """Rows with their axis values; the samples and their provenance go to `raw`."""
    from archlab.measure import measure_points

    raw.unlink(missing_ok=True)
    models = [(name, point.spec) for name, point in points.items()]
    rows = []
    for row in measure_points(models, list(workloads.items()), budget_seconds=seconds, raw=raw, sampled=sampled):
        point = points[row["point"]]
        axes = {k: show_value(v) for k, v in point.axes.items()}
        rows.append({**row, "base": point.base, **axes, **prediction(row, point.spec, workloads[row["workload"]])})
    return rows


def prediction(row: Mapping[str, Any], spec: ModelSpec, asked: Workload | Serving) -> dict[str, Any]:
    """What a timed row was predicted to take, by part, with the held-out error; nothing where nothing is known."""
    if row["median_s"] is None:
        return {}
    work = asked.work_for(spec) if isinstance(asked, Serving) else asked
    work = work.prefill() if row["phase"] == "prefill" else work.decode()
    found = expected(spec, work, row["device"], row["dtype"], row["backend"], row.get("read_bytes_per_s"))
    if found is None:
        return {}
    band = found.error_band
    return {
        "predicted_s": found.seconds,
        "predicted_source": found.source,
        **{f"predicted_{part}_s": seconds for part, seconds in found.by_part.items()},
        **({} if band is None else {"predicted_error_median": band.median, "predicted_error_p90": band.p90}),
    }
