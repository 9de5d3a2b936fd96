"""Timings and predictions as the fast decoder's measurement writes them, for the fabricated runs of the report.

Bounds are the analyzers' own. What lies above them is invented: a share of the bound, a little noise by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import archlab
from archlab.hardware import load_hardware

SLACK = {"decode": 1.24, "prefill": 1.37}
"""Phase -> a plausible time over the bound of the data sheet."""
UNSEEN = {"predicted_error_median": 0.034, "predicted_error_p90": 0.081}
KERNELS = {
    "decode": "gemv_bf16_tn, flash_decode_split_kv<256>, fused_norm_residual, gelu_mul",
    "prefill": "nvjet_tst_128x256, flash_fwd_sm90<256, causal>, fused_norm_residual, gelu_mul",
}


FEW = "head + 1 and 2 periods of 6 layers, 62 layers extrapolated"
WARNING = "clocks fell by 4 % while samples were taken"


@dataclass(frozen=True)
class Timed:
    """What is timed, and what a calibration knew of it."""

    device: str  # whose data sheet stands in for the rates of the session
    at: Sequence[tuple[int, int]]  # (batch, context)
    stand_in: str | None = None  # a base that is timed in the run's place
    dtype: str = "bf16"
    calibrated: Sequence[str] = ()  # hardware whose points have predictions
    predicted: bool = True
    source: str | None = "measured"  # None: a run that does not say
    extrapolated: Sequence[Any] = ()  # values of the first axis whose times are of a few layers alone
    sampled: Sequence[Any] = ()  # those whose few layers were checked against all of them
    residual: float | None = None  # of the extrapolated
    skip: Sequence[tuple[str, int, int]] = ()  # (phase, batch, context) that did not fit the time


def rows(plan: Timed, spec: Any, known: Mapping[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """The rows of one shape; `value` is that of the first axis."""
    device = load_hardware(plan.device)
    place = {"device": device.title, "dtype": plan.dtype, "backend": "fast"}
    for batch, context in plan.at:
        whole = archlab.Workload(batch, new=context, context=context, logits="last")
        for phase, work in (("prefill", whole), ("decode", whole.decode())):
            at = {
                **known, "workload": f"{context}-b{batch}", "phase": phase, "batch": batch, "context": context,
                "new": work.new, "d_ff": spec.data["mlp"]["d_ff"], **place,
            }  # fmt: skip
            bound = archlab.latency(spec, work, plan.device, plan.dtype)
            if (phase, batch, context) in plan.skip:
                why = f"one repetition takes at least {bound.seconds:.3g} s, and 2 s of the time budget are left"
                yield {**at, "bound_s": bound.seconds, "status": "skipped", "reason": why}
            else:
                median = _median(phase, f"{known['point']} {phase} {batch} {context}", bound.seconds)
                yield {
                    **at, **_spread(median, phase), "bound_s": bound.seconds, "status": "ok", "reason": "",
                    **_source(plan, value), **_expected(plan, bound, median, f"{known['point']}{context}"),
                    "read_bytes_per_s": 4.19e12, "copy_bytes_per_s": 3.92e12, "kernels": KERNELS[phase],
                    "runs": "CUDA graph", "attention": "flash",
                }  # fmt: skip


def _median(phase: str, name: str, bound: float) -> float:
    return bound * SLACK[phase] * (1 + Random(name).uniform(-0.03, 0.03)) + 2e-4


def _spread(median: float, phase: str) -> dict[str, Any]:
    wide = 1.0 if phase == "decode" else 2.0
    return {
        "median_s": median, "p5_s": median * (1 - 0.006 * wide), "p95_s": median * (1 + 0.021 * wide), "n": 60,
        "ci_low_s": median * 0.998, "ci_high_s": median * 1.003, "warmup_s": 1.0, "drift": 0.004,
    }  # fmt: skip


def _source(plan: Timed, value: Any) -> dict[str, Any]:
    """How a time came to be; that of a few layers has neither a spread nor a count of its own."""
    if plan.source is None:
        return {}
    apart = value in plan.extrapolated or plan.source == "extrapolated"
    if not apart and value not in plan.sampled:
        return {"source": "measured", "sampled": "", "residual": None, "warnings": ""}
    residual = plan.residual if apart else 0.012
    return {
        "source": "extrapolated" if apart else "measured", "sampled": FEW, "residual": residual,
        "p5_s": None, "p95_s": None, "n": 0, "warnings": WARNING,
    }  # fmt: skip


def _expected(plan: Timed, bound: Any, median: float, name: str) -> dict[str, Any]:
    if not plan.predicted:
        return {}
    seconds = median * (1 + Random(name).gauss(0, 0.035))
    composed = {"predicted_source": "composed" if Random(name).random() < 0.3 else "predicted"}
    return {"predicted_s": seconds, **composed, **UNSEEN, **_parts("predicted", bound, seconds)}


def _parts(start: str, bound: Any, seconds: float) -> dict[str, float]:
    """By part as the bound is, but for 4 % that no part has."""
    return {f"{start}_{part}_s": s / bound.seconds * seconds * 0.96 for part, s in bound.by_part.items()}


def expected(plan: Timed | None, hardware: str | None, phase: str, bound: Any) -> dict[str, Any]:
    """The columns that a calibrated device adds to a row of points."""
    if plan is None or hardware not in plan.calibrated:
        return {}
    seconds = bound.seconds * SLACK[phase]
    return {
        f"{phase}_predicted_s": seconds, **_parts(f"{phase}_predicted", bound, seconds),
        "predicted_error_median": UNSEEN["predicted_error_median"],
    }  # fmt: skip
