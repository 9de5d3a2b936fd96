"""Run folders of grids, small and large, made of plain arithmetic: a report knows no more than its folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GIB = 2**30
HEADS, WINDOW = "model.attention.n_kv_heads", "model.local.window"
D_FF, CONTEXT = "model.mlp.d_ff", "workload.context"
SMALL: Mapping[str, Sequence[Any]] = {HEADS: [1, 2, 4, 8], WINDOW: [512, 1024, 4096]}
LARGE: Mapping[str, Sequence[Any]] = {
    HEADS: [1, 2, 4, 8, 16], WINDOW: list(range(256, 2816, 64)), CONTEXT: list(range(1024, 103424, 1024)),
    D_FF: list(range(4096, 20096, 32)),
}  # fmt: skip
OBJECTIVES = ["min kv_cache_bytes", "min decode_bound_s", "max params"]
HOSTILE = "<script>alert(1)</script>"
EVIDENCE = [
    {"sentence": "A 9B with MHA against the same 9B with GQA: MHA = 50.3, GQA = 50.8", "title": "Gemma 2, table 8",
     "year": 2024, "url": "https://arxiv.org/abs/2408.00118", "kind": "report_text"},
    {"sentence": f"{HOSTILE} and %{{x}}", "title": '"><img src=x onerror=alert(2)>', "year": 2023,
     "url": "javascript:alert(3)", "kind": "recalled"},
]  # fmt: skip


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a page from n_kv_heads, window, d_ff and context, of a model with 21 layers of each kind."""
    heads, window = frame[HEADS].to_numpy(float), frame[WINDOW].to_numpy(float)
    d_ff = frame[D_FF].to_numpy(float) if D_FF in frame else np.full(len(frame), 14336.0)
    context = frame["context"].to_numpy(float)
    params = 1e9 + 4e8 * heads + 3 * 42 * 3584 * d_ff
    cache = 21 * 1024 * heads * (context + np.minimum(window, context))
    step = (2 * params + cache) / 4.8e12
    return frame.assign(
        params=params, params_attention=4e8 * heads, params_mlp=params - 4e8 * heads, weights_bytes=2 * params,
        kv_cache_bytes=cache, kv_global_bytes=21 * 1024 * heads * context,
        kv_local_bytes=21 * 1024 * heads * np.minimum(window, context), memory_bytes=2 * params + cache,
        memory_budget_bytes=140.0 * GIB, fits=True, flops_decode=2 * params, decode_bound_s=step,
        decode_bound_attention_s=step / 4, decode_bound_mlp_s=step * 3 / 4, decode_bound_by="memory",
    )  # fmt: skip


def placed(axes: pd.DataFrame, context: int = 8192) -> pd.DataFrame:
    """Points with their names and where they run."""
    shape = [k for k in axes.columns if k.startswith("model.")]
    short = [k.rpartition(".")[2] for k in shape]
    named = [
        "gemma-x " + " ".join(f"{s}={v}" for s, v in zip(short, row, strict=True)) for row in axes[shape].to_numpy()
    ]
    contexts = axes[CONTEXT] if CONTEXT in axes else pd.Series([context] * len(axes))
    work = [f"chat-8k context={c}" if CONTEXT in axes else "chat-8k" for c in contexts]
    return pd.DataFrame({
        "point": named, "base": "gemma-x", "is_base": (axes[HEADS] == 8) & (axes[WINDOW] == 4096), "workload": work,
        "batch": 1, "context": contexts, "hardware": "h200-sxm", "precision": "bf16", "engine": "ideal",
        **{k: axes[k] for k in axes.columns}, "status": "ok", "reason": None,
    })  # fmt: skip


