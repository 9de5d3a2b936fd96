"""archlab measure: both phases of one model, timed here, beside the bound of this device's own rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from archlab.analyzers.latency import Latency
from archlab.cli.screen import bold, dim, table
from archlab.errors import SpecError, nearest
from archlab.measure import Record, run_all
from archlab.measure.expected import expected
from archlab.measure.records import distinct
from archlab.spec import ModelSpec
from archlab.units import show_seconds
from archlab.workload import Workload

PHASES = ("prefill", "decode", "both")


def time_phases(
    spec: ModelSpec,
    context: int,
    batch: int,
    phase: str,
    device: str | None,
    dtype: str | None,
    backend: str | None = None,
    sampled: bool = False,
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
    return run_all(spec, works, device, dtype, backend=backend, sampled=sampled)


def facts(records: Sequence[Record], beside: Sequence[Latency] = ()) -> list[dict[str, Any]]:
    """Records as JSON, samples and provenance included, with what was predicted where the device is calibrated."""
    found = [record.as_dict() for record in records]
    for record, prediction in zip(found, beside, strict=False):
        record |= {"predicted_s": prediction.seconds, "predicted_source": prediction.source}
        record["predicted_error"] = prediction.error_band and asdict(prediction.error_band)
    return found


def predictions(spec: ModelSpec, records: Sequence[Record]) -> list[Latency]:
    """What each record's device was predicted to take; empty where it is not calibrated for the format."""
    found = []
    for r in records:
        source = r.context if spec.encoder is not None else 0
        work = Workload(r.batch, new=r.new, context=r.context, logits=r.logits, source=source)
        rate = (r.rooflines or {}).get("read_bytes_per_s")
        found.append(expected(spec, work, r.device, r.dtype, r.backend, rate))
    return [latency for latency in found if latency is not None] if all(found) else []


def screen(records: Sequence[Record], beside: Sequence[Latency] = ()) -> str:
    """Median, spread and bound of each phase, what ran, how far to trust it, and what to know before using it."""
    first = records[0]
    rows = [_row(r) for r in records]
    for row, prediction in zip(rows, beside, strict=False):
        row.append(show_seconds(prediction.seconds))
    head = ["phase", "median", "p5", "p95", "n", "bound here", "of bound", "tokens/s", *["predicted"] * bool(beside)]
    lines = [f"{bold(first.model)}   timed on {first.device}, {first.dtype}", table(head, rows)]
    lines += [line for record in records for line in _said(record)]
    lines += [f"warning: {text}" for text in distinct(text for record in records for text in record.warnings)]
    lines += [_trust(prediction) for prediction in beside[:1]]
    note = "bound: roofline at the read bandwidth and matmul rate measured in this run; of bound: bound / median"
    return "\n".join([*lines, dim(note)])


def _row(record: Record) -> list[str]:
    what = f"{record.phase} {record.batch} x {record.new:,} @ {record.context:,}"
    if record.median_s is None:
        return [what, record.status, *[""] * 6]
    times = ["" if t is None else show_seconds(t) for t in (record.median_s, record.p5_s, record.p95_s)]
    bound = [show_seconds(record.bound_s), f"{record.bound_s / record.median_s:.0%}"] if record.bound_s else ["", ""]
    return [what, *times, str(record.n), *bound, f"{record.batch * record.new / record.median_s:,.1f}"]


def _trust(prediction: Latency) -> str:
    """How wrong the predictions were on configurations that were left out, and what they were made from."""
    band = prediction.error_band
    wrong = "" if band is None else f"held-out error {band.median:.1%} (median), {band.p90:.1%} (nine of ten); "
    return f"{prediction.source}: {wrong}{prediction.assumptions[0]}"


def _said(record: Record) -> Iterator[str]:
    """What ran and how far to trust it, or what went wrong."""
    if record.status != "ok":
        yield f"{record.phase}: {record.status}: {record.reason}"
        return
    yield f"{record.phase}: {record.source}; {record.ran}"
    if record.sampled:
        low, high = (show_seconds(s or 0) for s in (record.ci_low_s, record.ci_high_s))
        yield f"{record.phase}: 95 % of the median {low} to {high}"
