"""archlab measure: both phases of one model, timed here, beside the bound of this device's own rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archlab.cli.screen import bold, dim, table
from archlab.errors import SpecError, nearest
from archlab.measure import Record, run_all
from archlab.spec import ModelSpec, Workload
from archlab.units import show_seconds

PHASES = ("prefill", "decode", "both")


def time_phases(
    spec: ModelSpec, context: int, batch: int, phase: str, device: str | None, dtype: str | None
) -> list[Record]:
    """Records of the phases asked for; an encoder reads a source as long as the context. Raises ArchlabError."""
    if phase not in PHASES:
        raise SpecError(f"phase={phase!r} must be one of {', '.join(PHASES)}{nearest(phase, PHASES)}")
    source = context if spec.encoder is not None else 0
    prefill = Workload(batch, new=context, context=context, logits="last" if spec.decodes else "all", source=source)
    if not spec.decodes and phase == "both":
        phase = "prefill"  # it reads whole sequences
    if context == 1 and phase == "both":
        phase = "decode"  # one token is one step
    works = {"prefill": [prefill], "decode": [prefill.decode()], "both": [prefill, prefill.decode()]}[phase]
    return run_all(spec, works, device, dtype)


def facts(record: Record) -> dict[str, Any]:
    """A record as JSON, samples and provenance included."""
    return record.as_dict()


def screen(records: Sequence[Record]) -> str:
    """Median, spread and bound of each phase, and what ran."""
    first = records[0]
    rows = [_row(r) for r in records]
    head = ["phase", "median", "p5", "p95", "n", "bound here", "of bound", "tokens/s"]
    lines = [f"{bold(first.model)}   measured on {first.device}, {first.dtype}, {first.backend}", table(head, rows)]
    lines += [f"{r.phase}: {r.status}: {r.reason}" for r in records if r.status != "ok"]
    note = "bound: roofline at the read bandwidth and matmul rate measured in this run; of bound: bound / median"
    return "\n".join([*lines, dim(note)])


def _row(record: Record) -> list[str]:
    what = f"{record.phase} {record.batch} x {record.new:,} @ {record.context:,}"
    if record.median_s is None:
        return [what, record.status, *[""] * 6]
    times = [show_seconds(t) for t in (record.median_s, record.p5_s or 0, record.p95_s or 0)]
    bound = [show_seconds(record.bound_s), f"{record.bound_s / record.median_s:.0%}"] if record.bound_s else ["", ""]
    return [what, *times, str(record.n), *bound, f"{record.batch * record.new / record.median_s:,.1f}"]
