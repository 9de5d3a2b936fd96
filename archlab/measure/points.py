"""Many points within a time budget, in turns: what a sweep's measured columns come from.

    for row in measure_points([("K=1", spec), ...], ["short-512"], budget_seconds=45): ...

Models are built side by side where memory allows and take turns at each workload (A B C A B C): a machine that slows
down slows all of them, not the last one. What cannot fit the memory or the time is said so before it is built, and
where the time turns out too short, the cheap phases are the ones that are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from archlab.analyzers.latency import latency
from archlab.config import Serving, load_serving
from archlab.errors import ArchlabError
from archlab.measure.bench import AT_LEAST, WARMUP_S, Bench, Trial, sentence, untimed
from archlab.measure.capacity import need, refuse_unless_fits
from archlab.measure.devices import available_bytes, find_device, find_dtype
from archlab.measure.provenance import config_hash
from archlab.measure.records import Record, append_record
from archlab.measure.rooflines import Rooflines, measure_again, measure_rooflines
from archlab.spec import ModelSpec, Workload

PHASES = ("prefill", "decode")
LEAST = 3
"""Samples without which a trial is not reported as measured, where the time budget ends it early."""
BURST_S = 0.2
"""Seconds of one turn; a repetition that takes longer is a turn."""
MODELS_AT_ONCE = 4
MEMORY_SHARE = 0.7
"""Of the memory that is left, for models that stand side by side."""

ROW = (
    "phase", "batch", "context", "new", "median_s", "p5_s", "p95_s", "ci_low_s", "ci_high_s", "n", "warmup_s", "device",
    "dtype", "backend", "bound_s", "drift", "status", "reason",
)  # fmt: skip
"""The fields of a record that a row of the sweep repeats."""


@dataclass(frozen=True)
class Task:
    """One phase of one labelled model."""

    label: str
    spec: ModelSpec
    workload: str
    work: Workload

    def row(self, record: Record) -> dict[str, Any]:
        """Flat, without samples: the sweep's columns."""
        own = {"point": self.label, "base": self.spec.name, "workload": self.workload}
        return own | {name: getattr(record, name) for name in ROW} | {"d_ff": self.spec.data.get("mlp", {}).get("d_ff")}


@dataclass(frozen=True)
class Session:
    """What the measurements of one run share: the device, its rates, and how long they may take."""

    device: torch.device
    dtype: str
    rooflines: Rooflines
    seed: int = 0
    seconds: float = 3.0  # a trial
    deadline: float = float("inf")  # on the clock of time.perf_counter
    recheck: bool = False  # measure the rates again after each group, and keep the better

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def bound_s(self, task: Task) -> float:
        """Seconds that one repetition takes at least, at the session's rates."""
        return latency(task.spec, task.work, self.rooflines.hardware(), self.dtype).seconds

    def untimed(self, task: Task, status: str, reason: str) -> Record:
        """The record of a task that has no times."""
        return untimed(task.spec, task.work, self.device, self.dtype, self.seed, self.rooflines, status, reason)

    def obstacle(self, task: Task) -> str:
        """Why a task is not worth starting: memory, or a bound that the time left cannot hold; '' if it is."""
        try:
            refuse_unless_fits(task.spec, task.work, self.dtype, self.device)
        except ArchlabError as problem:
            return str(problem)
        at_best = self.bound_s(task)
        if at_best * (LEAST + 2) > self.left_s:
            left = f"{max(self.left_s, 0):.3g} s of the time budget are left"
            return f"one repetition takes at least {at_best:.3g} s, and {left}"
        return ""


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
) -> Iterator[dict[str, Any]]:
    """Rows (flat dicts, one a point, workload and phase) as they come, in about `budget_seconds`, building included.

    points: (label, spec). workloads: names of conf/workload, or (name, Workload). `seconds` caps one trial's sampling.
    raw: a file of JSON lines that gets each whole record, samples and provenance included. A point that does not fit
    has status "skipped" and the reason. The device's rates are measured first and last (about 2 s each) unless given.
    """
    start = time.perf_counter()
    where = find_device(device)
    kind = find_dtype(dtype, where)
    named = [w if isinstance(w, tuple) else (w, load_serving(w)) for w in workloads]
    tasks = [task for label, spec in points for task in tasks_of(label, spec, named, phases)]
    rates = rooflines or measure_rooflines(where, kind)
    recheck = rooflines is None
    deadline = start + budget_seconds - (rates.seconds if recheck else 0)
    session = Session(where, kind, rates, seed, seconds, deadline, recheck)
    for task, record in measure_tasks(tasks, session):
        if raw is not None:
            append_record(raw, {"point": task.label, "workload": task.workload, **record.as_dict()})
        yield task.row(record)


