"""How many bytes a model remembers for a context: a global layer S tokens, a sliding one min(S, W).

That is what the mathematics needs (engine="ideal"); an engine rounds, pads and shares blocks as its own file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archlab.algebra import Number
from archlab.engines import load_engine
from archlab.engines.base import Engine, check_runs
from archlab.errors import SpecError
from archlab.formats import FORMATS
from archlab.items import Item, by_kind
from archlab.ledger import ledger
from archlab.precision import Precision, cache_precision
from archlab.shown import Shown
from archlab.spec import ModelSpec
from archlab.workload import Workload


@dataclass(frozen=True)
class KVCache(Shown):
    """Bytes, split by what holds them: global, local (and recurrent state, cross-attention source)."""

    total: Number
    by_part: dict[str, Number]
    items: tuple[Item, ...]


def kv_cache(
    spec: ModelSpec,
    context: Number,
    batch: Number = 1,
    precision: str | Precision = "bf16",
    engine: str | Engine = "ideal",
    source: Number = 0,
    **options: Any,
) -> KVCache:
    """Bytes of the cache once `context` tokens of `batch` sequences have gone by, each with so many `source` tokens.

    precision  the format of the cache (bf16, fp8, q8_0 ...), or a precision, whose `kv` is meant
    engine     whose layout is counted: ideal | hf | vllm | llama_cpp
    options    the engine's own, by its own names (`archlab engines` lists them)
    by_part: global and local keys and values, recurrent (states that do not grow), source (the encoder's keys and
    values, kept by cross-attention or merged attention). Layers that share another's K/V hold none.
    Raises ArchlabError.
    """
    engine, form, named = load_engine(engine, options), cache_precision(precision), precision
    if not isinstance(named, Precision) and named not in FORMATS:  # a precision's name, not a format's
        check_runs(engine, form)
    work = Workload(batch, context=context, source=source)  # refuses sizes that cannot be
    spec.admit(work)
    items = cache_items(spec, work, form, engine)
    parts = by_kind(items)
    return KVCache(sum(parts.values()), parts, items)


def cache_items(spec: ModelSpec, work: Workload, precision: Precision, engine: Engine) -> tuple[Item, ...]:
    """The cache of a workload as an engine lays it out. Raises SpecError for options that do not go together."""
    for condition, sentence in engine.rules(work):
        if condition is False:
            raise SpecError(sentence())
    return engine.cache(ledger(spec), work, precision)
