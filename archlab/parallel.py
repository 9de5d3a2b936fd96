"""What one rank of several holds: a ledger of its own, on which every fold works as on the whole model's.

Rows are in axis letters, so a rank of a tensor-parallel group has smaller letters (fewer heads, a narrower MLP), a
stage of a pipeline fewer layers, and a rank of a context-parallel group fewer slots of the states that grow. Which
letters are divided, and how, is a fact of the rows (`Split`). Tensor and pipeline parallelism as in vLLM: Megatron-LM
arXiv:1909.08053; vllm/distributed/utils.py get_pp_indices; layers/vocab_parallel_embedding.py.

Ranks of one stage are alike: shares are equal, the last ones padded. A tower whose sizes cannot be shared stands whole
on each rank (vLLM: mm_encoder_tp_mode=data). What a rank computes is that of its shares; context parallelism divides
the cache here, not the new tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from archlab.algebra import (
    Number,
    ceil_div,
    divides,
    floor_div,
    is_scalar,
    maximum,
    minimum,
    octets,
    plain,
    product,
    where,
)
from archlab.errors import SpecError
from archlab.fields import Rule, check_fields, fields_of, multiple_of, same, size
from archlab.ledger import Entry, Ledger, ledger, stored
from archlab.precision import Precision
from archlab.rows import Split, State, Weight
from archlab.spec import ModelSpec

VOCAB_BLOCK = 64
"""Rows of a table are rounded up to a multiple of it before they are shared (vLLM: DEFAULT_VOCAB_PADDING_SIZE)."""


MOST_RANKS = 2**16
"""Of each sort."""


@dataclass(frozen=True)
class Parallel:
    """How many ranks there are, and what they share. tp x pp x cp x dp of them; ep and dcp are among these.

    Fields may be columns, pp excepted.
    """

    tp: Number = size("tensor parallelism: ranks that share heads, MLP width and rows of tables", 1, most=MOST_RANKS)
    pp: int = size("pipeline parallelism: stages, each of consecutive layers", 1, most=MOST_RANKS)
    cp: Number = size("context parallelism: further ranks that share the slots of states that grow", 1, most=MOST_RANKS)
    dcp: Number = size(
        "decode context parallelism (vLLM): tp ranks that would hold the same K/V heads share their slots instead",
        1, most=MOST_RANKS,
    )  # fmt: skip
    ep: Number = size("expert parallelism: of the tp x dp ranks, how many share the experts", 1, most=MOST_RANKS)
    dp: Number = size("data parallelism: replicas, each with a batch of its own; ZeRO divides them", 1, most=MOST_RANKS)

    def __post_init__(self) -> None:
        for name in fields_of(Parallel):
            object.__setattr__(self, name, plain(getattr(self, name)))
        check_fields(Parallel, "parallel", {name: getattr(self, name) for name in fields_of(Parallel)})
        if not is_scalar(self.pp):
            raise SpecError("pp must be one number, not a column: stages differ in their layers; ask for each alone")

    @property
    def ranks(self) -> Number:
        """Devices."""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def alike(self) -> Number:
        """Ranks of one stage: they hold shares of the same layers."""
        return self.tp * self.cp * self.dp

    @property
    def alone(self) -> bool:
        """Whether there is one rank only."""
        return all(is_scalar(n) and n == 1 for n in (self.tp, self.pp, self.cp, self.dcp, self.ep, self.dp))

    def rules(self, spec: ModelSpec) -> Iterator[Rule]:
        """What must hold between the ranks and a model; on columns a condition is a mask."""
        if not self.alone:
            yield from _rules(ledger(spec), self)


def load_parallel(given: Parallel | Mapping[str, Any] | None) -> Parallel:
    """Ranks from keys (tp, pp ...), or as they are; one rank for None. Raises SpecError."""
    if given is None or isinstance(given, Parallel):
        return given or Parallel()
    if not isinstance(given, Mapping):
        raise SpecError(f"parallel={given!r} must be keys such as {{'tp': 2}}")
    check_fields(Parallel, "parallel", {name: plain(n) for name, n in given.items()})
    return Parallel(**given)


# ---------------------------------------------------------------- ranks


@dataclass(frozen=True)
class Rank:
    """What `count` ranks that are alike hold, each: those of one stage of the pipeline."""

    rows: Ledger
    stage: int
    count: Number


def ranks(rows: Ledger, parallel: Parallel) -> tuple[Rank, ...]:
    """The distinct ranks, a stage each. Raises SpecError where the model cannot be shared so."""
    if parallel.alone:
        return (Rank(rows, 0, 1),)
    for condition, sentence in _rules(rows, parallel):
        if condition is False:
            raise SpecError(sentence())
    shards, shared = parallel.cp * parallel.dcp, _with_whole_towers(rows, parallel)
    entries = [replace(e, sizes=_shares(e, parallel), context_shards=shards) for e in shared.entries]
    spans = stages(rows, parallel.pp)
    return tuple(
        Rank(Ledger(rows.spec, rows.work, tuple(_on_stage(rows, entries, spans, stage)), rows), stage, parallel.alike)
        for stage in range(parallel.pp)
    )


def shard(rows: Ledger, parallel: Parallel, rank: int = 0) -> Ledger:
    """The ledger of one rank, from 0; ranks of a stage come one after another. Raises SpecError."""
    if not 0 <= rank < parallel.ranks:
        raise SpecError(f"rank={rank} must be below the number of ranks ({parallel.ranks}), from 0")
    return ranks(rows, parallel)[rank // parallel.alike].rows


# ---------------------------------------------------------------- shares of an axis

Ways = Callable[[Number, Parallel], Number]

WAYS: Mapping[str, Ways] = {
    "even": lambda n, p: p.tp,
    "padded": lambda n, p: p.tp,
    "heads": lambda n, p: minimum(n, p.tp),
    "experts": lambda n, p: p.ep,
    "width": lambda n, p: maximum(1, floor_div(p.tp, p.ep)),
    "chosen": lambda n, p: minimum(p.tp, p.ep),
    "quotient": lambda n, p: 1,
}
"""How a letter is divided -> how many different shares of so many there are."""


def _padded(n: Number, split: Split, parallel: Parallel) -> Number:
    """The size with what is added so that shares are equal."""
    if split.how != "padded":
        return n
    blocks = ceil_div(n, VOCAB_BLOCK) * VOCAB_BLOCK
    return where(parallel.tp > 1, ceil_div(blocks, parallel.tp) * parallel.tp, n)


def _share(n: Number, split: Split, parallel: Parallel) -> Number:
    whole, ways = _padded(n, split, parallel), WAYS[split.how](n, parallel)
    if split.how == "chosen" and not (is_scalar(whole) and is_scalar(ways) and whole % ways == 0):
        return whole / ways  # an average: a token's experts are on several ranks
    return floor_div(whole, ways)


def _shares(entry: Entry, parallel: Parallel) -> dict[str, Number]:
    """The letters of a block as one rank has them."""
    own = {a: s for a, s in entry.rows.splits.items() if entry.sizes.get(a) is not None}
    sizes = dict(entry.sizes) | {a: _share(entry.sizes[a], s, parallel) for a, s in own.items()}
    for letter, split in own.items():
        if split.how == "quotient":
            sizes[letter] = floor_div(*(sizes[a] for a in split.what))
    return sizes


def _with_whole_towers(rows: Ledger, parallel: Parallel) -> Ledger:
    """The rows, of which those of towers that cannot be shared have no letters to divide."""
    towers = [e for e in rows.entries if e.in_tower and e.rows.splits]
    whole = {e.stack for e in towers if any(c is False for c, _ in _rules_of_entry(e, parallel))}
    if not whole:
        return rows
    entries = (replace(e, rows=replace(e.rows, splits={})) if e.stack in whole else e for e in rows.entries)
    return replace(rows, entries=tuple(entries))


# ---------------------------------------------------------------- stages


def stages(rows: Ledger, pp: int) -> tuple[range, ...]:
    """The decoder's layers on each stage: equal numbers, the rest on those before the last (vLLM's get_pp_indices).

    Layers that read an earlier one's keys and values stand on its stage: a cut between them moves to the nearest place
    where it parts none, which in vLLM VLLM_PP_LAYER_PARTITION says by hand. Raises SpecError.
    """
    if pp == 1:
        return (range(10**9),)  # all of them, however many
    held = [e.indices for e in rows.entries if e.stack == "decoder" and e.kind]
    if any(indices is None for indices in held):
        raise SpecError(f"pp={pp} needs n_layers as one number, not a column: ask for each alone")
    n_layers = 1 + max(i for indices in held for i in indices or ())
    if pp > n_layers:
        raise SpecError(f"pp={pp} must not exceed the {n_layers} layers")
    each, rest = divmod(n_layers, pp)
    counts = [each + (pp - 1 - rest <= stage < pp - 1) for stage in range(pp)]
    cuts = _moved([*accumulate(counts)][:-1], _places(rows, n_layers))
    if cuts is None:
        raise SpecError(
            f"pp={pp} cannot be: layers of {rows.spec.name} read the keys and values of earlier ones, which stand on "
            f"their stage; pp={len(_places(rows, n_layers)) + 1} is the most"
        )
    return tuple(range(a, b) for a, b in zip([0, *cuts], [*cuts, n_layers], strict=True))


def _places(rows: Ledger, n_layers: int) -> list[int]:
    """Layers that a stage may start with: those before which no shared state is read across."""
    parted = {cut for reader, source in sources(rows).items() for cut in range(source + 1, reader + 1)}
    return [cut for cut in range(1, n_layers) if cut not in parted]


def sources(rows: Ledger) -> dict[int, int]:
    """Layer that reads a state which it does not store -> the layer that stores it: the last of its kind before it."""
    decoder = [e for e in rows.entries if e.stack == "decoder" and e.kind and e.rows.states]
    found = {}
    for reading in decoder:
        if all(state.stored for state in reading.rows.states.values()):
            continue
        same = [e for e in decoder if e.kind == reading.kind and e.path == reading.path]
        storing = [e for e in same if any(state.stored for state in e.rows.states.values())]
        for index in reading.indices or ():
            found[index] = max(i for e in storing for i in e.indices or () if i < index)
    return found


def _moved(cuts: list[int], places: list[int]) -> list[int] | None:
    """Each cut at the nearest place after the one before it that leaves places for the rest; None for too few."""
    if len(places) < len(cuts):
        return None
    found: list[int] = []
    for number, cut in enumerate(cuts):
        left = len(cuts) - number - 1
        free = [place for place in places if not found or place > found[-1]]
        found.append(min(free[: len(free) - left], key=lambda place: abs(place - cut)))
    return found


def _on_stage(rows: Ledger, entries: list[Entry], spans: tuple[range, ...], stage: int) -> Iterator[Entry]:
    """Towers, encoder and embedding are on the first stage, final norm and head on the last."""
    first, last = stage == 0, stage == len(spans) - 1
    before = {path for path, _ in rows.spec.decoder.before}
    here: set[str] = set()
    for entry in entries:
        if entry.stack == "decoder" and entry.kind and len(spans) > 1:
            inside = tuple(i for i in entry.indices or () if i in spans[stage])
            if inside:
                yield replace(entry, count=len(inside), indices=inside)
        elif first if entry.stack != "decoder" or entry.path in before else last or bool(entry.kind):
            here.add(entry.path)
            yield _with_tables(entry, here)


def _with_tables(entry: Entry, here: set[str]) -> Entry:
    """A table that another stage stores is stored here too."""
    away = {
        name: replace(weight, tied=None)
        for name, weight in entry.rows.weights.items()
        if weight.tied is not None and weight.tied.rpartition(".")[0] not in here
    }
    return replace(entry, rows=replace(entry.rows, weights={**entry.rows.weights, **away})) if away else entry


# ---------------------------------------------------------------- rules


def _rules(rows: Ledger, parallel: Parallel) -> Iterator[Rule]:
    tp, ep, dp, dcp = parallel.tp, parallel.ep, parallel.dp, parallel.dcp
    yield (
        divides(ep, tp * dp),
        lambda: f"ep ({ep}) must divide tp x dp ({tp * dp}), the ranks among which experts are shared",
    )
    yield divides(ep, tp) | divides(tp, ep), lambda: f"ep ({ep}) and tp ({tp}) must divide one another"
    yield multiple_of("tp", tp, "dcp", dcp)
    if not any(weight.routed is not None for entry in rows.entries for weight in entry.rows.weights.values()):
        yield same(ep, 1), lambda: f"ep ({ep}) shares experts, and {rows.spec.name} has none"
    for entry in rows.entries:
        if not entry.in_tower:
            yield from _rules_of_entry(entry, parallel)
        if any(state.capacity == "context" and state.stored for state in entry.rows.states.values()):
            yield from _rules_of_slots(entry, parallel)


def _rules_of_entry(entry: Entry, parallel: Parallel) -> Iterator[Rule]:
    for letter, split in entry.rows.splits.items():
        if entry.sizes.get(letter) is not None:
            yield from _rules_of(entry.path, entry.sizes[letter], split, parallel)


def _rules_of(path: str, n: Number, split: Split, parallel: Parallel) -> Iterator[Rule]:
    ways = WAYS[split.how](n, parallel)
    if split.how in ("even", "experts", "width"):
        by = {"even": "tp", "experts": "ep", "width": "tp / ep"}[split.how]
        condition, sentence = multiple_of(split.what, n, by, ways)
        yield condition, lambda: f"{path}: {sentence()}"
    elif split.how == "heads":
        tp = parallel.tp
        yield (
            divides(tp, n) | divides(n, tp),
            lambda: (
                f"{path}: {split.what} ({n}) and tp ({tp}) must divide one another; tp={_nearest_tp(n, tp)} would do"
            ),
        )


def _nearest_tp(heads: int, tp: int) -> str:
    """'4 or 8': the numbers on either side that the heads can be shared among."""
    good = [t for t in range(1, 2 * tp * heads + 1) if heads % t == 0 or t % heads == 0]
    return " or ".join(str(t) for t in (*[t for t in good if t < tp][-1:], *[t for t in good if t > tp][:1]))


def _rules_of_slots(entry: Entry, parallel: Parallel) -> Iterator[Rule]:
    """dcp shares what tp would hold several times: vLLM's ModelConfig.verify_with_parallel_config."""
    copies = floor_div(parallel.tp, _ways(entry, "K", parallel))
    dcp, tp = parallel.dcp, parallel.tp
    yield (
        divides(dcp, copies),
        lambda: (
            f"{entry.path}: dcp ({dcp}) must divide the {copies} ranks that hold the same K/V heads: tp ({tp}) over "
            f"{entry.sizes.get('K')} heads"
        ),
    )


