"""What the mathematics needs: a slot a token that can still be seen, no rounding, nothing besides.

A prefill goes through in chunks, one sequence after another, since nothing forces it through at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from archlab.algebra import Number, octets
from archlab.engines.base import Engine, chunk_of, held
from archlab.fields import size
from archlab.items import Item
from archlab.ledger import Ledger
from archlab.precision import Precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

WORDS = {
    "global": "a slot a token",
    "local": "a slot a token of the window",
    "source": "a slot a source token",
    "recurrent": "states that do not grow",
}


@dataclass(frozen=True)
class Ideal(Engine):
    """No engine: the least that any of them needs."""

    name: ClassVar[str] = "ideal"
    title: ClassVar[str] = "what the mathematics needs"

    chunk: int = size("tokens of a sequence that a prefill takes at once", 2048)

    def cache(self, rows: Ledger, work: Workload, precision: Precision) -> tuple[Item, ...]:
        bits: dict[str, Number] = {}
        for kept in held(rows, precision):
            slots = kept.entry.slots(kept.state, work.context, work.source) * work.batch
            bits[kept.state.part] = bits.get(kept.state.part, 0) + slots * kept.bits * kept.layers
        return tuple(
            Item("kv_cache", part, octets(n), WORDS[part], "State rows of the layers") for part, n in bits.items()
        )

    def steps(self, spec: ModelSpec, work: Workload) -> tuple[Workload, ...]:
        if work.train or not spec.decodes:
            return (work,)
        return replace(chunk_of(spec, work, self.chunk), batch=1), work.decode()
