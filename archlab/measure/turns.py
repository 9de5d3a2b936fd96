"""Tasks measured in turns, group by group, within a time budget.

Models are built side by side where memory allows and take turns at each workload (A B C A B C): a machine that slows
down slows all of them, not the last one. What cannot fit the memory or the time is said so before it is built, and
where the time turns out too short, the cheap phases are the ones that are measured. At the end of a group its first
phase is measured again: `group_drift`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from archlab.errors import ArchlabError
from archlab.measure.backends import backend_for
from archlab.measure.bench import AT_LEAST, WARMUP_S
from archlab.measure.blank import sentence
from archlab.measure.builds import BESIDES, LEAST, Model, groups, models_of
from archlab.measure.cases import Case, started
from archlab.measure.records import Record
from archlab.measure.rooflines import measure_again
from archlab.measure.session import Session, Task
from archlab.measure.state import Watch
from archlab.measure.trial import Trial
from archlab.workload import Workload

BURST_S = 0.2
"""Seconds of one turn; a repetition that takes longer is a turn."""
PATIENCE = 3
"""Times the seconds of a trial after which it ends with fewer samples."""
FEWEST = {"cpu": LEAST, "cuda": 10}
WARM_AGAIN = 0.3
"""Share of the warm-up that a trial needs whose device has just been warmed up by another."""
FOR_THE_TURNS = 0.92
"""Of a group's time; the rest is for its first phase, again."""
DRIFT = {"cuda": 0.05, "cpu": 0.15}
"""Change of a group's first phase from which its records carry a warning."""


def measure_tasks(tasks: Iterable[Task], session: Session) -> Iterator[tuple[Task, Record]]:
    """Measures tasks group by group, each within its share of the time; yields a group's results once it is done."""
    models: list[Model] = []
    able: list[Task] = []
    for task in tasks:
        try:
            backend_for(task.spec, task.work, session.backend)
        except ArchlabError as problem:
            yield task, session.untimed(task, "skipped", str(problem))
        else:
            able.append(task)
    how = (session.dtype, session.device, session.backend, session.sampled, session.cache_bytes)
    for model in models_of(able, *how):
        reasons = [model.obstacle(task, session) for task in model.tasks]
        for task, reason in zip(model.tasks, reasons, strict=True):
            if reason:
                yield task, session.untimed(task, "skipped", reason, model.backend)
        doable = tuple(task for task, reason in zip(model.tasks, reasons, strict=True) if not reason)
        models += [replace(model, tasks=doable)] * bool(doable)
    remaining = sum(len(model.tasks) for model in models)
    for group in groups(models, session):
        count = sum(len(model.tasks) for model in group)
        share = time.perf_counter() + session.left_s * count / remaining
        remaining -= count
        yield from _measure_group(group, replace(session, deadline=min(share, session.deadline)))


def _measure_group(group: Sequence[Model], session: Session) -> Iterator[tuple[Task, Record]]:
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(session.device))
        cases: list[Case] = []
        for model in group:
            try:
                cases += started(model, cases, session, stack, watch)
            except Exception as problem:
                reason = sentence(problem)
                yield from ((task, session.untimed(task, "failed", reason, model.backend)) for task in model.tasks)
        ordered = sorted(cases, key=lambda case: session.bound_s(case.task.spec, case.task.work))
        _cheapest_first(ordered, replace(session, deadline=time.perf_counter() + FOR_THE_TURNS * session.left_s))
        again = _first_again(ordered, session)
        if session.recheck:
            session = _recheck(session, cases)
        verifying = sorted(cases, key=lambda case: not case.depth)  # what others count on comes first
        records = {id(case): case.result(session) for case in verifying}
        for case in cases:
            yield case.task, _with_drift(records[id(case)], again, session)


def _recheck(session: Session, cases: Iterable[Case]) -> Session:
    """The session with rates that were measured again beside the models."""
    rates = measure_again(session.rooflines, session.device)
    for case in cases:
        for trial in case.trials:
            trial.bench.rooflines = rates
    return replace(session, rooflines=rates)


def _cheapest_first(cases: Sequence[Case], session: Session) -> None:
    """Workload by workload in the order of the cases, the one of least bound first: what time is short for is the
    dearest, not everything.
    """
    sets: dict[Workload, list[Trial]] = {}
    for case in cases:
        sets.setdefault(case.task.work, []).extend(case.trials)
    for done, trials in enumerate(sets.values()):
        share = session.left_s / (len(sets) - done)
        _take_turns(trials, replace(session, deadline=time.perf_counter() + share))
        for trial in trials:
            if len(trial.sampler.samples) >= LEAST:
                trial.finish()
            trial.free()


def _take_turns(trials: Sequence[Trial], session: Session) -> None:
    """Warms each trial up, then samples them in bursts, one after the other, until all have enough or time is up."""
    warmup = min(WARMUP_S[session.device.type], session.left_s / (4 * len(trials)))
    for index, trial in enumerate(trials):
        if session.left_s > 0:
            trial.warm_up(warmup * (WARM_AGAIN if index else 1))
    waiting = [t for t in trials if t.sampler.warmup_s and not t.problem]
    while waiting and session.left_s > 0:
        for trial in waiting:
            if session.left_s > 0:
                trial.sample(min(BURST_S, session.seconds / LEAST))
        waiting = [t for t in waiting if not t.problem and not _enough(t, session)]


def _enough(trial: Trial, session: Session) -> bool:
    """Time and samples; after some patience fewer will do: a pass that takes long varies little."""
    sampler, where = trial.sampler, session.device.type
    wanted = AT_LEAST[where] if sampler.spent_s < PATIENCE * session.seconds else FEWEST[where]
    return sampler.full or (sampler.spent_s >= session.seconds and len(sampler.samples) >= wanted)


# ---------------------------------------------------------------- the group's first phase, again


def _first_again(cases: Sequence[Case], session: Session) -> float | None:
    """The first phase of a group timed once more, over its first median, less 1; None where time or it is short."""
    if not cases or len(cases[0].trials[0].sampler.samples) < LEAST:
        return None
    first = cases[0].trials[0]
    before = median(first.sampler.samples)
    if before * (LEAST + BESIDES) > session.left_s:
        return None
    again = Trial(first.bench, first.work)
    again.warm_up(WARMUP_S[session.device.type] * WARM_AGAIN)
    again.sample(BURST_S, LEAST)
    again.free()
    return median(again.sampler.samples) / before - 1 if not again.problem else None


def _with_drift(record: Record, again: float | None, session: Session) -> Record:
    """The record with what the group's first phase became, and a warning where that is much."""
    if record.status != "ok" or again is None:
        return record
    most = DRIFT[session.device.type]
    said = f"the device became {'slower' if again > 0 else 'faster'} while the group was timed: by {abs(again):.0%}"
    notes = (said,) if abs(again) > most else ()
    return replace(record, group_drift=again, warnings=(*record.warnings, *notes))
