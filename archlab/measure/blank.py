"""A record before there are times: what would be measured, where, and what that takes at best."""

from __future__ import annotations

import torch

from archlab.errors import ArchlabError, SpecError
from archlab.measure.backends import Backend
from archlab.measure.devices import device_name
from archlab.measure.provenance import config_hash, provenance
from archlab.measure.records import Record
from archlab.measure.rooflines import Rooflines
from archlab.spec import ModelSpec
from archlab.workload import Workload


def phase_of(work: Workload) -> str:
    """prefill | decode. Raises SpecError for a workload that is neither, or that has a backward pass."""
    if work.train:
        raise SpecError("train=True cannot be timed yet; measure times prefill and decode")
    if work.new == work.context:
        return "prefill"
    if work.new == 1:
        return "decode"
    raise SpecError(f"new={work.new} must be 1 (a decode step) or context={work.context} (a prefill) to be timed")


def untimed(
    spec: ModelSpec,
    work: Workload,
    device: torch.device,
    dtype: str,
    seed: int,
    rooflines: Rooflines | None = None,
    backend: Backend = Backend("reference"),  # noqa: B008
    status: str = "ok",
    reason: str = "",
) -> Record:
    """A record of everything but the times: what would be measured, where, and the bound if the rates are known."""
    limit = rooflines.bound(spec, work) if rooflines else None
    return Record(
        model=spec.name,
        config_hash=config_hash(spec),
        phase=phase_of(work),
        batch=work.batch,
        new=work.new,
        context=work.context,
        logits=work.logits,
        device=device_name(device),
        dtype=dtype,
        seed=seed,
        backend=backend.name,
        reason_backend=backend.reason,
        status=status,
        reason=reason,
        bound_s=limit.seconds if limit else None,
        bound=limit.bound if limit else None,
        rooflines=rooflines.rates() if rooflines else None,
        provenance=provenance(device),
    )


def sentence(problem: BaseException) -> str:
    """The first line of what went wrong, with its kind where that is not archlab's own."""
    line = (str(problem).splitlines() or [""])[0]
    return line if isinstance(problem, ArchlabError) else f"{type(problem).__name__}: {line}"
