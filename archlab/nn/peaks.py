"""The peak of each step twice: from torch's memory tracker, and from the rows.

Three steps of a model in bf16: a prefill of the whole context that gives the last row of logits, a decode step that
ends there, and a training step on as many tokens (forward, cross-entropy of all logits, backward; no optimizer).
Attention is eager on both sides, since that is what the module runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from archlab.analyzers.activations import activations
from archlab.analyzers.kv_cache import kv_cache
from archlab.ledger import ledger
from archlab.nn.declare import ABSENT
from archlab.nn.tracker import Peak, peak
from archlab.spec import ModelSpec
from archlab.workload import Workload

ALLOWED = 0.10
"""How far the rows may be off, as a share of the tracked peak."""

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Precision -> the format that the module is built in."""


@dataclass(frozen=True)
class Estimate:
    """The peak by the rows: bytes by category, and the moment."""

    by_category: dict[str, int]
    at: str

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.by_category.values())


@dataclass(frozen=True)
class Compared:
    """One step: what was tracked, and what the rows say."""

    work: Workload
    tracked: Peak
    rows: Estimate

    @property
    def error(self) -> float:
        """Of the rows, as a share of the tracked peak."""
        return self.rows.total / self.tracked.total - 1

    @property
    def ok(self) -> bool:
        """Whether the rows are close enough."""
        return abs(self.error) <= ALLOWED

    def as_dict(self) -> dict[str, Any]:
        """What a JSON document says of it."""
        rows = {"total": self.rows.total, "by_category": self.rows.by_category, "at": self.rows.at}
        return {**self.tracked.as_dict(), "rows": rows, "error": self.error, "ok": self.ok}


@dataclass(frozen=True)
class MemoryCheck:
    """All steps of a model, for `batch` sequences of `context` tokens."""

    model: str
    context: int
    batch: int
    steps: tuple[Compared, ...]

    @property
    def ok(self) -> bool:
        """Whether the rows are close enough in each."""
        return all(step.ok for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """What a JSON document says of it."""
        return {
            "model": self.model, "context": self.context, "batch": self.batch, "dtype": "bf16", "allowed": ALLOWED,
            "steps": [step.as_dict() for step in self.steps], "ok": self.ok,
        }  # fmt: skip


def check_memory(spec: ModelSpec, context: int, batch: int = 1) -> MemoryCheck:
    """Tracks the three steps and holds the rows against them. Raises ArchlabError."""
    steps = tuple(Compared(work, peak(spec, work), estimate(spec, work)) for work in works(spec, context, batch))
    return MemoryCheck(spec.name, context, batch, steps)


def works(spec: ModelSpec, context: int, batch: int = 1) -> Iterator[Workload]:
    """The three steps; an encoder reads a source as long as the context, and its model's decoder follows it."""
    source = context if spec.encoder is not None else 0
    prefill = Workload(batch, new=context, logits="last", source=source)
    yield prefill
    if spec.decodes:
        yield prefill.decode()
    yield dataclasses.replace(prefill, train=True, logits="all")


def estimate(spec: ModelSpec, work: Workload, precision: str = "bf16") -> Estimate:
    """The peak of a step of the built module, whatever is known by number only left out."""
    found = activations(spec, work, precision, attention="eager", gradients="made")
    cached = 0
    if spec.decodes and not work.train:
        cached = kv_cache(spec, work.context, work.batch, precision, source=work.source).total
    held = sum(
        entry.numel(weight) * entry.count  # buffers too
        for entry in ledger(spec).entries
        for weight in entry.rows.weights.values()
        if weight.tied is None and weight.use not in ABSENT
    )
    width = torch.finfo(FORMATS[precision]).bits // 8
    by_category = {"parameters": held * width, "cache": int(cached), "activations": int(found.total)}
    return Estimate(by_category | {"gradients": int(found.gradients)}, found.peak_at)
