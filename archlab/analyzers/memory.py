"""What a model takes of a device: weights, cache, activations, runtime; of the fullest rank, where there are several.

An item says how its bytes were had, from where, and what that is worth: calculated exactly, an estimate from the rows,
somebody's measurement, or assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archlab.algebra import Number, ceil_div, is_column, is_scalar, maximum, minimum, octets, plain
from archlab.analyzers.activations import activations
from archlab.analyzers.training import Training, divided_over, load_training, training_items
from archlab.engines import load_engine
from archlab.engines.base import Engine
from archlab.errors import SpecError
from archlab.hardware import Hardware, load_hardware
from archlab.items import ESTIMATE, Item, by_part
from archlab.ledger import Entry, Ledger, ledger, stored
from archlab.parallel import Parallel, Rank, load_parallel, ranks
from archlab.precision import Precision, load_precision
from archlab.rows import Weight
from archlab.shown import Shown
from archlab.spec import ModelSpec
from archlab.units import memory as memory_bytes
from archlab.units import show_count
from archlab.workload import Workload

LEAST = 2**26
"""Bytes: less is no device, and was meant in another unit."""

TIGHT = 0.05
"""Less than this share of the capacity left: it fits, barely."""


@dataclass(frozen=True)
class OnRank:
    """What the ranks that are alike hold, each."""

    rank: Rank
    items: tuple[Item, ...]

    @property
    def total(self) -> Number:
        """Bytes on the device."""
        return sum(item.bytes for item in self.items if item.on == "device")


@dataclass(frozen=True)
class Memory(Shown):
    """Bytes of a device that a workload needs, and what the engine takes; of the fullest rank.

    needed    what must fit: the items on the device
    reserved  what the engine takes whatever the request (vLLM its pool); else what is needed
    capacity  what a program can have of the device
    budget    what the engine uses of it at most; both None where no device was named
    host      bytes in the host's memory (tables of which a row a token is read)
    room      all memory of a device that has none but the system's, which holds `host` too; else None
    notes     what the numbers leave open: sentences
    """

    items: tuple[Item, ...]
    ranks: tuple[OnRank, ...]
    needed: Number
    reserved: Number
    capacity: Number
    budget: Number
    host: Number
    room: Number = None
    notes: tuple[str, ...] = ()

    @property
    def by_part(self) -> dict[str, Number]:
        """Bytes on the device, by part, of the fullest rank."""
        return by_part(tuple(item for item in self.items if item.on == "device"))

    @property
    def left(self) -> Number:
        """Bytes of the budget that are left, negative where it does not fit. Raises SpecError without a device."""
        if self.budget is None:
            raise SpecError("memory was asked without hardware or capacity, so there is nothing to fit into")
        left = self.budget - self.needed
        return left if self.room is None else minimum(left, self.room - self.needed - self.host)

    @property
    def fits(self) -> Any:
        """Whether what is needed is within the budget: a bool, or a column. Raises SpecError without a device."""
        return self.left >= 0

    @property
    def verdict(self) -> str:
        """fits | tight (less than 5 % of the budget left) | no. Raises SpecError for columns, which `fits` is for."""
        if not is_scalar(self.left):
            raise SpecError("verdict is for one number; .fits is a column of them")
        return "no" if self.left < 0 else "tight" if self.left < TIGHT * self.budget else "fits"


@dataclass(frozen=True)
class Setting:
    """Where and how a model runs: everything that memory depends on but the model and the workload."""

    precision: Precision
    engine: Engine
    device: Hardware | None = None
    parallel: Parallel = Parallel()
    training: Training | None = None
    capacity: Number | None = None


def memory(
    spec: ModelSpec,
    work: Workload,
    hardware: str | Hardware | None = None,
    precision: str | Precision = "bf16",
    engine: str | Engine = "ideal",
    parallel: Parallel | Mapping[str, Any] | None = None,
    training: Training | Mapping[str, Any] | None = None,
    kv: str | None = None,
    capacity: Number | None = None,
    **options: Any,
) -> Memory:
    """Bytes that a workload takes on each device: of a served prefill and the decoding after it, or a training step.

    hardware   a name, the path of a device's YAML, or a Hardware; left out, there is nothing to fit into
    precision  of the weights, as an engine stores them; kv: another format for the cache
    engine     whose layout, steps and overheads are counted; `options` are its own, by its own names
    parallel   tp, pp, cp, ep, dp: ranks, of which the fullest decides
    training   with work.train: optimizer, sharding, checkpointing, adapters; its defaults where it is not given
    capacity   bytes, instead of what the device says that a program can have
    Raises ArchlabError.
    """
    if not isinstance(spec, ModelSpec) or not isinstance(work, Workload):
        raise SpecError("memory takes a model (archlab.load) and an archlab.Workload")
    if work.train:
        training = training or Training()
    elif training is not None:
        raise SpecError("training says how a step is trained, and the workload has train=False")
    at = setting(hardware, precision, engine, parallel, training, kv, capacity, options)
    _check_columns(spec, work, at)
    return memory_in(spec, work, at)


def _check_columns(spec: ModelSpec, work: Workload, at: Setting) -> None:
    """Raises SpecError where a column has a value that alone would be refused: here no mask says which points stand."""
    for name in ("batch", "new", "context"):
        if is_column(getattr(work, name)) and not bool(
            ((getattr(work, name) >= 1) & (getattr(work, name) % 1 == 0)).all()
        ):
            raise SpecError(f"{name} must be whole numbers of 1 or more, in each place of the column")
    for condition, _ in (*spec.work_rules(work), *at.engine.rules(work), *at.parallel.rules(spec)):
        if is_column(condition) and not bool(condition.all()):
            where = [int(i) for i in (~condition).ravel().nonzero()[0][:3]]
            raise SpecError(f"the columns have values that cannot be, first at places {where}; ask for one to hear why")


def setting(
    hardware: str | Hardware | None,
    precision: str | Precision,
    engine: str | Engine,
    parallel: Parallel | Mapping[str, Any] | None = None,
    training: Training | Mapping[str, Any] | None = None,
    kv: str | None = None,
    capacity: Number | None = None,
    options: Mapping[str, Any] | None = None,
) -> Setting:
    """The names read. Raises ArchlabError for what does not go together."""
    found, bits = load_engine(engine, options), load_precision(precision, kv)
    if kv is not None and found.kv_given is not None:
        raise SpecError(f"kv={kv} and the engine's own option ({found.kv_given}) both say the cache's format; drop one")
    if found.name not in bits.engines:
        raise SpecError(
            f"engine {found.name} cannot run precision {bits.name} ({', '.join(bits.engines)} can); "
            f"archlab engines lists what {found.name} runs"
        )
    device = None if hardware is None else load_hardware(hardware)
    ranks, steps = load_parallel(parallel), load_training(training)
    _check_ranks(found, ranks)
    if steps is not None:
        steps.check_ranks(ranks)
    room = device.available_bytes if capacity is None and device is not None else _capacity(capacity)
    return Setting(bits, found if device is None else found.on(device), device, ranks, steps, room)


def _check_ranks(engine: Engine, parallel: Parallel) -> None:
    for name in ("tp", "pp", "cp", "dcp", "ep", "dp"):
        ways = getattr(parallel, name)
        if name not in engine.splits and not (is_scalar(ways) and ways == 1):
            raise SpecError(
                f"{name}={ways} cannot be: engine {engine.name} splits a model by {', '.join(engine.splits)}"
            )


def _capacity(given: Any) -> Number:
    """Bytes that were given instead of a device's, as a number or as '20 GiB'. Raises SpecError."""
    if given is None or is_column(given):
        return given
    found = memory_bytes(given, "capacity") if isinstance(given, str) else plain(given)
    if not isinstance(found, int) or isinstance(found, bool) or found < LEAST:
        raise SpecError(f"capacity={given!r} must be bytes, {LEAST:,} or more; write it as 20 GiB")
    return found


