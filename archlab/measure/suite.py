"""The suite: whether a device computes right, what it gives, how long operations and models take on it, how much memory
they peak at. Sections and their order are here; `progress` says how a run is written down and taken up again.

Ordered so that a run that is cut short leaves something usable. `runs.jsonl` says of every run what was done, what was
not, and why.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from archlab.errors import ArchlabError, nearest
from archlab.measure import sections as parts
from archlab.measure.backends import backend_for
from archlab.measure.bench import Bench
from archlab.measure.devices import find_device, find_dtype
from archlab.measure.progress import Outcome, Say, Suite
from archlab.measure.provenance import config_hash, now, provenance
from archlab.measure.records import append_record
from archlab.measure.session import Task
from archlab.measure.studies import Study, studies_for
from archlab.spec import ModelSpec
from archlab.workload import Workload

SECTIONS = ("checks", "rooflines", "operations", "latency", "sampled", "calibration", "memory")


def run_suite(
    out: Path | str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quick: bool = False,
    budget_seconds: float = float("inf"),
    sections: Sequence[str] = SECTIONS,
    studies: Sequence[Study] | None = None,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Measures what `out` does not hold yet, until done or the budget is spent. Raises ArchlabError for bad input.

    `quick` takes tiny models and short timings: a check that all of it works here. `studies` replaces the built-in
    ones.
    """
    start, where = time.perf_counter(), find_device(device)
    for name in sections:
        if name not in SECTIONS:
            raise ArchlabError(f"unknown section {name!r}{nearest(name, SECTIONS)} (known: {', '.join(SECTIONS)})")
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ArchlabError(f"{out} cannot be a folder of results: {(problem.strerror or 'unknown').lower()}") from None
    suite = Suite(Path(out), where, find_dtype(dtype, where), quick, start + budget_seconds, say)
    chosen = studies_for(where.type, quick) if studies is None else studies
    if "checks" in sections:
        parts.checks(suite, leading=True)
    if "rooflines" in sections:
        parts.rooflines(suite)
    if "operations" in sections:
        parts.operations(suite, chosen)
    parts.passes(suite, chosen, sections)
    if "checks" in sections:
        parts.checks(suite, leading=False)
    if "calibration" in sections:
        parts.calibration(suite)
    if "memory" in sections:
        _memory(suite, chosen)
    append_record(suite.out / "runs.jsonl", {
        "utc": now(), "seconds": time.perf_counter() - start, "quick": quick, **vars(suite.outcome),
        "provenance": provenance(where),
    })  # fmt: skip
    return suite.outcome


def _memory(suite: Suite, studies: Sequence[Study]) -> None:
    """Peaks of the base of each study: weights, cache and everything else, as the allocator saw them."""
    if suite.device.type != "cuda":
        suite.skip("memory", "peaks are read from CUDA's allocator, and this device is a CPU")
        return
    tasks = {suite.task_key(task): task for study in studies if not study.sampled for task in parts.base_of(study)}
    for key in suite.wanted("memory", [*tasks]):
        if not suite.late(key):
            suite.attempt("memory", key, lambda task=tasks[key]: peak(suite, task))  # type: ignore[misc]
    _steps(suite)


def _steps(suite: Suite) -> None:
    """What a process takes besides its tensors; the peaks of three steps, beside the tracker's and the rows'."""
    from archlab.measure import memory_peaks, memory_runtime  # late: torch's tracker loads much of torch.distributed

    runtime = suite.key("runtime")
    for key in suite.wanted("memory_runtime", [runtime]):
        if not suite.late(key):
            suite.attempt("memory_runtime", key, lambda: memory_runtime.measure_runtime(suite.device))
    tasks = {_step_key(suite, task.spec, task.work): task for task in memory_peaks.tasks(suite.quick)}
    for key in suite.wanted("memory_peaks", [*tasks]):
        if not suite.late(key):
            measure = lambda task=tasks[key]: memory_peaks.measure_peak(task, suite.device, suite.dtype)  # noqa: E731
            suite.attempt("memory_peaks", key, measure)
    decoding = {key: task for key, task in tasks.items() if task.work.new < task.work.context}
    for key in suite.wanted("memory_graphs", [*decoding]):
        if not suite.late(key):
            measure = lambda task=tasks[key]: memory_peaks.measure_graph(task, suite.device, suite.dtype)  # noqa: E731
            suite.attempt("memory_graphs", key, measure)


def _step_key(suite: Suite, spec: ModelSpec, work: Workload) -> str:
    step = "training" if work.train else f"new {work.new}"
    sizes = f"{step}, batch {work.batch}, context {work.context}"
    return suite.key(spec.name, config_hash(spec)[:16], sizes)


def peak(suite: Suite, task: Task) -> dict[str, Any]:
    """Bytes that torch allocated and reserved at most while one phase ran, beside weights and cache."""
    before = torch.cuda.memory_allocated(suite.device)
    backend = backend_for(task.spec, task.work).name
    with Bench(task.spec, suite.device, suite.dtype, suite.seed, backend=backend) as bench:
        weights = torch.cuda.memory_allocated(suite.device) - before
        torch.cuda.reset_peak_memory_stats(suite.device)
        trial = bench.trial(task.work)
        trial.warm_up(0.0)
        trial.sample(0.0, at_least=1)
        peaks = {
            "before_bytes": before,
            "weights_bytes": weights,
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(suite.device),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(suite.device),
        }
        record = trial.record().as_dict()
    times = {"n", "samples", "parts", "drift", "group_drift", "repetitions", "rooflines", "bound", "state"}  # none here
    kept = {name: value for name, value in record.items() if name not in times and not name.endswith("_s")}
    return {"point": task.label, "workload": task.workload} | kept | peaks
