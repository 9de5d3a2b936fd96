"""What the suite measures, as data: a base model, the values of one key, and the phases that are timed.

Ordered so that a run that is cut short leaves something whole: the base of each study comes first in its grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.presets import load
from archlab.spec import ModelSpec, Workload


@dataclass(frozen=True)
class Study:
    """`base` with `key` set to each of `values`; `fixed` keys are set in all of them."""

    base: str
    key: str
    values: tuple[Any, ...]
    prefill: tuple[int, ...] = ()  # contexts
    decode: tuple[int, ...] = ()  # contexts
    batch: int = 1
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def points(self) -> Iterator[tuple[str, ModelSpec]]:
        """(label, spec) of each value."""
        for value in self.values:
            yield f"{self.base} {self.key}={value}", load(self.base, {**self.fixed, self.key: value})

    def workloads(self) -> Iterator[tuple[str, Workload]]:
        """(name, workload) of each timed phase; prefill asks for the last row of logits, as serving does."""
        for context in self.prefill:
            yield f"prefill-{context}-b{self.batch}", Workload(self.batch, context, context, logits="last")
        for context in self.decode:
            yield f"decode-{context}-b{self.batch}", Workload(self.batch, 1, context, logits="last")


TINY = {
    "d_model": 64, "n_layers": 6, "vocab_size": 512, "attention.n_heads": 4, "attention.head_dim": 16,
    "mlp.d_ff": 128,
}  # fmt: skip
"""Keys that shrink a preset until any machine runs it at once; the layer pattern stays."""

QUICK = (
    Study(
        "gemma-3-270m", "attention.n_kv_heads", (1, 2), prefill=(64,), decode=(64,), fixed=TINY | {"local.window": 16}
    ),
    Study("gemma-2-2b", "local.window", (16, 32), decode=(64,), fixed=TINY | {"attention.n_kv_heads": 2}),
)
"""A check that everything works here, in seconds: its times say nothing about a real model."""

EVERY_BLOCK: dict[str, Mapping[str, Any]] = {
    "recurrentgemma-2b": {"recurrent.width": 64, "recurrent.n_heads": 4, "local.window": 16, "attention.n_kv_heads": 1},
    "gemma-3n-e2b": {
        "n_layers": 11, "attention.n_kv_heads": 2, "local.window": 16, "laurel.rank": 8, "spans.sparse.layers": ":3",
        "per_layer_embedding.width": 8, "per_layer_embedding.table_rows": 512, "spans.shared.layers": "-2:",
        "vision": None, "audio": None,
    },
}  # fmt: skip
"""Presets whose blocks QUICK has not, and the keys besides TINY that shrink them."""

CPU = (
    Study("gemma-3-270m", "attention.n_kv_heads", (1, 2, 4), prefill=(512,), decode=(512,)),
    Study("gemma-3-270m", "local.window", (512, 128), prefill=(512,), decode=(512,)),
)

GPU = (
    Study("gemma-2-9b", "attention.n_kv_heads", (8, 1, 2, 4, 16), prefill=(8192,), decode=(2048, 8192)),
    Study("gemma-3-12b-text", "attention.n_kv_heads", (8, 1, 4, 16), prefill=(8192,), decode=(2048, 8192, 32768)),
    Study("gemma-2-9b", "local.window", (4096, 1024), prefill=(8192,), decode=(8192,)),
    Study("gemma-3-12b-text", "local.window", (1024, 512, 4096), prefill=(8192,), decode=(8192, 32768)),
    Study("gemma-3-4b-text", "attention.n_kv_heads", (4, 1, 8), prefill=(8192,), decode=(2048, 8192)),
    Study("gemma-3-1b", "attention.n_kv_heads", (1, 2, 4), prefill=(8192,), decode=(2048, 8192)),
    Study("gemma-2-9b", "attention.n_kv_heads", (8, 1), decode=(2048,), batch=32),
    Study("gemma-3-27b-text", "attention.n_kv_heads", (16,), prefill=(8192,), decode=(2048, 8192)),
)


def studies_for(device_type: str, quick: bool = False) -> tuple[Study, ...]:
    """The studies that suit a device (cpu or cuda)."""
    return QUICK if quick else {"cpu": CPU, "cuda": GPU}[device_type]
