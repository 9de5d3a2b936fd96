"""What is to be timed, and what the timings of one run share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from archlab.measure.backends import Backend
from archlab.measure.blank import untimed
from archlab.measure.records import Record
from archlab.measure.rooflines import Rooflines
from archlab.measure.sampled import Verified
from archlab.spec import ModelSpec
from archlab.workload import Workload


@dataclass(frozen=True)
class Task:
    """One phase of one labelled model."""

    label: str
    spec: ModelSpec
    workload: str
    work: Workload


@dataclass(frozen=True)
class Session:
    """What the measurements of one run share: the device, its rates, how models run, and how long it may take.

    backend    fast | reference; None is fast where that covers the workload
    sampled    models are composed from some of their layers where they can be; `cache_bytes` as for `plan_for`
    verified   residuals so far, by model name and workload; a composed time of another shape counts on them
    """

    device: torch.device
    dtype: str
    rooflines: Rooflines
    seed: int = 0
    seconds: float = 3.0  # a trial
    deadline: float = float("inf")  # on the clock of time.perf_counter
    recheck: bool = False  # measure the rates again after each group, and keep the better
    backend: str | None = None
    sampled: bool = False
    cache_bytes: int | None = None
    verified: dict[tuple[str, Workload], Verified] = field(default_factory=dict)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def bound_s(self, spec: ModelSpec, work: Workload) -> float:
        """Seconds that one repetition takes at least, at the session's rates."""
        return float(self.rooflines.bound(spec, work).seconds)

    def untimed(self, task: Task, status: str = "ok", reason: str = "", backend: Backend | None = None) -> Record:
        """The record of a task that has no times."""
        ran = backend or Backend(self.backend or "fast")
        given = (self.device, self.dtype, self.seed, self.rooflines, ran, status, reason)
        return untimed(task.spec, task.work, *given)
