"""What the suite measures, as data: a base model, the values of one key, and the phases that are timed.

Ordered so that a run that is cut short leaves something whole: what figures are set for comes first, and the base of
each study first in its grid. On a CPU the 270M model stands for the others, and 1B for one that is too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.workload import Workload


@dataclass(frozen=True)
class Study:
    """`base` with `key` set to each of `values`; `fixed` keys are set in all of them.

    sampled   models are composed from some of their layers (see `sampled`), and the first is verified
    """

    base: str
    key: str
    values: tuple[Any, ...]
    prefill: tuple[int, ...] = ()  # contexts
    decode: tuple[int, ...] = ()  # contexts
    batches: tuple[int, ...] = (1,)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sampled: bool = False

    @property
    def section(self) -> str:
        """The section of the suite that its results belong to."""
        return "sampled" if self.sampled else "latency"

    def points(self) -> Iterator[tuple[str, ModelSpec]]:
        """(label, spec) of each value."""
        for value in self.values:
            yield f"{self.base} {self.key}={_text(value)}", load(self.base, {**self.fixed, self.key: value})

    def workloads(self) -> Iterator[tuple[str, Workload]]:
        """(name, workload) of each timed phase; prefill asks for the last row of logits, as serving does."""
        for batch in self.batches:
            for context in self.prefill:
                yield f"prefill-{context}-b{batch}", Workload(batch, context, context, logits="last")
            for context in self.decode:
                yield f"decode-{context}-b{batch}", Workload(batch, 1, context, logits="last")


def _text(value: Any) -> str:
    """'4', or 'local*5,global' of a pattern."""
    return ",".join(value) if isinstance(value, tuple | list) else str(value)


TINY = {
    "d_model": 64, "n_layers": 6, "vocab_size": 512, "attention.n_heads": 4, "attention.head_dim": 16,
    "mlp.d_ff": 128,
}  # fmt: skip
"""Keys that shrink a preset until any machine runs it at once; the layer pattern stays."""

SHORT = {**TINY, "n_layers": 3, "pattern": ("local", "global"), "local.window": 16}

QUICK = (
    Study("gemma-3-270m", "attention.n_kv_heads", (1, 2), prefill=(64,), decode=(64,), fixed=SHORT),
    Study("gemma-2-2b", "local.window", (16, 32), decode=(64,), fixed={**SHORT, "attention.n_kv_heads": 2}),
    Study(
        "gemma-3-270m", "mlp.d_ff", (128, 192), decode=(64,), sampled=True,
        fixed={**SHORT, "n_layers": 7, "attention.n_kv_heads": 1},
    ),
)  # fmt: skip
"""A check that everything works here, in seconds: its times say nothing about a real model."""

SMALL_3N = {
    "n_layers": 11, "attention.n_kv_heads": 2, "local.window": 16, "laurel.rank": 8, "spans.sparse.layers": ":3",
    "per_layer_embedding.width": 8, "per_layer_embedding.table_rows": 512, "spans.shared.layers": "-2:",
    "vision": None, "audio": None,
}  # fmt: skip
SMALL_RECURRENT = {"recurrent.width": 64, "recurrent.n_heads": 4, "local.window": 16, "attention.n_kv_heads": 1}

EVERY_BLOCK: dict[str, Mapping[str, Any]] = {"recurrentgemma-2b": SMALL_RECURRENT, "gemma-3n-e2b": SMALL_3N}
"""Presets whose blocks QUICK has not, and the keys besides TINY that shrink them."""

SMALL_4 = {
    **{key: value for key, value in TINY.items() if key != "attention.head_dim"},
    "local.head_dim": 16, "global.head_dim": 32, "local.window": 16, "vision": None,
}  # fmt: skip
"""Gemma 4, whose kinds of layer have heads of their own."""
OF_31B = {**SMALL_4, "local.n_kv_heads": 2, "global.n_kv_heads": 1, "local.image_blocks": False}

FAMILIES: dict[str, Mapping[str, Any]] = {
    "gemma-2-2b": {**TINY, "attention.n_kv_heads": 2, "local.window": 16},
    "gemma-3-1b": {**TINY, "attention.n_kv_heads": 1, "local.window": 16},
    "gemma-2b": {**TINY, "attention.n_kv_heads": 1},
    "gemma-3n-e2b": {**TINY, **SMALL_3N},
    "gemma-4-31b": OF_31B,
    "gemma-4-e2b": {
        **SMALL_4, "n_layers": 11, "attention.n_kv_heads": 1, "per_layer_embedding.width": 8,
        "per_layer_embedding.table_rows": 512, "spans.shared.layers": "-2:", "audio": None,
    },
    "gemma-4-26b-a4b": {**OF_31B, "moe.experts": 4, "moe.top_k": 2, "moe.d_ff": 32},
    "recurrentgemma-2b": {**TINY, **SMALL_RECURRENT},
    "vaultgemma-1b": {**TINY, "attention.n_kv_heads": 2},
    "paligemma-3b-224": {**TINY, "attention.n_kv_heads": 1, "vision": None},
    "llama-3.1-8b": {**TINY, "attention.n_kv_heads": 2},
}  # fmt: skip
"""Presets of each family that the fast decoder covers, those that are timed first, and the keys that make them tiny."""

RATIOS = (["local*5", "global"], ["local", "global"], ["local*2", "global"], ["local*11", "global"], ["global"])
"""Layer patterns: Gemma 3's, Gemma 2's, and some to either side."""

SMALL = {"vocab_size": 32768}
"""A small table, which would be half of a step of the 270M model."""

CPU = (
    Study("gemma-3-270m", "attention.n_kv_heads", (1, 2, 4), prefill=(256,), decode=(512,), fixed=SMALL),
    Study("gemma-3-1b", "attention.n_kv_heads", (1, 4), decode=(512,), fixed=SMALL, sampled=True),
    Study("gemma-3-270m", "local.window", (512, 128), prefill=(1024,), decode=(1024,), fixed=SMALL),
    Study("gemma-3-270m", "vocab_size", (32768, 131072, 262144), decode=(512,)),
    Study("gemma-3-270m", "pattern", RATIOS[:2], decode=(4096,), fixed=SMALL),
    Study("gemma-3-270m", "attention.head_dim", (256, 128, 64), prefill=(256,), decode=(512,), fixed=SMALL),
    Study("gemma-3-270m", "attention.n_kv_heads", (1,), decode=(512,), batches=(1, 4, 16), fixed=SMALL),
    Study("gemma-3-270m", "attention.n_kv_heads", (1,), decode=(512, 4096, 16384), fixed=SMALL),
)

GPU = (
    Study("gemma-2-9b", "attention.n_kv_heads", (8,), prefill=(8192,), decode=(2048, 4096)),
    Study("gemma-3-12b-text", "attention.n_kv_heads", (8,), prefill=(8192,), decode=(2048, 4096)),
    Study("gemma-2-9b", "attention.n_kv_heads", (8,), prefill=(8192,), decode=(2048,), sampled=True),
    Study("gemma-3-12b-text", "attention.n_kv_heads", (8,), prefill=(8192,), decode=(2048,), sampled=True),
    Study("gemma-3-27b-text", "attention.n_kv_heads", (16, 4), prefill=(8192,), decode=(2048, 4096), sampled=True),
    Study("gemma-3-1b", "attention.n_kv_heads", (1, 4), prefill=(8192,), decode=(2048, 8192)),
    Study("gemma-3-4b-text", "attention.n_kv_heads", (4, 1, 8), prefill=(8192,), decode=(2048, 8192)),
    Study("gemma-2-9b", "attention.n_kv_heads", (8, 1, 2, 4, 16), prefill=(8192,), decode=(8192,), sampled=True),
    Study("gemma-3-12b-text", "local.window", (1024, 512, 4096), prefill=(8192,), decode=(32768,), sampled=True),
    Study("gemma-3-12b-text", "pattern", RATIOS, prefill=(8192,), decode=(32768,), sampled=True),
    Study("gemma-3-12b-text", "vocab_size", (262144, 131072, 32768), decode=(2048,), sampled=True),
    Study("gemma-2-9b", "attention.head_dim", (256, 128, 64), prefill=(8192,), decode=(8192,), sampled=True),
    Study("gemma-2-9b", "attention.n_kv_heads", (8,), decode=(2048,), batches=(8, 32, 128), sampled=True),
    Study("gemma-3-12b-text", "attention.n_kv_heads", (8,), decode=(512, 16384, 65536, 131072), sampled=True),
)
"""The shapes that figures are set for first, whole; then the same from some of their layers, as the rest are."""


def studies_for(device_type: str, quick: bool = False) -> tuple[Study, ...]:
    """The studies that suit a device (cpu or cuda)."""
    return QUICK if quick else {"cpu": CPU, "cuda": GPU}[device_type]
