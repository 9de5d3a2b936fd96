"""One model, measured here and now: its phases, in turns, beside the device's own rates of the same minutes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from archlab.errors import ArchlabError
from archlab.measure.blank import phase_of
from archlab.measure.builds import models_of
from archlab.measure.devices import find_device, find_dtype
from archlab.measure.records import Record
from archlab.measure.rooflines import Rooflines, measure_rooflines
from archlab.measure.session import Session, Task
from archlab.measure.turns import measure_tasks
from archlab.spec import ModelSpec
from archlab.workload import Workload


def run(
    spec: ModelSpec,
    work: Workload,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    rooflines: Rooflines | None = None,
    backend: str | None = None,
    sampled: bool = False,
) -> Record:
    """Builds the model and times one phase for about `seconds`: prefill (work.new == work.context) or decode (new 1).

    The device is the GPU if there is one, the format bf16 there and fp32 on a CPU, unless told. The device's rates are
    measured first and last (about 2 s each) unless given.
    backend   fast | reference; by default fast where it covers the workload, and the record says what kept it from it
    sampled   the time is composed from models of fewer layers, and verified on the deepest that fits
    Raises ArchlabError for another kind of workload, for a backend that does not cover it and for what would not fit
    in memory; what runs out of memory all the same is a record with status "failed".
    """
    return run_all(spec, [work], device, dtype, seconds, seed, rooflines, backend, sampled)[0]


def run_all(
    spec: ModelSpec,
    works: Sequence[Workload],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    rooflines: Rooflines | None = None,
    backend: str | None = None,
    sampled: bool = False,
) -> list[Record]:
    """As `run`, several workloads on one built model, `seconds` each."""
    where = find_device(device)
    kind = find_dtype(dtype, where)
    tasks = [Task(spec.name, spec, phase_of(work), work) for work in works]
    for model in models_of(tasks, kind, where, backend, sampled):
        for task in model.tasks:
            model.refuse_unless_fits(task, kind, where)
    rates = rooflines or measure_rooflines(where, kind)
    session = Session(where, kind, rates, seed, seconds, recheck=rooflines is None, backend=backend, sampled=sampled)
    records = {id(task): record for task, record in measure_tasks(tasks, session)}
    return [_said(records[id(task)]) for task in tasks]


def _said(record: Record) -> Record:
    """The record of what was tried. Raises ArchlabError for what turned out not to fit after all."""
    if record.status == "skipped":
        raise ArchlabError(record.reason)
    return record
