"""transformers: a cache of tensors, the whole prefill at once, logits of its last token.

Two layouts (cache_utils.py of 5.23.0):

    StaticCache     a slot a token of max_cache_len, of the window in sliding layers; allocated once
    DynamicCache    grows by concatenation. A sliding layer keeps the last window - 1 tokens, but as a view: until the
                    next step the storage behind it holds all tokens of the last one, a whole prefill. A step with
                    tokens before it has one layer's old and new keys and values at once.

`static=True` is the default: its bytes depend on sizes alone, and it is what a compiled model needs; `generate` alone
takes a DynamicCache. Copies of keys for grouped heads (repeat_kv, eager attention) are activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import Number, maximum, minimum, octets
from archlab.engines.base import Engine, Held, cache_format, held
from archlab.engines.runtime import overheads
from archlab.fields import choice, flag
from archlab.items import Item
from archlab.ledger import Ledger
from archlab.precision import Precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

if TYPE_CHECKING:
    from archlab.hardware import Hardware

SOURCE = "transformers 5.23.0, cache_utils.py"

KV_FORMATS = ("bf16", "fp16", "fp32")
"""Of the two caches: tensors in the model's own type. Its QuantizedCache is not modelled."""

STATIC = {"global": "a slot a token", "local": "a slot a token of the window", "source": "a slot a source token",
          "recurrent": "states that do not grow"}  # fmt: skip
DYNAMIC = STATIC | {"local": "the step's tokens, and window - 1 before them"}


@dataclass(frozen=True)
class HF(Engine):
    """transformers."""

    name: ClassVar[str] = "hf"
    title: ClassVar[str] = "transformers: the whole prefill at once"
    kv_formats: ClassVar[tuple[str, ...]] = ()
    savers: ClassVar[tuple[Mapping[str, Any], ...]] = ({"attn_implementation": "sdpa"},)
    splits: ClassVar[tuple[str, ...]] = ("tp", "pp", "cp", "ep", "dp")

    static: bool = flag("StaticCache; else DynamicCache, what `generate` takes unless told", True)
    attn_implementation: str = choice("sdpa, or eager, which stores scores", ("sdpa", "eager"), "sdpa")

    @property
    def attention(self) -> str:  # type: ignore[override]
        """Whether scores are stored."""
        return "eager" if self.attn_implementation == "eager" else "fused"

    def cache(self, rows: Ledger, work: Workload, precision: Precision) -> tuple[Item, ...]:
        cache_format(self, precision, KV_FORMATS)
        states, words = [*held(rows, precision)], STATIC if self.static else DYNAMIC
        bits: dict[str, Number] = {}
        for kept in states:
            part = kept.state.part
            bits[part] = bits.get(part, 0) + self._slots(kept, work) * work.batch * kept.bits * kept.layers
        items = [Item("kv_cache", part, octets(n), words[part], SOURCE) for part, n in bits.items()]
        return (*items, *self._growth(states, work))

    def _slots(self, kept: Held, work: Workload) -> Number:
        if self.static or kept.state.capacity != "window":
            return kept.entry.slots(kept.state, work.context, work.source)
        return minimum(work.context - work.new, kept.state.window - 1) + work.new

    def _growth(self, states: list[Held], work: Workload) -> tuple[Item, ...]:
        """What a layer had before the step, beside the same with the step's tokens: keys, or in a window both."""
        if self.static or not states:
            return ()
        largest: Number = 0
        for kept in states:
            if kept.state.capacity in ("context", "window"):
                before, copies = kept.entry.slots(kept.state, work.context - work.new), 1
                if kept.state.capacity == "window":
                    before, copies = minimum(work.context - work.new, kept.state.window - 1), 2
                largest = maximum(largest, before * copies * work.batch * kept.bits)
        return (Item("kv_cache", "growth", octets(largest), "a layer's old tensors, while it appends", SOURCE),)

    def steps(self, spec: ModelSpec, work: Workload) -> tuple[Workload, ...]:
        if work.train or not spec.decodes:
            return (work,)
        return replace(work, logits="last"), work.decode()

    def runtime(self, device: Hardware, ranks: int, precision: Precision) -> tuple[Item, ...]:
        return overheads(self.name, device, ranks)