def small(folder: Path, **meta: Any) -> Path:
    """Twelve points, of which four are on the front, three are excluded and one is refused."""
    axes = pd.DataFrame(list(itertools.product(*SMALL.values())), columns=list(SMALL))
    points = numbers(placed(axes))
    points["front"] = points[WINDOW] == 512
    out = points[HEADS] == 8
    points.loc[out, ["status", "reason", "front"]] = ["excluded", f"not kv_cache_bytes <= 1 GiB {HOSTILE}", False]
    lost = (points[HEADS] == 4) & (points[WINDOW] == 4096)
    points.loc[lost, ["status", "reason"]] = ["refused", "window=4096 is too wide"]
    points.loc[lost, [c for c in points.columns if points[c].dtype.kind == "f"]] = np.nan
    points["quality_loss"] = 2.3 + 0.1 / points[HEADS]
    asked = {
        "objectives": OBJECTIVES,
        "where": ["kv_cache_bytes <= 1 GiB"],
        "evidence": EVIDENCE,
        "notes": ["1 of 9 keys"],
    }
    return written(folder, SMALL, {"points": points}, **asked | meta)


def large(folder: Path, rows: int = 20_000, **meta: Any) -> Path:
    """A sample of 10^7 points, and what the axes do over all of them."""
    rng = np.random.default_rng(0)
    axes = pd.DataFrame({k: rng.choice(v, rows) for k, v in LARGE.items()})
    points = numbers(placed(axes))
    points["front"] = points[HEADS] + points[D_FF] <= 1 + 4096 + 320
    points.loc[rng.choice(rows, 50, replace=False), ["status", "reason"]] = ["excluded", "not params >= 2 B"]
    tables = {"points": points, "marginals": pd.concat(_marginals(), ignore_index=True)}
    asked = {"objectives": OBJECTIVES[:2], "computed": 10**7, "sampled": True, "rows": "kept"}
    return written(folder, LARGE, tables, **asked | meta)


def _marginals() -> Iterator[pd.DataFrame]:
    """Means that rise along an axis: 8 times along heads, twice along d_ff, not at all along the window."""
    place = {"base": "gemma-x", "workload": "chat-8k", "hardware": "h200-sxm", "precision": "bf16", "engine": "ideal"}
    for column, unit in (("kv_cache_bytes", GIB), ("decode_bound_s", 1e-3), ("params", 1e9)):
        for key, times in ((HEADS, 8), (WINDOW, 1), (CONTEXT, 4), (D_FF, 2)):
            n = len(LARGE[key])
            mean = unit * np.geomspace(1, times, n)
            yield pd.DataFrame({
                "column": column, **place, "key": key.removeprefix("model."), "position": range(n),
                "points": 10**7 // n, "low": mean / 2, "high": mean * 3, "mean": mean, "value": LARGE[key],
            })  # fmt: skip


def written(folder: Path, turned: Mapping[str, Sequence[Any]], tables: Mapping[str, pd.DataFrame], **meta: Any) -> Path:
    """run.json and its tables."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    device = {"title": "NVIDIA H200 SXM 141GB", "memory_bytes": 141 * GIB, "available_bytes": 140 * GIB}
    work = {"batch": 1, "context": 8192}
    run = {
        "schema": 1, "kind": "study", "name": "grid", "question": "What does it cost?", "bases": ["gemma-x"],
        "axes": [{"key": k, "label": k.rpartition(".")[2], "values": list(v)} for k, v in turned.items()],
        "hardware": {"h200-sxm": device}, "workloads": {"chat-8k": work}, "precisions": {"bf16": {}},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run | meta))
    return folder


def vocabulary(folder: Path) -> Path:
    """Three vocabularies, of which the last has no tokens that anybody counted."""
    points = placed(pd.DataFrame({HEADS: [8] * 3, WINDOW: [512] * 3}))
    sizes = [32_768, 262_144, 2_000_000]
    points = numbers(points).assign(**{"model.vocab_size": sizes, "vocab_size": sizes})
    points["point"] = [f"gemma-x vocab_size={v}" for v in sizes]
    points["tokens_per_character"] = [0.25, 0.2, np.nan]
    points["decode_bound_s"] = [1e-3, 1.5e-3, 9e-3]
    points["decode_bound_per_character_s"] = points["decode_bound_s"] * points["tokens_per_character"]
    points["kv_cache_per_character_bytes"] = 4096.0 * points["tokens_per_character"]
    axes = {"model.vocab_size": sizes}
    return written(folder, axes, {"points": points.drop(columns=[HEADS, WINDOW])})