def tasks_of(
    label: str, spec: ModelSpec, workloads: Iterable[tuple[str, Workload | Serving]], phases: Sequence[str] = PHASES
) -> Iterator[Task]:
    """The phases of each workload for one model."""
    for name, asked in workloads:
        work = asked.work_for(spec) if isinstance(asked, Serving) else asked
        for phase in phases:
            yield Task(label, spec, name, work.prefill() if phase == "prefill" else work.decode())


def measure_tasks(tasks: Iterable[Task], session: Session) -> Iterator[tuple[Task, Record]]:
    """Measures tasks group by group, each within its share of the time; yields a group's results once it is done."""
    doable: list[Task] = []
    for task in tasks:
        reason = session.obstacle(task)
        if reason:
            yield task, session.untimed(task, "skipped", reason)
        else:
            doable.append(task)
    remaining = len(doable)
    for group in _groups(doable, session):
        count = sum(len(model) for model in group)
        share = time.perf_counter() + session.left_s * count / remaining
        remaining -= count
        yield from _measure_group(group, replace(session, deadline=min(share, session.deadline)))


def _groups(tasks: Iterable[Task], session: Session) -> Iterator[list[list[Task]]]:
    """Models (each the list of its tasks) that can stand in memory side by side, in the order of the tasks."""
    models: dict[str, list[Task]] = {}
    for task in tasks:
        models.setdefault(config_hash(task.spec), []).append(task)
    left = available_bytes(session.device)
    room = float("inf") if left is None else MEMORY_SHARE * left
    group: list[list[Task]] = []
    held = 0
    for model in models.values():
        size = _bytes(model, session)
        if group and (held + size > room or len(group) == MODELS_AT_ONCE):
            yield group
            group, held = [], 0
        group.append(model)
        held += size
    if group:
        yield group


def _bytes(tasks: Sequence[Task], session: Session) -> int:
    """Weights, and the largest cache and workspace: phases of one workload after another."""
    needs = [need(t.spec, t.work, session.dtype, session.device) for t in tasks]
    return needs[0].weights + max(n.cache + n.workspace for n in needs)


def _measure_group(group: Sequence[Sequence[Task]], session: Session) -> Iterator[tuple[Task, Record]]:
    with ExitStack() as stack:
        started: list[tuple[Task, Trial]] = []
        for tasks in group:
            try:
                bench = stack.enter_context(
                    Bench(tasks[0].spec, session.device, session.dtype, session.seed, session.rooflines)
                )
            except Exception as problem:
                yield from ((task, session.untimed(task, "failed", sentence(problem))) for task in tasks)
            else:
                started += [(task, Trial(bench, task.work)) for task in tasks]
        _cheapest_first(started, session)
        if session.recheck:
            session = _recheck(session, [trial.bench for _, trial in started])
        for task, trial in started:
            yield task, _result(task, trial, session)


def _recheck(session: Session, benches: Iterable[Bench]) -> Session:
    """The session with rates that were measured again beside the models."""
    rates = measure_again(session.rooflines, session.device)
    for bench in benches:
        bench.rooflines = rates
    return replace(session, rooflines=rates)


def _cheapest_first(started: Sequence[tuple[Task, Trial]], session: Session) -> None:
    """Workload by workload, the one of least bound first: what time is short for is the dearest, not everything."""
    sets: dict[Workload, list[Trial]] = {}
    for task, trial in sorted(started, key=lambda pair: session.bound_s(pair[0])):
        sets.setdefault(task.work, []).append(trial)
    for done, trials in enumerate(sets.values()):
        share = session.left_s / (len(sets) - done)
        _take_turns(trials, replace(session, deadline=time.perf_counter() + share))
        for trial in trials:
            trial.free()


def _take_turns(trials: Sequence[Trial], session: Session) -> None:
    """Warms each trial up, then samples them in bursts, one after the other, until all have enough or time is up."""
    warmup = min(WARMUP_S[session.device.type], session.left_s / (4 * len(trials)))
    for trial in trials:
        if session.left_s > 0:
            trial.warm_up(warmup)
    waiting = [t for t in trials if t.sampler.warmup_s and not t.problem]
    while waiting and session.left_s > 0:
        for trial in waiting:
            if session.left_s > 0:
                trial.sample(min(BURST_S, session.seconds / LEAST))
        waiting = [t for t in waiting if not t.problem and not _enough(t, session)]


def _enough(trial: Trial, session: Session) -> bool:
    sampler = trial.sampler
    wanted = AT_LEAST[session.device.type]
    return sampler.full or (sampler.spent_s >= session.seconds and len(sampler.samples) >= wanted)


def _result(task: Task, trial: Trial, session: Session) -> Record:
    """The trial's record; a trial that had too few turns is skipped, not measured badly."""
    n = len(trial.sampler.samples)
    if trial.problem or n >= LEAST:
        return trial.record()
    trial.free()
    return session.untimed(task, "skipped", f"{n} of at least {LEAST} repetitions fitted into the time budget")
