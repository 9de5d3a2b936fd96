"""Run folders as a study or a comparison writes them, for the tests of the report.

Numbers are the analyzers' own. Only the measured times are invented: a fixed multiple of the bound, so that a
picture of them is a picture of something, and so that they are the same on each machine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fast_rows
import pandas as pd
from fast_rows import Timed

import archlab
from archlab.analyzers.diagram import diagram
from archlab.analyzers.params import weight_bytes
from archlab.config import load_serving
from archlab.errors import ArchlabError
from archlab.hardware import Hardware, load_hardware
from archlab.precision import load_precision
from archlab.sweep.served import of_models
from archlab.sweep.serving_tables import serving_tables

PARTS = ("embedding", "attention", "mlp", "norm", "head")
STEP = 64
DEVICE = "AMD EPYC 7B13, 2 threads"
CPU = Hardware(
    name="here", title=DEVICE, kind="cpu", memory_bytes=2**34, bandwidth_bytes_per_s=2e10,
    peak_flops={"bf16": 1.5e11, "fp32": 1.5e11}, status="measured", source="the same run",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a run asks."""

    name: str
    kind: str
    bases: Sequence[str]
    question: str = ""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    hold: str | None = None
    workloads: Sequence[str] = ("chat-8k", "long-128k")
    hardware: Sequence[str] = ("h200-sxm", "rtx-4090")
    precisions: Sequence[str] = ("bf16",)
    measure: Sequence[Any] = ()  # values of the first axis that are measured
    refuse: Mapping[str, str] = field(default_factory=dict)  # hardware -> sentence: rows refused on it alone
    engine: str | None = None  # rows say what memory it needs, and how far it would go; bounds are left out
    timed: Timed | None = None  # what the fast decoder's timings say, in place of the older rows
    served: bool = False  # batches and operations, as a sweep writes them


HEADS = Plan(
    "attention_heads", "study", ["gemma-2-9b"], "What do shared key/value heads save, and where?",
    {"model.attention.n_kv_heads": [1, 2, 3, 4, 8, 16]}, hold="params", measure=[1, 8, 16], served=True,
)  # fmt: skip
SEVEN = Plan("gemma-2-and-3", "compare", [
    "gemma-2-2b", "gemma-2-9b", "gemma-2-27b",
    "gemma-3-1b", "gemma-3-4b-text", "gemma-3-12b-text", "gemma-3-27b-text",
], "How do Gemma 2 and Gemma 3 differ?", served=True)  # fmt: skip
ONE = Plan(
    "window", "study", ["gemma-3-1b"], "What does a narrower window save?",
    {"model.local.window": [256]}, workloads=["short-512"], hardware=[],
)  # fmt: skip
GRID = Plan(
    "window_and_pattern", "study", ["gemma-2-9b", "gemma-3-12b-text"], "Which pays more: the window or the pattern?",
    {"model.local.window": [512, 1024, 4096], "model.pattern": ["local global", "local*5 global", "local*7 global"]},
)  # fmt: skip
VOCAB = Plan(
    "vocab", "study", ["gemma-3-1b", "gemma-3-4b-text"], "What does a smaller vocabulary save?",
    {"model.vocab_size": [32000, 128000, 262144]}, workloads=["short-512", "long-32k"],
)  # fmt: skip
MANY = Plan(
    "all_devices", "compare", ["gemma-2-2b", "gemma-3-4b-text"],
    hardware=["t4", "l4", "rtx-4090", "a100-80-sxm", "h100-sxm", "h200-sxm", "b200"], precisions=["bf16", "int8"],
    workloads=["short-512", "chat-8k", "serve-8k-b32"],
    refuse={"t4": "t4 has no bf16 rate; its matrix products run in fp32, fp16, int8"},
)  # fmt: skip
FIT = Plan(
    "fit_matrix", "compare", ["gemma-3-1b", "gemma-3-4b-text", "gemma-2-9b", "gemma-3-27b-text"],
    "Which Gemma fits on which device, and how long a context?", workloads=["chat-8k", "long-32k", "long-128k"],
    hardware=["m4-16", "t4", "rtx-4090", "h100-sxm"], precisions=["q4_k_m", "bf16"], engine="llama_cpp",
)  # fmt: skip
FAST = replace(
    HEADS, name="fast_heads", workloads=("chat-8k", "long-32k"), axes={"model.attention.n_kv_heads": [1, 2, 4, 8, 16]},
    timed=Timed(
        "h200-sxm", [(1, 2048), (1, 8192)], calibrated=["h200-sxm"], extrapolated=[16], sampled=[2], residual=0.041,
    ),
)  # fmt: skip
BATCHES = Plan(
    "batch_context", "study", ["gemma-3-12b-text"], "How does a step's time grow with context and batch?",
    {"workload.context": [2048, 8192, 32768], "workload.batch": [1, 8]}, workloads=["chat-8k"],
    timed=Timed(
        "rtx-4090", [(1, 128), (1, 512), (1, 2048), (4, 128), (4, 512), (4, 2048)], stand_in="gemma-3-270m",
        calibrated=["h200-sxm"], skip=[("prefill", 4, 2048)],
    ),
)  # fmt: skip
SAMPLED = Plan(
    "sampled", "study", ["gemma-3-27b-text"], "What does the window cost?", {"model.local.window": [512, 1024, 2048]},
    workloads=["chat-8k"], hardware=["h200-sxm"],
    timed=Timed("h200-sxm", [(1, 8192)], source="extrapolated", predicted=False),
)  # fmt: skip
PLANS = {p.name: p for p in (HEADS, SEVEN, ONE, GRID, VOCAB, MANY, FIT, FAST, BATCHES, SAMPLED)}


