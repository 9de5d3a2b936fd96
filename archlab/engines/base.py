"""What an engine is: a layout of the rows' states, the steps that it takes, and what it takes besides.

Options are fields, declared with the engine's own names. An engine sees a ledger: of the whole model, or of one rank.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import Number, maximum, minimum, plain
from archlab.engines.runtime import unknown_overheads
from archlab.errors import SpecError
from archlab.fields import Rule, fields_of
from archlab.formats import FORMATS, Format
from archlab.items import Item
from archlab.ledger import Entry, Ledger
from archlab.precision import Precision
from archlab.rows import State, Weight
from archlab.spec import ModelSpec
from archlab.workload import Workload

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
    splits: ClassVar[tuple[str, ...]] = ("tp", "pp", "cp", "dcp", "ep", "dp")  # ranks that it has, as in Parallel

    def __post_init__(self) -> None:
        for name, f in fields_of(type(self)).items():
            value = plain(getattr(self, name))
            f.metadata["type"].check(name, value, f" of engine {self.name}")
            object.__setattr__(self, name, value)

    def on(self, device: Hardware) -> Engine:
        """The engine as it starts on a device: defaults that depend on it are filled in."""
        return self

    def runs_on(self, device: Hardware) -> str | None:
        """Why it does not run on a device, in a sentence; None where it does."""
        return None

    def notes(self, device: Hardware | None, precision: Precision, spec: ModelSpec | None = None) -> tuple[str, ...]:
        """What a reader of its memory should know, a sentence each: whether it runs there, and what is not counted."""
        if device is None:
            return ()
        said = (self.runs_on(device), _unknown(self, device), _no_rate(device, precision))
        return tuple(sentence for sentence in said if sentence is not None)

    @property
    def kv_given(self) -> str | None:
        """The cache's format where options set it, whatever the precision says; None where they leave it."""
        return None

    def cache_words(self, precision: Precision) -> str:
        """The format that the cache is kept in: 'fp8', or 'k q8_0, v q4_0'."""
        return precision.kv

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
    """The format of the cache. Raises SpecError for one that the engine lacks, with the nearest in bits that it has."""
    form = precision.kv_format
    if form.name not in known:
        near = min(known, key=lambda name: abs(FORMATS[name].bits - form.bits))
        raise SpecError(
            f"engine {engine.name} cannot keep its cache in {form.name}; nearest is {near!r} "
            f"(it can in {', '.join(known)})"
        )
    return form


def check_runs(engine: Engine, precision: Precision) -> None:
    """Raises SpecError for a precision that the engine does not run."""
    if engine.name not in precision.engines:
        raise SpecError(
            f"engine {engine.name} cannot run precision {precision.name} ({', '.join(precision.engines)} can); "
            f"archlab engines lists what {engine.name} runs"
        )


def _unknown(engine: Engine, device: Hardware) -> str | None:
    what = unknown_overheads(engine.name, device) if engine.name != "ideal" else None
    return None if what is None else f"{what} is not known for {engine.name} on {device.name} and not counted"


def _no_rate(device: Hardware, precision: Precision) -> str | None:
    """Narrow products that a device has no rate for; 16 bits are an engine's own matter."""
    if precision.compute not in ("fp8", "fp4", "int8", "int4") or precision.compute in device.peak_flops:
        return None
    return (
        f"{device.name} has no {precision.compute} rate: what {precision.name} stores is multiplied in a wider format "
        "there, or not run"
    )


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
