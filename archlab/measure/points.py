"""Many points within a time budget, in turns: what a sweep's measured columns come from.

    for row in measure_points([("K=1", spec), ...], ["short-512"], budget_seconds=45): ...

How they take turns is in `turns`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from archlab.config import Serving, load_serving
from archlab.measure.backends import check_backend
from archlab.measure.devices import find_device, find_dtype
from archlab.measure.records import Record, append_record
from archlab.measure.rooflines import Rooflines, measure_rooflines
from archlab.measure.session import Session, Task
from archlab.measure.turns import measure_tasks
from archlab.spec import ModelSpec
from archlab.workload import Workload

PHASES = ("prefill", "decode")

ROW = (
    "phase", "batch", "context", "new", "median_s", "p5_s", "p95_s", "ci_low_s", "ci_high_s", "n", "warmup_s", "device",
    "dtype", "backend", "reason_backend", "runs", "attention", "source", "sampled", "residual", "verified_on",
    "bound_s", "drift", "group_drift", "status", "reason",
)  # fmt: skip
"""The fields of a record that a row of the sweep repeats."""
RATES = ("read_bytes_per_s", "copy_bytes_per_s")


def measure_points(
    points: Iterable[tuple[str, ModelSpec]],
    workloads: Iterable[str | tuple[str, Workload | Serving]],
    budget_seconds: float = 45.0,
    phases: Sequence[str] = PHASES,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = 3.0,
    seed: int = 0,
    rooflines: Rooflines | None = None,
    raw: Path | str | None = None,
    backend: str | None = None,
    sampled: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows (flat dicts, one a point, workload and phase) as they come, in about `budget_seconds`, building included.

    points: (label, spec). workloads: names of conf/workload, or (name, Workload). `seconds` caps one trial's sampling.
    raw: a file of JSON lines that gets each whole record, samples and provenance included. A point that does not fit
    has status "skipped" and the reason. The device's rates are measured first and last (about 2 s each) unless given.
    backend: fast | reference; by default the fast one where it covers a workload. sampled: compose models from some of
    their layers, and verify that on the first. Raises ArchlabError for bad input.
    """
    start = time.perf_counter()
    check_backend(backend)
    where = find_device(device)
    kind = find_dtype(dtype, where)
    named = [w if isinstance(w, tuple) else (w, load_serving(w)) for w in workloads]
    tasks = [task for label, spec in points for task in tasks_of(label, spec, named, phases)]
    rates = rooflines or measure_rooflines(where, kind)
    recheck = rooflines is None
    deadline = start + budget_seconds - (rates.seconds if recheck else 0)
    session = Session(where, kind, rates, seed, seconds, deadline, recheck, backend, sampled)
    for task, record in measure_tasks(tasks, session):
        if raw is not None:
            append_record(raw, {"point": task.label, "workload": task.workload, **record.as_dict()})
        yield row_of(task, record)


def tasks_of(
    label: str, spec: ModelSpec, workloads: Iterable[tuple[str, Workload | Serving]], phases: Sequence[str] = PHASES
) -> Iterator[Task]:
    """The phases of each workload for one model."""
    for name, asked in workloads:
        work = asked.work_for(spec) if isinstance(asked, Serving) else asked
        for phase in phases:
            yield Task(label, spec, name, work.prefill() if phase == "prefill" else work.decode())


def row_of(task: Task, record: Record) -> dict[str, Any]:
    """Flat, without samples: the sweep's columns. Kernels and warnings are text."""
    own = {"point": task.label, "base": task.spec.name, "workload": task.workload}
    fields = {name: getattr(record, name) for name in ROW}
    kernels = ", ".join(f"{k['name']} {k['share']:.0%}" for k in record.kernels)
    rates = {name: (record.rooflines or {}).get(name) for name in RATES}
    d_ff = task.spec.data.get("mlp", {}).get("d_ff")
    return own | fields | {"kernels": kernels, "warnings": "; ".join(record.warnings), **rates, "d_ff": d_ff}
