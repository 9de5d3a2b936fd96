"""The columns that some model has, for what is asked of models of which not each has each."""

from __future__ import annotations

from functools import cache

from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.presets import load, models
from archlab.sweep.measures import Asked, measures


@cache
def of_any_model() -> tuple[str, ...]:
    """Columns of the released models: params_moe of the mixtures, kv_recurrent_bytes of the recurrent ones."""
    asked = Asked(setting("h200-sxm", "bf16", "ideal"), memory=True)
    found: dict[str, None] = {}
    for spec in map(load, models()):
        found |= dict.fromkeys(measures(spec, load_serving("short-512").work_for(spec), asked))
    return tuple(found)
