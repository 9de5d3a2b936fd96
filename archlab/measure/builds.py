"""From tasks to what is built for them: a model, or the two that stand for it, and which stand side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from archlab.errors import ArchlabError
from archlab.measure.backends import Backend, backend_for
from archlab.measure.capacity import SAFE, need, refuse_unless_fits
from archlab.measure.devices import available_bytes, device_name
from archlab.measure.provenance import config_hash
from archlab.measure.sampled import Plan, plan_for
from archlab.measure.session import Session, Task
from archlab.spec import ModelSpec
from archlab.units import show_bytes

LEAST = 3
"""Samples without which a trial is not reported as measured, where the time budget ends it early."""
BESIDES = 6
"""Runs of a pass besides the samples: recording, checking and warming up, and the profiler's."""
MODELS_AT_ONCE = 4
MEMORY_SHARE = 0.7
"""Of the memory that is left, for models that stand side by side."""


@dataclass(frozen=True)
class Model:
    """Tasks that are timed on one build: of the model itself, or of the two that stand for it."""

    tasks: tuple[Task, ...]
    backend: Backend
    plan: Plan | None = None
    note: str = ""  # why it is not sampled, where that was asked for

    @property
    def spec(self) -> ModelSpec:
        """The model that is asked about."""
        return self.tasks[0].spec

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Those that are built."""
        return (self.spec,) if self.plan is None else self.plan.specs

    def nbytes(self, session: Session) -> int:
        """Weights, and the largest cache and workspace: phases of one workload after another."""
        return sum(self._nbytes(spec, session) for spec in self.specs)

    def _nbytes(self, spec: ModelSpec, session: Session) -> int:
        needs = [need(spec, task.work, session.dtype, session.device) for task in self.tasks]
        return needs[0].weights + max(n.cache + n.workspace for n in needs)

    def refuse_unless_fits(self, task: Task, dtype: str, device: torch.device) -> None:
        """Raises ArchlabError where a task's models would not fit the memory, all at once."""
        if self.plan is None:
            return refuse_unless_fits(self.spec, task.work, dtype, device)
        total, left = sum(need(s, task.work, dtype, device).total for s in self.specs), available_bytes(device)
        if left is not None and total > SAFE * left:
            raise ArchlabError(
                f"{self.spec.name} at context={task.work.context}, batch={task.work.batch} in {dtype} needs "
                f"{show_bytes(total)} even for {' and '.join(map(str, self.plan.layers))} of its layers, and "
                f"{device_name(device)} has {show_bytes(left)} left: {show_bytes(int(total - SAFE * left))} too much"
            )

    def obstacle(self, task: Task, session: Session) -> str:
        """Why a task is not worth starting: memory, or a bound that the time left cannot hold; '' if it is."""
        try:
            self.refuse_unless_fits(task, session.dtype, session.device)
        except ArchlabError as problem:
            return str(problem)
        at_best = sum(session.bound_s(spec, task.work) for spec in self.specs)
        if at_best * (LEAST + BESIDES) > session.left_s:
            left = f"{max(session.left_s, 0):.3g} s of the time budget are left"
            return f"one repetition takes at least {at_best:.3g} s, and {left}"
        return ""


def models_of(
    tasks: Iterable[Task], dtype: str, device: torch.device, backend: str | None = None, sampled: bool = False,
    cache_bytes: int | None = None,
) -> list[Model]:  # fmt: skip
    """Models in the order of their first tasks. Raises ArchlabError where a backend that is asked for is not there."""
    found: dict[tuple[str, str], tuple[Backend, list[Task]]] = {}
    for task in tasks:
        ran = backend_for(task.spec, task.work, backend)
        found.setdefault((config_hash(task.spec), ran.name), (ran, []))[1].append(task)
    if not sampled:
        return [Model(tuple(mine), ran) for ran, mine in found.values()]
    return [_sampled(tuple(mine), ran, dtype, device, cache_bytes) for ran, mine in found.values()]


def _sampled(
    tasks: tuple[Task, ...], backend: Backend, dtype: str, device: torch.device, cache_bytes: int | None
) -> Model:
    works = [task.work for task in tasks]
    try:
        return Model(tasks, backend, plan_for(tasks[0].spec, works, dtype, device, cache_bytes))
    except ArchlabError as problem:
        return Model(tasks, backend, note=f"measured whole: {problem}")


def groups(models: Iterable[Model], session: Session) -> Iterator[list[Model]]:
    """Models that can stand in memory side by side, in their order."""
    left = available_bytes(session.device)
    room = float("inf") if left is None else MEMORY_SHARE * left
    group: list[Model] = []
    held = 0
    for model in models:
        size = model.nbytes(session)
        if group and (held + size > room or len(group) == MODELS_AT_ONCE):
            yield group
            group, held = [], 0
        group.append(model)
        held += size
    if group:
        yield group
