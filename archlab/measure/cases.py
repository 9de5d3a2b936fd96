"""A task while it is timed: the trials that its result rests on, and the result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from archlab.measure.bench import Bench
from archlab.measure.builds import BESIDES, LEAST, Model
from archlab.measure.capacity import SAFE, need
from archlab.measure.devices import available_bytes
from archlab.measure.records import Record
from archlab.measure.sampled import Plan, compose, count_layers, part, verify
from archlab.measure.session import Session, Task
from archlab.measure.state import Watch
from archlab.measure.trial import Trial
from archlab.spec import ModelSpec

VERIFY_S = 120.0
"""Seconds that building and running a deeper model may take, to verify a composed time on it."""


@dataclass(frozen=True)
class Case:
    """A task while it is timed: the trial of its model, or those of the two that stand for it, and of a deeper one."""

    task: Task
    model: Model
    trials: tuple[Trial, ...]
    depth: int = 0  # layers of the deeper one, where there is one

    @property
    def taken(self) -> int:
        """Samples that the result rests on, at least."""
        needed = self.trials if self.model.plan is None else self.trials[:2]
        return min(len(trial.sampler.samples) for trial in needed)

    @property
    def problem(self) -> str:
        """What went wrong with a trial that the result rests on."""
        return next((trial.problem for trial in self.trials[:2] if trial.problem), "")

    def result(self, session: Session) -> Record:
        """The record; a case that had too few turns is skipped, not measured badly."""
        if not self.problem and self.taken < LEAST:
            reason = f"{self.taken} of at least {LEAST} repetitions fitted into the time budget"
            return session.untimed(self.task, "skipped", reason, self.model.backend)
        records = [trial.record() for trial in self.trials]
        record = records[0] if self.model.plan is None else self._composed(records, self.model.plan, session)
        notes = [self.model.note] * bool(self.model.note)
        return replace(record, backend=self.model.backend.name, reason_backend=self.model.backend.reason,
                       warnings=(*notes, *record.warnings))  # fmt: skip

    def _composed(self, records: Sequence[Record], plan: Plan, session: Session) -> Record:
        short, long, *deeper = records
        whole = compose(plan, session.untimed(self.task), short, long)
        key = self.task.spec.name, self.task.work
        if whole.status != "ok":
            return whole
        if not deeper or deeper[0].n < LEAST:
            why = [f"the deeper model to verify on failed: {deep.reason}" for deep in deeper if deep.reason]
            whole = replace(whole, warnings=(*whole.warnings, *why))
            return session.verified[key].of(whole) if key in session.verified else whole
        all_of_them = self.depth == plan.whole.n_layers
        which = f"all {count_layers(self.depth)}" if all_of_them else f"{self.depth} of {plan.whole.n_layers} layers"
        found = verify(plan, self.depth, short, long, deeper[0], f"{which} of {self.task.label}")
        session.verified.setdefault(key, found)
        return found.of(replace(whole, parts=(*whole.parts, part(self.depth, deeper[0]))))


def started(model: Model, others: Sequence[Case], session: Session, stack: ExitStack, watch: Watch) -> Iterator[Case]:
    """Builds a model, or those that stand for it, and a deeper one where a residual is wanted."""

    def built(spec: ModelSpec) -> Bench:
        given = (session.device, session.dtype, session.seed, session.rooflines, model.backend.name, watch)
        return stack.enter_context(Bench(spec, *given))

    start = time.perf_counter()
    benches = [built(spec) for spec in model.specs]
    depth = 0
    if model.plan is not None and _wanted(model, others, session):
        depth = _depth(model, model.plan, time.perf_counter() - start, session)
        if depth:
            benches.append(built(model.plan.at(depth)))
    for task in model.tasks:
        yield Case(task, model, tuple(Trial(bench, task.work) for bench in benches), depth)


def _wanted(model: Model, others: Sequence[Case], session: Session) -> bool:
    """Whether a residual of the model's workloads is neither known nor about to be."""
    known = {*session.verified, *((case.task.spec.name, case.task.work) for case in others if case.depth)}
    return any((task.spec.name, task.work) not in known for task in model.tasks)


def _depth(model: Model, plan: Plan, built_s: float, session: Session) -> int:
    """Layers of the deepest model that memory and time allow besides the two; 0 where they allow none."""
    left = available_bytes(session.device)
    room = float("inf") if left is None else SAFE * left
    most = min(VERIFY_S, session.left_s / 2)
    size = sum(need(spec, model.tasks[0].work, session.dtype, session.device).weights for spec in plan.specs)
    caches = model.nbytes(session) - size
    for layers in plan.depths():
        deep = replace(model, plan=None, tasks=tuple(replace(t, spec=plan.at(layers)) for t in model.tasks))
        runs = sum(session.bound_s(deep.spec, task.work) for task in model.tasks) * (LEAST + BESIDES)
        nbytes = deep.nbytes(session)
        if nbytes + caches <= room and built_s * nbytes / size + runs <= most:
            return layers
    return 0