# ---------------------------------------------------------------- what is held more than once


def _ways(entry: Entry, axes: str, parallel: Parallel) -> Number:
    """How many different shares of a tensor there are."""
    splits = entry.rows.splits
    return product([WAYS[splits[a].how](entry.sizes[a], parallel) for a in axes if a in splits])


@dataclass(frozen=True)
class Extra:
    """Bytes over all ranks that the model alone would not take: copies of what is held already, and padding."""

    path: str
    part: str  # weights | kv_cache
    replicated: Number
    padding: Number


def replicated(rows: Ledger, parallel: Parallel, precision: Precision) -> tuple[Extra, ...]:
    """What sharing costs, a weight and a state at a time: all ranks' bytes less these are those of one rank alone.

    rows  of the whole model, with the workload whose cache is meant; without one, weights alone.
    A data-parallel replica holds weights and a cache of its own batch: both count as copies.
    """
    rows = _with_whole_towers(rows, parallel)
    found = [_extra_weight(rows, e, w, parallel, precision) for e, w, _ in stored(rows)]
    if parallel.pp > 1:
        found += [*_second_tables(rows, parallel, precision)]
    if rows.work is not None:
        states = ((e, s) for e in rows.entries for s in e.rows.states.values() if s.stored)
        found += [_extra_state(rows, e, s, parallel, precision) for e, s in states]
    return tuple(found)


