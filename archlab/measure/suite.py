"""The suite: what a device gives, whether it computes right, how long models take on it, how much memory they peak at.

Each section is a file of JSON lines, written as results land, so that a run that is cut short can be taken up again:
what is there already is not measured twice, and where a key stands twice, the last line counts. A result is found by
its configuration, workload, format and device, and by the version of the code and of torch. `runs.jsonl` says of every
run what was done, what was not, and why.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from archlab.errors import ArchlabError, nearest
from archlab.measure.bench import Bench, sentence
from archlab.measure.checks import checks_for
from archlab.measure.devices import device_name, find_device, find_dtype
from archlab.measure.points import Session, Task, measure_tasks
from archlab.measure.provenance import code_version, config_hash, gpu_state, now, provenance
from archlab.measure.records import Record, append_record, read_records
from archlab.measure.rooflines import measure_rooflines
from archlab.measure.studies import Study, studies_for
from archlab.spec import ModelSpec, Workload
from archlab.units import show_seconds

SECTIONS = ("rooflines", "checks", "latency", "memory")
TRIAL_S = {True: 0.2, False: 2.0}
"""Seconds of sampling a trial, quick or not."""

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run of the suite did: keys of what it measured, kept from before and failed; what it skipped, and why."""

    measured: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 if something failed; what did not fit the device or the budget is no failure."""
        return 1 if self.failed else 0


@dataclass
class Suite:
    """One run: where results go, what they are filed under, and until when it may go on."""

    out: Path
    device: torch.device
    dtype: str
    quick: bool
    deadline: float
    say: Say
    seed: int = 0
    outcome: Outcome = field(default_factory=Outcome)

    def key(self, *what: object) -> str:
        """What a result is found again by."""
        parts = (*what, self.dtype, device_name(self.device), f"code {code_version()}", f"torch {torch.__version__}")
        return " | ".join(str(part) for part in parts)

    def task_key(self, task: Task) -> str:
        """The key of one phase of one model."""
        work = task.work
        sizes = f"batch {work.batch}, new {work.new}, context {work.context}, logits {work.logits}"
        return self.key(task.spec.name, config_hash(task.spec)[:16], sizes)

    def wanted(self, section: str, keys: Sequence[str]) -> list[str]:
        """The keys that the section's file has no good record of yet, each once."""
        done = {r.get("key") for r in read_records(self.file(section)) if r.get("status") == "ok"}
        distinct = list(dict.fromkeys(keys))
        self.outcome.kept += [key for key in distinct if key in done]
        return [key for key in distinct if key not in done]

    def file(self, section: str) -> Path:
        """The section's JSON lines."""
        return self.out / f"{section}.jsonl"

    def late(self, key: str) -> bool:
        """Whether the budget is spent; if so, the item is noted as skipped."""
        if time.perf_counter() < self.deadline:
            return False
        self.skip(key, "the time budget was spent before its turn")
        return True

    def skip(self, key: str, reason: str) -> None:
        """Notes and says that something is not measured."""
        self.outcome.skipped[key] = reason
        self.say(f"skipped {_short(key)}: {reason}")

    def keep(self, section: str, key: str, record: dict[str, Any], news: str = "") -> None:
        """Writes a result at once."""
        append_record(self.file(section), {"key": key, **record})
        if record["status"] == "ok":
            self.outcome.measured.append(key)
            self.say(f"{section}: {_short(key)}: {news or 'ok'}")
        else:
            self.outcome.failed[key] = record["reason"]
            self.say(f"FAILED {section}: {_short(key)}: {record['reason']}")

    def attempt(self, section: str, key: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measures one item and goes on: what is refused is skipped, what breaks is written down as failed."""
        try:
            record = measure()
        except ArchlabError as problem:
            self.skip(key, str(problem))
            return
        except Exception as problem:
            record = {"status": "failed", "reason": sentence(problem), "provenance": provenance(self.device)}
        self.keep(section, key, record)


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
        _checks(suite)
    if "latency" in sections or "rooflines" in sections:
        _latency(suite, chosen, sections)
    if "memory" in sections:
        _memory(suite, chosen)
    append_record(suite.out / "runs.jsonl", {
        "utc": now(), "seconds": time.perf_counter() - start, "quick": quick, **vars(suite.outcome),
        "provenance": provenance(where),
    })  # fmt: skip
    return suite.outcome


def _checks(suite: Suite) -> None:
    if suite.device.type == "cpu":
        suite.say("checks: this device is the CPU, so only cached decode is compared, not device against CPU")
    checks = {suite.key(c.name, config_hash(c.spec)[:16], c.dtype): c for c in checks_for(suite.device, suite.dtype)}
    for key in suite.wanted("checks", [*checks]):
        if not suite.late(key):
            suite.attempt("checks", key, lambda check=checks[key]: check.run(suite.device))  # type: ignore[misc]


def _latency(suite: Suite, studies: Sequence[Study], sections: Sequence[str]) -> None:
    """The studies, and the rooflines beside them: they are measured again for new results, as rates of another session
    would not be comparable.
    """
    pending = _pending(suite, studies) if "latency" in sections else []
    roof = suite.key("rooflines", "quick" if suite.quick else "full")
    missing = "rooflines" in sections and bool(suite.wanted("rooflines", [roof]))
    if not (pending or missing):
        return
    if suite.late(roof):
        for task in (task for tasks in pending for task in tasks):
            suite.late(suite.task_key(task))
        return
    rates = measure_rooflines(suite.device, suite.dtype, quick=suite.quick)
    origin = provenance(suite.device) | {"gpu_state": gpu_state(suite.device)}
    news = f"read {rates.read_bytes_per_s / 1e9:,.0f} GB/s, matmul {rates.matmul_flops_per_s / 1e12:,.3g} TFLOP/s"
    suite.keep("rooflines", roof, {**rates.as_dict(), "status": "ok", "provenance": origin}, news)
    session = Session(suite.device, suite.dtype, rates, suite.seed, TRIAL_S[suite.quick], suite.deadline, recheck=True)
    for tasks in pending:
        for task, record in measure_tasks(tasks, session):
            _keep_latency(suite, task, record)


def _pending(suite: Suite, studies: Sequence[Study]) -> list[list[Task]]:
    """The tasks of each study that are still to be measured; one that two studies share is the first one's."""
    tasks = {suite.task_key(task): task for study in reversed(studies) for task in _tasks(study)}
    wanted = suite.wanted("latency", [*tasks])
    pending = []
    for study in studies:
        keys = [key for key in dict.fromkeys(suite.task_key(task) for task in _tasks(study)) if key in wanted]
        wanted = [key for key in wanted if key not in keys]
        pending.append([tasks[key] for key in keys])
    return [group for group in pending if group]


def _keep_latency(suite: Suite, task: Task, record: Record) -> None:
    key = suite.task_key(task)
    if record.status == "skipped":
        suite.skip(key, record.reason)
        return
    news = f"{show_seconds(record.median_s or 0)}, bound {show_seconds(record.bound_s or 0)}"
    suite.keep("latency", key, {"point": task.label, "workload": task.workload, **record.as_dict()}, news)


def _tasks(study: Study) -> Iterator[Task]:
    for label, spec in study.points():
        for name, work in study.workloads():
            yield Task(label, spec, name, work)


def _memory(suite: Suite, studies: Sequence[Study]) -> None:
    """Peaks of the base of each study: weights, cache and everything else, as the allocator saw them."""
    if suite.device.type != "cuda":
        suite.skip("memory", "peaks are read from CUDA's allocator, and this device is a CPU")
        return
    bases = [task for study in studies for task in _tasks(study) if task.label == next(iter(study.points()))[0]]
    tasks = {suite.task_key(task): task for task in bases}
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
    with Bench(task.spec, suite.device, suite.dtype, suite.seed) as bench:
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
    times = {"n", "samples", "drift", "repetitions", "rooflines", "bound"}  # one pass is no timing
    kept = {name: value for name, value in record.items() if name not in times and not name.endswith("_s")}
    return {"point": task.label, "workload": task.workload} | kept | peaks


def _short(key: str) -> str:
    return " | ".join(key.split(" | ")[:3])
