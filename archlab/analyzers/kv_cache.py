"""How many bytes a model remembers for a context: a global layer S tokens, a sliding one min(S, W)."""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number, octets
from archlab.config import load_precision
from archlab.errors import UnknownNameError, nearest
from archlab.ledger import ledger
from archlab.spec import ModelSpec, Precision, Workload

ENGINES = ("ideal",)
"""How the cache is laid out; ideal is what the mathematics needs."""


@dataclass(frozen=True)
class KVCache:
    """Bytes, split by what holds them: global, local (and recurrent state, cross-attention source)."""

    total: Number
    by_part: dict[str, Number]


def kv_cache(
    spec: ModelSpec,
    context: Number,
    batch: Number = 1,
    precision: str | Precision = "bf16",
    engine: str = "ideal",
    source: Number = 0,
) -> KVCache:
    """Bytes of the cache once `context` tokens of `batch` sequences have gone by, each with so many `source` tokens.

    by_part: global and local keys and values, recurrent (states that do not grow), source (the encoder's keys and
    values, kept by cross-attention or merged attention). Layers that share another's K/V hold none.
    """
    if engine not in ENGINES:
        raise UnknownNameError(f"unknown engine {engine!r}{nearest(engine, ENGINES)} (known: {', '.join(ENGINES)})")
    precision = load_precision(precision)
    work = Workload(batch, context=context, source=source)  # refuses sizes that cannot be
    spec.admit(work)
    bits: dict[str, Number] = {}
    for entry in ledger(spec).entries:
        for state in entry.rows.states.values():
            if state.stored:
                held = entry.numel(state) * state.slots(work.context, work.source) * work.batch * entry.count
                bits[state.part] = bits.get(state.part, 0) + held * precision.state_bits(state)
    by_part = {part: octets(n) for part, n in bits.items()}
    return KVCache(sum(by_part.values()), by_part)