def _extra_weight(rows: Ledger, entry: Entry, weight: Weight, parallel: Parallel, precision: Precision,
                  own: int = 1) -> Extra:  # fmt: skip
    """`own` copies are the model's, the others are not."""
    splits, numel = entry.rows.splits, entry.numel(weight)
    sizes = dict(entry.sizes) | {a: _padded(entry.sizes[a], splits[a], parallel) for a in weight.axes if a in splits}
    padded = product([sizes[a] for a in weight.axes])
    copies = floor_div(parallel.alike, _ways(entry, weight.axes, parallel))
    bits = precision.bits(rows, entry, weight) * entry.count
    return Extra(
        f"{entry.path}.{weight.name}", "weights",
        octets(bits * numel * (copies - own)), octets(bits * (padded - numel) * copies),
    )  # fmt: skip


def _second_tables(rows: Ledger, parallel: Parallel, precision: Precision) -> Iterator[Extra]:
    """Tables on the last stage that are tied to one on the first."""
    outside = {entry.path: entry for entry in rows.entries if not entry.kind}
    for here, weight, _ in stored(ranks(rows, parallel)[-1].rows):
        entry = outside.get(here.path, here)
        if entry.rows.weights[weight.name].tied is not None:
            yield _extra_weight(rows, entry, weight, parallel, precision, own=0)


def _extra_state(rows: Ledger, entry: Entry, state: State, parallel: Parallel, precision: Precision) -> Extra:
    work = rows.work
    assert work is not None
    shared = parallel.cp * parallel.dcp if state.capacity == "context" else 1
    slots = state.slots(work.context, work.source)
    copies = floor_div(parallel.alike, _ways(entry, state.axes, parallel) * shared)
    bits = precision.state_bits(entry, state) * entry.count * work.batch
    return Extra(
        f"{entry.path}.{state.name}", "kv_cache",
        octets(bits * slots * (copies - 1)), octets(bits * (ceil_div(slots, shared) * shared - slots) * copies),
    )  # fmt: skip
