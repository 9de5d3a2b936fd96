"""Peak memory of prefill, decode and training step as the allocator saw it, beside the tracker's and the rows'.

The tracker and the rows count bytes of tensors. The allocator rounds each to 512 bytes, and kernels ask it for
workspaces (cuBLAS): `error` of both says how much that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from archlab.errors import ArchlabError
from archlab.measure import memory_runtime
from archlab.measure.capacity import SAFE
from archlab.measure.devices import DTYPES, available_bytes, device_name, release
from archlab.measure.provenance import config_hash, provenance
from archlab.measure.studies import TINY
from archlab.nn.build import build
from archlab.nn.peaks import estimate, works
from archlab.nn.tracker import Inference, Peak, Training, peak
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.units import show_bytes
from archlab.workload import Workload

MODELS = ("gemma-3-270m", "gemma-3-1b", "gemma-2-2b", "recurrentgemma-2b", "gemma-3-4b-text")
CONTEXTS = (1024, 4096)


@dataclass(frozen=True)
class Task:
    """One step of one model."""

    spec: ModelSpec
    work: Workload


def tasks(quick: bool, models: Sequence[str] = MODELS) -> Iterator[Task]:
    """What is measured by default: three steps of a few small models, at two lengths."""
    changes = {**TINY, "attention.n_kv_heads": 2} if quick else {}
    for name in models[:1] if quick else models:
        spec = load(name, changes)
        for context in (64,) if quick else CONTEXTS:
            for work in works(spec, context):
                yield Task(spec, work)


class Silent:
    """Stands where the tracker's record does."""

    def at(self, phase: str, path: str) -> None:
        """Nothing is kept."""


def measure_peak(task: Task, device: torch.device, dtype: str) -> dict[str, Any]:
    """The record of one step. Raises ArchlabError where the tracked peak would not fit the device."""
    spec, work = task.spec, task.work
    tracked = peak(spec, work, DTYPES[dtype])
    _refuse_unless_fits(spec, tracked, device)
    rows = estimate(spec, work, dtype)
    allocated, reserved = on_device(spec, work, device, dtype)
    return {
        "model": spec.name, "config_hash": config_hash(spec), "step": tracked.step, "batch": work.batch,
        "new": work.new, "context": work.context, "logits": work.logits, "dtype": dtype, "device": device_name(device),
        "peak_allocated_bytes": allocated, "peak_reserved_bytes": reserved,
        "tracked_bytes": tracked.total, "tracked": tracked.as_dict(), "tracked_error": tracked.total / allocated - 1,
        "rows_bytes": rows.total, "rows": rows.by_category, "rows_error": rows.total / allocated - 1,
        "status": "ok", "reason": "", "provenance": provenance(device),
    }  # fmt: skip


def measure_graph(task: Task, device: torch.device, dtype: str) -> dict[str, Any]:
    """The record of a CUDA graph of one decode step: what it takes of the device, and what its pool keeps."""
    step = Inference(build(task.spec, device=device, dtype=DTYPES[dtype]), task.work)

    def again() -> None:
        if step.cache is not None:
            step.cache.position = task.work.context - task.work.new
        step(Silent())

    found = memory_runtime.measure_graph(again, device)
    return {
        "model": task.spec.name, "config_hash": config_hash(task.spec), "context": task.work.context, "dtype": dtype,
        "device": device_name(device), **found, "status": "ok", "reason": "", "provenance": provenance(device),
    }  # fmt: skip


def on_device(spec: ModelSpec, work: Workload, device: torch.device, dtype: str) -> tuple[int, int]:
    """(allocated, reserved) bytes at the peak of one step, model and cache included, what was there before not."""
    release(device)
    before = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    step = _step(spec, work, device, dtype)
    torch.cuda.reset_peak_memory_stats(device)
    step(Silent())
    torch.cuda.synchronize(device)
    peaks = torch.cuda.max_memory_allocated(device) - before[0], torch.cuda.max_memory_reserved(device) - before[1]
    del step
    release(device)
    return peaks


def _step(spec: ModelSpec, work: Workload, device: torch.device, dtype: str) -> Inference | Training:
    model = build(spec, device=device, dtype=DTYPES[dtype])
    return Training(model, work) if work.train else Inference(model, work)


def _refuse_unless_fits(spec: ModelSpec, tracked: Peak, device: torch.device) -> None:
    left = available_bytes(device)
    if left is not None and tracked.total > SAFE * left:
        raise ArchlabError(
            f"{spec.name} needs {show_bytes(tracked.total)} for a {tracked.step} step, and {device_name(device)} has "
            f"{show_bytes(left)} left"
        )
