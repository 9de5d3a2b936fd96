"""The columns that some model has, for what is asked of models of which not each has each; and what a row says beside
its columns.
"""

from __future__ import annotations

from functools import cache

from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.presets import load, models
from archlab.sweep.measures import Asked, measures

DESCRIBED = (
    "point", "base", "workload", "hardware", "precision", "engine", "batch", "context", "family",
    "n_layers", "layers_global", "layers_local", "layers_recurrent",
    "window", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "trained_context", "config_hash",
    "kept", "status", "reason", "front",
)  # fmt: skip
"""What is written beside a point's columns once the conditions were read: what it is called, its shape, its fate."""


@cache
def of_any_model() -> tuple[str, ...]:
    """Columns of the released models: params_moe of the mixtures, kv_recurrent_bytes of the recurrent ones."""
    asked = Asked(setting("h200-sxm", "bf16", "ideal"), memory=True)
    found: dict[str, None] = {}
    for spec in map(load, models()):
        found |= dict.fromkeys(measures(spec, load_serving("short-512").work_for(spec), asked))
    return tuple(found)