def memory_in(spec: ModelSpec, work: Workload, at: Setting) -> Memory:
    """Memory of a workload in a setting. Raises SpecError."""
    for condition, sentence in (*spec.work_rules(work), *at.engine.rules(work), *at.parallel.rules(spec)):
        if condition is False:
            raise SpecError(sentence())
    steps = (work,) if work.train else at.engine.steps(spec, work)
    sharded = [ranks(ledger(spec, step), at.parallel) for step in steps]
    found = tuple(OnRank(same[0], _rank_items(same, steps, work, at)) for same in zip(*sharded, strict=True))
    fullest = _fullest(found)
    needed = found[0].total
    for other in found[1:]:
        needed = maximum(needed, other.total)
    budget = None if at.capacity is None else at.engine.reserved(at.capacity, at.capacity)
    reserved = needed if at.capacity is None else at.engine.reserved(at.capacity, needed)
    host = sum(item.bytes for item in fullest.items if item.on == "host")
    room = at.device.memory_bytes if at.device is not None and at.device.shared else None
    notes = at.engine.notes(at.device, at.precision, spec)
    return Memory(fullest.items, found, needed, reserved, at.capacity, budget, host, room, notes)


def _fullest(found: tuple[OnRank, ...]) -> OnRank:
    return max(found, key=lambda on: on.total) if all(is_scalar(on.total) for on in found) else found[0]


