"""What an engine is: a layout of the rows' states, the steps that it takes, and what it takes besides.

Options are fields, declared with the engine's own names. An engine sees a ledger: of the whole model, or of one rank.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import Number, maximum, minimum
from archlab.errors import SpecError, nearest
from archlab.formats import Format
from archlab.items import Item
from archlab.ledger import Entry, Ledger
from archlab.precision import Precision
from archlab.rows import State, Weight
from archlab.spec import ModelSpec, Rule, Workload

if TYPE_CHECKING:
    from archlab.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Held:
    """A state that `layers` layers keep: `bits` a slot of one sequence."""

    entry: Entry
    state: State
    layers: Number
    bits: Number


@dataclass(frozen=True)
class Engine:
    """The base: each method says what an engine does unless its own file says otherwise."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    attention: ClassVar[str] = "fused"  # fused | eager: whether scores are stored
    context_is: ClassVar[str] = "tokens of a sequence"

    kv_formats: ClassVar[tuple[str, ...]] = ("fp8",)  # narrower formats of the cache than 16 bits
    savers: ClassVar[tuple[Mapping[str, Any], ...]] = ()  # options that make it take less, each tried by itself

    def rules(self, work: Workload) -> Iterator[Rule]:
        """What must hold between the options, and between them and a workload."""
        yield from ()

    def cache(self, rows: Ledger, work: Workload, precision: Precision) -> tuple[Item, ...]:
        """What the cache takes for `work.batch` sequences of `work.context` tokens."""
        raise NotImplementedError

    def steps(self, spec: ModelSpec, work: Workload) -> tuple[Workload, ...]:
        """The largest steps of serving a workload: a chunk of its prefill, a decode step. The fullest decides."""
        return (work,)

    def on_host(self, rows: Ledger, entry: Entry, weight: Weight) -> bool:
        """Whether a weight stays in the host's memory, of which the device needs a row a token."""
        return False

    def runtime(self, device: Hardware, ranks: int, precision: Precision) -> tuple[Item, ...]:
        """What a process takes besides: context, workspaces, graphs, communication."""
        return ()

    def reserved(self, capacity: Number, needed: Number) -> Number:
        """Bytes that it takes of a device of so many, whatever the requests: what it needs, unless it keeps a pool."""
        return needed


def held(rows: Ledger, precision: Precision) -> Iterator[Held]:
    """The states that are stored, in the order of the layers."""
    for entry in rows.entries:
        for state in entry.rows.states.values():
            if state.stored:
                yield Held(entry, state, entry.count, precision.state_bits(entry, state))


def cache_format(engine: Engine, precision: Precision, known: Collection[str]) -> Format:
    """The format of the cache. Raises SpecError for one that the engine does not have."""
    form = precision.kv_format
    if form.name not in known:
        raise SpecError(
            f"engine {engine.name} cannot keep its cache in {form.name}{nearest(form.name, known)} "
            f"(it can in {', '.join(known)})"
        )
    return form


def chunk_of(spec: ModelSpec, work: Workload, tokens: Number, logits: str = "last") -> Workload:
    """The last chunk of a prefill, of at most so many tokens of each sequence: the one that sees most.

    It has room for an image, an encoder's source is read whole with it, and a model that reads whole sequences is not
    cut.
    """
    if not spec.decodes:
        return work
    images = minimum(work.new_images, 1) if spec.vision is not None and not spec.vision.counted else 0
    least = spec.vision.tokens if spec.vision is not None and spec.encoder is None else 1
    new = minimum(work.new, maximum(tokens, least * images))
    return replace(work, new=new, logits=logits, new_images=images, new_prefix=0)


def packed(spec: ModelSpec, work: Workload, budget: Number, logits: str = "last") -> Workload:
    """A step of all sequences that has at most `budget` tokens, as one sequence of so many: of one or of several."""
    if not spec.decodes:
        return work
    chunk = chunk_of(spec, work, budget, logits)
    tokens = maximum(chunk.new, minimum(work.batch * chunk.new, budget))
    for _, block in spec.decoder.before:
        if block.longest is not None:
            tokens = minimum(tokens, block.longest)
    return replace(chunk, batch=1, new=tokens, context=maximum(work.context, tokens))