def write(folder: Path, plan: Plan, rename: Mapping[str, str] | None = None) -> Path:
    """Writes the run; `rename` gives points, bases and families other names, hostile ones perhaps."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = list(_shapes(plan))
    tables = {
        "points": [row for shape in shapes for row in _rows(plan, shape)],
        "measured": [row for shape in shapes for row in _measured(plan, shape)],
        "curves": [row for shape in shapes for row in _curve(shape)],
        "layers": [row for shape in shapes for row in _layers(shape)],
    }
    tables |= _served(plan, shapes) if plan.served else {}
    for name, rows in tables.items():
        if len(rows):
            pd.DataFrame(rows).replace(dict(rename or {})).to_parquet(folder / f"{name}.parquet", index=False)
    text = json.dumps(_meta(plan), indent=1)
    for old, new in (rename or {}).items():
        text = text.replace(json.dumps(old), json.dumps(new))
    (folder / "run.json").write_text(text)
    return folder


def _served(plan: Plan, shapes: Sequence[Shape]) -> dict[str, Any]:
    released, others = ({s.label: s.spec for s in shapes if s.spec and s.is_base == base} for base in (True, False))
    known = of_models(list(released.values()), plan.workloads, plan.hardware, plan.precisions[0])
    return serving_tables(replace(known, ranks=[released, others]))


# ---------------------------------------------------------------- shapes


@dataclass(frozen=True)
class Shape:
    label: str
    base: str
    values: Mapping[str, Any]
    is_base: bool
    spec: Any = None
    residual: float | None = None
    reason: str | None = None

    @property
    def known(self) -> dict[str, Any]:
        """The columns that every table shares."""
        return {"point": self.label, "base": self.base, "is_base": self.is_base, **self.values}


def _shapes(plan: Plan) -> Iterator[Shape]:
    for base in plan.bases:
        if plan.kind == "compare":
            yield Shape(base, base, {}, True, archlab.load(base))
            continue
        released = archlab.load(base)
        axes = {k: v for k, v in plan.axes.items() if not k.startswith("workload.")}
        seen = []
        for combination in itertools.product(*axes.values()):
            values = dict(zip(axes, combination, strict=True))
            seen.append(_shape(plan, base, released, values))
        if not any(s.is_base for s in seen):
            values = {key: _get(released, key) for key in axes}
            seen.insert(0, replace(_shape(plan, base, released, values), is_base=True))
        yield from seen


def _shape(plan: Plan, base: str, released: Any, values: Mapping[str, Any]) -> Shape:
    label = " ".join([base, *(f"{k.split('.')[-1]}={v}" for k, v in values.items())])
    changes = {k.removeprefix("model."): v.split() if "pattern" in k else v for k, v in values.items()}
    is_base = all(_get(released, k) == v for k, v in values.items())
    try:
        spec = archlab.load(base, changes)
    except ArchlabError as e:
        return Shape(label, base, values, is_base, reason=str(e))
    if plan.hold is None:
        return Shape(label, base, values, is_base, spec)
    want = archlab.params(released).total
    excess = archlab.params(spec).total - want
    d_ff = spec.data["mlp"]["d_ff"] - excess / (3 * spec.d_model * spec.n_layers)
    spec = archlab.load(base, changes | {"mlp.d_ff": round(d_ff / STEP) * STEP})
    return Shape(label, base, values, is_base, spec, archlab.params(spec).total / want - 1)


def _get(spec: Any, key: str) -> Any:
    found: Any = spec.data
    for word in key.removeprefix("model.").split("."):
        found = found[word]
    return " ".join(found) if isinstance(found, list) else found


# ---------------------------------------------------------------- rows


def _rows(plan: Plan, shape: Shape) -> Iterator[dict[str, Any]]:
    works = list(_workloads(plan))
    for (workload, given, axes), hardware, precision in itertools.product(
        works, plan.hardware or [None], plan.precisions
    ):
        at = {
            "workload": workload, "batch": given.batch, "context": given.context, **axes,
            "hardware": hardware, "precision": precision,
        }  # fmt: skip
        if shape.spec is None:
            yield {**shape.known, "status": "refused", "reason": shape.reason, **at}
        elif plan.engine is not None:
            numbers = _numbers(shape, given.work_for(shape.spec), None, precision)
            limits = _limits(shape, given, hardware, precision, plan.engine)
            yield {
                **shape.known, "status": "ok", "reason": None, **at, "engine": plan.engine,
                **_shape_columns(shape), **numbers, **limits,
            }  # fmt: skip
        elif hardware in plan.refuse:
            yield {**shape.known, "status": "refused", "reason": plan.refuse[hardware], **at, **_shape_columns(shape)}
        else:
            numbers = _numbers(shape, given.work_for(shape.spec), hardware, precision, plan.timed)
            yield {**shape.known, "status": "ok", "reason": None, **at, **_shape_columns(shape), **numbers}


def _workloads(plan: Plan) -> Iterator[tuple[str, Any, dict[str, int]]]:
    """(name, workload, values of the axes that vary it)."""
    axes = {k: v for k, v in plan.axes.items() if k.startswith("workload.")}
    for name, *values in itertools.product(plan.workloads, *axes.values()):
        at = {k.split(".")[1]: v for k, v in zip(axes, values, strict=True)}
        label = " ".join([name, *(f"{k}={v}" for k, v in at.items())])
        yield label, replace(load_serving(name), **at), dict(zip(axes, values, strict=True))


def _limits(shape: Shape, given: Any, hardware: str, precision: str, engine: str) -> dict[str, Any]:
    asked = {"precision": precision, "engine": engine, "batch": given.batch, "context": given.context}
    found = archlab.fit(shape.spec, hardware, **asked)
    parts = ("weights", "kv_cache", "activations", "runtime")
    return {
        "memory_bytes": found.memory.needed, "memory_budget_bytes": found.memory.budget,
        **{f"memory_{part}_bytes": found.memory.by_part.get(part, 0) for part in parts},
        "memory_host_bytes": found.memory.host, "fits": found.fits,
        "max_context": found.max_context, "max_batch": found.max_batch,
    }  # fmt: skip


def _shape_columns(shape: Shape) -> dict[str, Any]:
    spec, attention = shape.spec, shape.spec.data["attention"]
    kinds = spec.kinds()
    window = spec.data.get("local", {}).get("window") if "local" in kinds else None
    return {
        "n_layers": spec.n_layers, "d_model": spec.d_model, "vocab_size": spec.vocab_size, "family": spec.family,
        "trained_context": spec.context, "window": window, "d_ff": spec.data["mlp"]["d_ff"],
        "layers_global": kinds.count("global"), "layers_local": kinds.count("local"),
        **{k: attention[k] for k in ("n_heads", "n_kv_heads", "head_dim")},
    }  # fmt: skip


def _numbers(
    shape: Shape, given: Any, hardware: str | None, precision: str, timed: Timed | None = None
) -> dict[str, Any]:
    spec = shape.spec
    held = archlab.params(spec)
    cache = archlab.kv_cache(spec, given.context, given.batch, precision)
    prefill, decode = archlab.flops(spec, given.prefill()), archlab.flops(spec, given.decode())
    row = {
        "params": held.total, **{f"params_{part}": n for part, n in held.by_part.items()},
        "hold_residual": shape.residual, "weights_bytes": weight_bytes(spec, load_precision(precision)),
        "kv_cache_bytes": cache.total, "kv_global_bytes": cache.by_part.get("global", 0),
        "kv_local_bytes": cache.by_part.get("local", 0),
        "flops_prefill": prefill.total, "flops_prefill_dense": prefill.dense,
        "flops_decode": decode.total, "flops_decode_dense": decode.dense,
    }  # fmt: skip
    for phase, work in (("prefill", given.prefill()), ("decode", given.decode())):
        if hardware is not None:
            bound = archlab.latency(spec, work, hardware, precision)
            row |= _bound(phase, bound) | fast_rows.expected(timed, hardware, phase, bound)
    return row


def _bound(phase: str, bound: Any) -> dict[str, Any]:
    parts = {f"{phase}_bound_{part}_s": bound.by_part.get(part, 0.0) for part in PARTS}
    return {f"{phase}_bound_s": bound.seconds, f"{phase}_bound_by": bound.bound, **parts}


def _measured(plan: Plan, shape: Shape) -> Iterator[dict[str, Any]]:
    if plan.timed is not None and shape.spec is not None:
        yield from _timed(plan.timed, shape)
        return
    if shape.spec is None or not plan.measure or next(iter(shape.values.values())) not in plan.measure:
        return
    work = archlab.Workload(batch=1, new=512, context=512, logits="last")
    for phase, part, slack in (("prefill", work, 1.31), ("decode", work.decode(), 1.18)):
        bound = archlab.latency(shape.spec, part, CPU, "bf16").seconds
        median = bound * slack
        yield {
            **shape.known, "workload": "short-512", "batch": 1, "context": 512, "new": part.new, "phase": phase,
            "median_s": median, "p5_s": median * 0.985, "p95_s": median * 1.06, "ci_low_s": median * 0.996,
            "ci_high_s": median * 1.007, "n": 20, "warmup_s": 1.5, "device": DEVICE, "dtype": "bf16", "bound_s": bound,
            "d_ff": shape.spec.data["mlp"]["d_ff"], "backend": "sdpa", "status": "ok", "reason": None,
        }  # fmt: skip


def _timed(plan: Timed, shape: Shape) -> Iterator[dict[str, Any]]:
    if plan.stand_in is not None:
        known = {"point": plan.stand_in, "base": plan.stand_in}
        return fast_rows.rows(plan, archlab.load(plan.stand_in), known, None)
    return fast_rows.rows(plan, shape.spec, shape.known, next(iter(shape.values.values()), None))


def _curve(shape: Shape) -> Iterator[dict[str, Any]]:
    if shape.spec is None:
        return
    contexts = [2**i for i in range(10, max(131072, shape.spec.context).bit_length())]
    for context in contexts:
        step = archlab.flops(shape.spec, archlab.Workload(new=1, context=context, logits="last"))
        yield {
            **shape.known, "context": context, "beyond_trained": context > shape.spec.context,
            "kv_cache_bytes": archlab.kv_cache(shape.spec, context).total,
            "flops_per_token": step.total, "flops_attention_per_token": step.by_part["attention"],
        }  # fmt: skip


def _layers(shape: Shape) -> Iterator[dict[str, Any]]:
    if shape.spec is None:
        return
    window = _shape_columns(shape)["window"]
    for index, kind in enumerate(shape.spec.kinds()):
        yield {"point": shape.label, "index": index, "kind": kind, "window": window if kind == "local" else None}


# ---------------------------------------------------------------- run.json


def _meta(plan: Plan) -> dict[str, Any]:
    keep = ("title", "memory_bytes", "available_bytes", "bandwidth_bytes_per_s", "peak_flops", "status", "source")
    devices = {name: load_hardware(name) for name in plan.hardware}
    works = {name: load_serving(name) for name in plan.workloads}
    said = {n: {"title": n, "batch": w.batch, "context": w.context, "logits": w.logits} for n, w in works.items()}
    formats = {name: load_precision(name) for name in plan.precisions}
    return {
        "schema": 1, "kind": plan.kind, "name": plan.name, "question": plan.question,
        "axes": [{"key": k, "label": k.split(".")[-1], "values": list(v)} for k, v in plan.axes.items()],
        "hold": plan.hold, "hold_multiple": STEP, "bases": list(plan.bases),
        "hardware": {n: {k: getattr(d, k) for k in keep} for n, d in devices.items()},
        "workloads": said, "diagrams": [diagram(archlab.load(base)) for base in plan.bases],
        "precisions": {n: {"weights": p.weights, "kv": p.kv, "compute": p.compute} for n, p in formats.items()},
        "formulas": [
            {"what": f"KV cache, bytes, {b}", "text": str(archlab.formula("kv_cache", archlab.load(b))),
             "letters": "B batch, S context"}
            for b in plan.bases[:2]
        ],
        "assumptions": [
            "A FLOP is half a multiply-add; matrix products only, causal and windowed pairs only.",
            "The KV cache is what the mathematics needs: no pages, no padding.",
            "A bound reads weights and cache once and runs at the data sheet's peak; activations are free.",
        ],
        "provenance": {
            "command": f"archlab {'sweep' if plan.kind == 'study' else 'compare'} {plan.name}", "archlab": "0.1.0",
            "commit": "912a40d", "python": "3.11.7", "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
            "host": "Linux x86_64, 2 cores, no GPU", "device": DEVICE, "started_utc": "2026-11-21T08:00:00Z",
            "seconds": 12.3, "config_hash": "3f9c2b7a41d0",
        },
    }  # fmt: skip