def _rank_items(same: tuple[Rank, ...], steps: tuple[Workload, ...], work: Workload, at: Setting) -> tuple[Item, ...]:
    """Items of one rank; `same` are its rows in each step."""
    rows = same[0].rows
    items = [*_weights(rows, at)]
    if work.train and at.training is not None:
        items += training_items(rows, work, at.precision, at.training, at.parallel)
    elif rows.spec.decodes:
        items += at.engine.cache(rows, work, at.precision)
    items += _activations(same, steps, at)
    if at.device is not None:
        items += at.engine.runtime(at.device, at.parallel.ranks, at.precision)
    return tuple(items)


def _weights(rows: Ledger, at: Setting) -> Iterator[Item]:
    """Weights by part, on the device or on the host; a share of each where ZeRO-3 divides them."""
    whole: dict[tuple[str, str], Number] = {}
    share: dict[tuple[str, str], Number] = {}
    count: dict[tuple[str, str], Number] = {}
    for entry, weight, n in stored(rows):
        key = entry.part_of(weight), _place(at.engine, rows, entry, weight)
        bits = at.precision.weight_bits(rows, entry, weight)
        over = 1 if at.training is None else divided_over(3, at.training, at.parallel, weight)
        whole[key] = whole.get(key, 0) + bits
        share[key] = share.get(key, 0) + ceil_div(bits, over)
        count[key] = count.get(key, 0) + n
    for (part, place), n in share.items():
        words = _per_weight(count[part, place], whole[part, place], n)
        yield Item("weights", part, octets(n), words, at.precision.source, on=place)


def _place(engine: Engine, rows: Ledger, entry: Entry, weight: Weight) -> str:
    return "host" if engine.on_host(rows, entry, weight) else "device"


def _activations(same: tuple[Rank, ...], steps: tuple[Workload, ...], at: Setting) -> Iterator[Item]:
    """The fullest step's activations; in training the gradients are items of their own."""
    options: dict[str, Any] = {"attention": at.engine.attention}
    if at.training is not None:
        options |= {"checkpointing": at.training.checkpointing, "loss": at.training.loss}
    found = [
        activations(rank.rows.spec, step, at.precision, rows=rank.rows, **options)
        for rank, step in zip(same, steps, strict=True)
    ]
    total = found[0].total
    for other in found[1:]:
        total = maximum(total, other.total)
    fullest = max(found, key=lambda a: a.total) if all(is_scalar(a.total) for a in found) else found[0]
    how = f"fullest at {fullest.peak_at}; {at.precision.activation_bytes} bytes each, {at.engine.attention} attention"
    source = f"operations and sizes of the rows: {fullest.formula}"
    yield Item("activations", "peak", total, how, source, ESTIMATE)


def _per_weight(count: Number, bits: Number, share: Number) -> str:
    """'1.41 B x 16 bits', and the ranks that it is divided over."""
    if not (is_scalar(count) and is_scalar(bits)) or not count:
        return "parameters x bits"
    ranks = round(bits / share)
    return f"{show_count(count)} x {bits / count:.4g} bits" + (f" / {ranks} ranks" if ranks > 1 else "")
