"""vLLM: blocks of tokens in one pool, of which a request takes what its layers' types need.

A page is the keys and values of `block_size` tokens of one layer. Layers of one type (all see everything, or all the
same window) share a block table. Where a model has several types, the hybrid manager makes them alike:

    pages      all as large as the largest: smaller ones get a larger block_size (padded, if it is no multiple)
    groups     as many layers each: the fewest of a type, or the most where that is less than 1.5 times as many;
               the last group of a type is filled up with padding layers
    a block    a page of each layer of a group; num_blocks = pool // (page x layers of a group)
    a request  of L tokens takes in each group ceil(L / block_size) blocks, with a window
               ceil(min(window - 1 + tokens in flight, L) / block_size) + 1, a block more than it may need

Tokens in flight are max_num_batched_tokens, twice that with async_scheduling from pull request 47728 (July 2026) on.
Without the hybrid manager, sliding layers keep everything beside layers that do. Layers that read another's keys and
values take nothing. Recurrent states, which vLLM has for other architectures, are counted apart, a state a request.

Followed: vllm/v1/core/kv_cache_utils.py and vllm/v1/kv_cache_interface.py, 0.11 to 0.28. Before, the 1.5 was 1.25, and
at first the fewest layers decided alone: no Gemma has layers between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import (
    Number,
    ceil_div,
    divides,
    floor_div,
    is_column,
    is_scalar,
    is_symbol,
    maximum,
    minimum,
    octets,
    plain,
    where,
)
from archlab.engines.base import Engine, Held, cache_format, held, packed
from archlab.engines.runtime import overheads
from archlab.errors import SpecError
from archlab.fields import Rule, at_most, choice, flag, real, size
from archlab.items import Item
from archlab.ledger import Ledger, ledger
from archlab.precision import Precision, cache_precision, with_kv
from archlab.spec import ModelSpec
from archlab.units import GIB
from archlab.workload import Workload

if TYPE_CHECKING:
    from archlab.hardware import Hardware

DTYPES: Mapping[str, str | None] = {
    "auto": None, "float16": "fp16", "bfloat16": "bf16", "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8",
    "fp8_per_token_head": "fp8_row", "int8_per_token_head": "int8", "nvfp4": "nvfp4",
}  # fmt: skip
"""What --kv-cache-dtype takes -> archlab's name of the format; auto: the precision's."""

FORMATS = ("fp32", *dict.fromkeys(name for name in DTYPES.values() if name is not None))

STEP_TOKENS, SMALL_STEP_TOKENS = 8192, 2048
"""max_num_batched_tokens of a server unless told: on devices of 70 GiB and more other than an A100, and on others
(vllm/engine/arg_utils.py get_batch_defaults; 0.28 is said to take 16384 from 160 GiB on, which was not looked up)."""

TPU_STEP_TOKENS = {"tpu-v5e": 512, "tpu-v5p": 256, "tpu-v6e": 1024}

BLOCK = 16
"""Tokens of which a block is a multiple."""

SOURCE = "vLLM, vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py"


@dataclass(frozen=True, slots=True)
class LayerType:
    """Layers whose caches are alike. `bits`: keys and values of a token in one layer. No window: all tokens.

    `whole`: all tokens are kept in spite of the window (a column may say so at some points). `shards`: ranks that
    share the tokens of a context.
    """

    part: str  # global | local | source
    window: Number | None
    layers: Number
    bits: Number
    shards: Number = 1
    whole: Any = False


@dataclass(frozen=True, slots=True)
class Table:
    """The layers of a type in groups: each group has a block table of its own.

    groups      of how many groups they are
    block_size  tokens of a block
    page        bytes of a block in one layer
    """

    type: LayerType
    groups: Number
    block_size: Number
    page: Number

    def blocks(self, tokens: Number, in_flight: Number, source: Number = 0) -> Number:
        """Blocks of one group that a request of so many tokens takes."""
        if self.type.part == "source":
            return ceil_div(source, self.block_size)
        whole = ceil_div(ceil_div(tokens, self.type.shards), self.block_size)
        if self.type.window is None:
            return whole
        seen = minimum(self.type.window - 1 + in_flight, tokens)
        return where(self.type.whole, whole, ceil_div(seen, self.block_size) + 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the layers share the pool. `per_group`: layers of a group; `block_bytes`: a block in all layers of one."""

    tables: tuple[Table, ...]
    per_group: Number
    block_bytes: Number
    one_table: bool

    @property
    def groups(self) -> Number:
        """Block tables of a request."""
        return 1 if self.one_table else sum(table.groups for table in self.tables)

    @property
    def padding_layers(self) -> Number:
        """Layers that are there to make groups alike."""
        return 0 if self.one_table else sum(self.padding(table) for table in self.tables)

    def padding(self, table: Table) -> Number:
        """Padding layers of one type."""
        return 0 if self.one_table else self.per_group * table.groups - table.type.layers

    def blocks(self, tokens: Number, in_flight: Number) -> Number:
        """Blocks that a request of so many tokens takes of the pool."""
        blocks: Number = 0
        for table in self.tables:
            of_type = where(table.type.layers > 0, table.groups * table.blocks(tokens, in_flight), 0)
            blocks = maximum(blocks, of_type) if self.one_table else blocks + of_type
        return blocks


@dataclass(frozen=True, slots=True)
class Pool:
    """What vLLM says of its pool when it starts.

    num_blocks          "# GPU blocks" (num_gpu_blocks)
    blocks_per_request  of max_model_len tokens
    concurrency         "Maximum concurrency for N tokens per request"
    tokens              "GPU KV cache size" from 0.21 on: concurrency x max_model_len, rounded down
    tokens_by_group     the same line before: num_blocks // groups x the smallest block size
    padding_layers      "Add N padding layers", and `padding_share`, "may waste at most", of the type that has them
    """

    bytes: Number
    max_model_len: Number
    num_blocks: Number
    blocks_per_request: Number
    concurrency: Number
    tokens: Number
    tokens_by_group: Number
    groups: Number
    layers_per_group: Number
    block_bytes: Number
    padding_layers: Number
    padding_share: Number


@dataclass(frozen=True)
class VLLM(Engine):
    """vLLM's V1 engine."""

    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM: blocks of a pool, and its hybrid manager"
    kv_formats: ClassVar[tuple[str, ...]] = ("fp8",)
    splits: ClassVar[tuple[str, ...]] = ("tp", "pp", "cp", "dcp", "ep", "dp")
    savers: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"max_num_batched_tokens": 2048}, {"enforce_eager": True}, {"gpu_memory_utilization": 0.95},
    )  # fmt: skip

    block_size: int = size("tokens of a block", 16, most=2**20)
    max_num_batched_tokens: int | None = size(
        "tokens of a step; null: by the device as a server does, 8192 on 70 GiB or more (not A100), else 2048; "
        "8192 without a device",
        None, none=True,
    )  # fmt: skip
    max_num_seqs: int | None = size(
        "sequences that run at once, whose rows of logits the profile run holds; null: the batch", None, none=True
    )
    gpu_memory_utilization: float = real("share of the device that it takes (0.9 in older versions)", 0.92)
    max_model_len: int | None = size("longest sequence that it admits; null: the context", None, none=True)
    kv_cache_dtype: str = choice("format of the cache; auto: the precision's", tuple(DTYPES), "auto")
    disable_hybrid_kv_cache_manager: bool = flag("sliding layers keep the whole context", False)
    async_scheduling: bool = flag("two steps' tokens are in flight (counted so from July 2026 on)", False)
    enforce_eager: bool = flag("no CUDA graphs", False)

    def rules(self, work: Workload) -> Iterator[Rule]:
        yield not work.train, lambda: "engine vllm serves models and does not train them; engine=hf does"
        yield (
            divides(BLOCK, self.block_size),
            lambda: (
                f"block_size={self.block_size} of engine vllm must be a multiple of {BLOCK}; {self._near()} would do"
            ),
        )
        yield (
            self.gpu_memory_utilization <= 1,
            lambda: f"gpu_memory_utilization={self.gpu_memory_utilization} of engine vllm is a share, at most 1",
        )
        if self.max_model_len is not None:
            yield (
                at_most(work.context, self.max_model_len),
                lambda: f"max_model_len={self.max_model_len} of engine vllm must not be below context={work.context}",
            )
        if self.max_num_seqs is not None:
            yield (
                at_most(work.batch, self.max_num_seqs),
                lambda: f"max_num_seqs={self.max_num_seqs} of engine vllm must not be below batch={work.batch}",
            )
            yield (
                self.max_num_seqs <= self.step_tokens,
                lambda: (
                    f"max_num_batched_tokens={self.step_tokens} of engine vllm must not be below "
                    f"max_num_seqs={self.max_num_seqs}"
                ),
            )

    def _near(self) -> str:
        """'16 or 32' of 17: the sizes of blocks on either side."""
        below = self.block_size // BLOCK * BLOCK
        return " or ".join(str(tokens) for tokens in (below, below + BLOCK) if tokens)

    def on(self, device: Hardware) -> VLLM:
        if self.max_num_batched_tokens is not None:
            return self
        large = device.memory_bytes >= 70 * GIB and "a100" not in device.name and device.kind != "tpu"
        tokens = TPU_STEP_TOKENS.get(device.name, STEP_TOKENS if large else SMALL_STEP_TOKENS)
        return replace(self, max_num_batched_tokens=tokens)

    def runs_on(self, device: Hardware) -> str | None:
        if device.vendor == "Apple":
            return f"vllm does not run on the GPU of {device.name}; vLLM-Metal, a plugin, keeps its cache its own way"
        if device.kind in ("phone", "cpu"):
            return f"vllm keeps its pool in the host's memory on {device.name}, by other rules than are counted here"
        return None

    def notes(self, device: Hardware | None, precision: Precision, spec: ModelSpec | None = None) -> tuple[str, ...]:
        said = super().notes(device, precision, spec)
        if device is None or precision.compute in ("fp16", "fp32") or not _before_bf16(device):
            return said
        return (f"vllm refuses bf16 on {device.name}, whose compute capability is below 8; it runs fp16", *said)

    @property
    def step_tokens(self) -> int:
        """Tokens of a step: max_num_batched_tokens, or what a server takes on a large device."""
        return STEP_TOKENS if self.max_num_batched_tokens is None else self.max_num_batched_tokens

    @property
    def kv_given(self) -> str | None:
        return DTYPES[self.kv_cache_dtype]

    def cache_words(self, precision: Precision) -> str:
        return self.kv_given or precision.kv

    @property
    def in_flight(self) -> int:
        """Tokens that are scheduled and not done."""
        return self.step_tokens * (2 if self.async_scheduling else 1)

    def cache(self, rows: Ledger, work: Workload, precision: Precision) -> tuple[Item, ...]:
        layout = self.layout(rows, precision)
        bytes_of: dict[str, Number] = {}
        padding: Number = 0
        for table in layout.tables if layout is not None else ():
            blocks = table.blocks(work.context, self.in_flight, work.source) * work.batch * table.page
            part = table.type.part
            bytes_of[part] = bytes_of.get(part, 0) + blocks * table.type.layers
            if layout is not None:
                padding = padding + blocks * layout.padding(table)
        items = [Item("kv_cache", part, n, self._words(part), SOURCE) for part, n in bytes_of.items()]
        if not isinstance(padding, int) or padding:
            items.append(Item("kv_cache", "padding", padding, "layers that make groups alike", SOURCE))
        states = sum(k.bits * k.layers for k in held(rows, precision) if k.state.capacity == "constant")
        if not isinstance(states, int) or states:
            items.append(Item("kv_cache", "recurrent", octets(states * work.batch), "a state a request", SOURCE))
        return tuple(items)

    def _words(self, part: str) -> str:
        if part == "local" and not self.disable_hybrid_kv_cache_manager:
            return f"blocks of window - 1 + {self.in_flight} tokens at most, and one"
        return "blocks of the source" if part == "source" else "blocks of the context"

    def layout(self, rows: Ledger, precision: Precision) -> Layout | None:
        """How the layers of a ledger share the pool; None where none has keys and values."""
        dtype = DTYPES[self.kv_cache_dtype]
        stored = precision if dtype is None else with_kv(precision, dtype)
        cache_format(self, stored, FORMATS)
        types = layer_types(rows, stored)
        if not types:
            return None
        if self.disable_hybrid_kv_cache_manager:
            wide = sum(t.layers for t in types if t.window is None and t.part != "source")
            types = [replace(t, whole=wide > 0) for t in types]  # a model of sliding layers alone stays as it is
        kept_whole = self.disable_hybrid_kv_cache_manager and all(t.part != "source" for t in types)
        alike = kept_whole or _one_reach(types)
        return one_table(types, self.block_size) if alike else grouped(types, self.block_size)

    def pool(self, rows: Ledger, available: Number, max_model_len: Number, precision: Precision) -> Pool:
        """What it makes of so many bytes. Raises SpecError for a model without keys and values."""
        available = _amount("available", available)
        layout = self.layout(rows, precision)
        if layout is None:
            raise SpecError(f"{rows.spec.name} has no keys and values to make a pool for")
        num_blocks = floor_div(int(available) if is_scalar(available) else available, layout.block_bytes)
        request = layout.blocks(max_model_len, self.in_flight)
        smallest = layout.tables[0].block_size
        share: Number = 0
        for table in layout.tables:
            smallest = minimum(smallest, table.block_size)
            share = maximum(share, layout.padding(table) / maximum(1, table.type.layers))
        concurrency = num_blocks / request
        tokens = concurrency * max_model_len  # in floats, as vLLM does it
        return Pool(
            available, max_model_len, num_blocks, request, concurrency,
            tokens=int(tokens) if is_scalar(tokens) else floor_div(tokens, 1),
            tokens_by_group=floor_div(num_blocks, layout.groups) * smallest,
            groups=layout.groups,
            layers_per_group=layout.per_group,
            block_bytes=layout.block_bytes,
            padding_layers=layout.padding_layers,
            padding_share=share,
        )  # fmt: skip

    def steps(self, spec: ModelSpec, work: Workload) -> tuple[Workload, ...]:
        if not spec.decodes:
            return (work,)
        rows = work.batch if self.max_num_seqs is None else self.max_num_seqs
        return packed(spec, work, self.step_tokens), replace(work.decode(), batch=rows)

    def runtime(self, device: Hardware, ranks: int, precision: Precision) -> tuple[Item, ...]:
        return overheads(self.name, device, ranks, frozenset({"enforce_eager"} if self.enforce_eager else ()))

    def reserved(self, capacity: Number, needed: Number) -> Number:
        """Its share of the device, whatever the requests."""
        share = self.gpu_memory_utilization * capacity
        return int(share) if is_scalar(share) else share


def _before_bf16(device: Hardware) -> bool:
    """Whether it is an NVIDIA GPU of a compute capability below 8.0: older than Ampere, of 2020."""
    old = device.released is not None and device.released < 2020
    return device.vendor == "NVIDIA" and old and "bf16" not in device.peak_flops


def layer_types(rows: Ledger, precision: Precision) -> list[LayerType]:
    """The types of the layers that have keys and values, in their order. Raises SpecError for mixed columns."""
    found: list[LayerType] = []
    for kept in _per_layer(rows, precision):
        first, bits = kept[0], sum(k.bits for k in kept)
        new = LayerType(first.state.part, first.state.window, first.layers, bits, _shards(first))
        like = next((i for i, old in enumerate(found) if _alike(old, new)), None)
        if like is None:
            found.append(new)
        else:
            found[like] = replace(new, layers=found[like].layers + new.layers)
    return found


def _per_layer(rows: Ledger, precision: Precision) -> list[list[Held]]:
    """The states of a block that have slots for tokens: its keys and its values."""
    blocks: dict[tuple[int, str], list[Held]] = {}
    for kept in held(rows, precision):
        if kept.state.capacity != "constant":
            blocks.setdefault((id(kept.entry), kept.state.part), []).append(kept)
    return list(blocks.values())


def _shards(kept: Held) -> Number:
    return kept.entry.context_shards if kept.state.capacity == "context" else 1


def _alike(a: LayerType, b: LayerType) -> bool:
    return a.part == b.part and _equal(a.window, b.window) and _equal(a.bits, b.bits)


def _equal(a: Number, b: Number) -> bool:
    """Whether two sizes are one; on columns, at every point."""
    if a is None or b is None or is_symbol(a) or is_symbol(b):
        return bool(a is b) if a is None or b is None else bool(a == b)
    same = a == b
    if not is_column(same):
        return bool(same)
    if same.any() and not same.all():
        raise SpecError("engine vllm groups layers by their sizes: columns that make layers alike at some points only")
    return bool(same.all())


def _one_reach(types: list[LayerType]) -> bool:
    """Whether all layers need slots for the same tokens."""
    return all(t.part != "source" and _equal(t.window, types[0].window) for t in types)


def one_table(types: list[LayerType], block_size: int) -> Layout:
    """All layers in one group, whatever their sizes."""
    tables = tuple(Table(t, 1, block_size, octets(block_size * t.bits)) for t in types)
    layers = sum(t.layers for t in types)
    return Layout(tables, layers, sum(table.page * table.type.layers for table in tables), True)


def grouped(types: list[LayerType], block_size: int) -> Layout:
    """Groups of as many layers each, with pages of one size."""
    largest: Number = 0
    fewest: Number = float("inf")
    most: Number = 0
    for t in types:  # a column may have points without layers of a type
        largest = maximum(largest, where(t.layers > 0, octets(block_size * t.bits), 0))
        fewest, most = minimum(fewest, where(t.layers > 0, t.layers, float("inf"))), maximum(most, t.layers)
    per_group = where(most < 1.5 * fewest, most, fewest)
    tables = []
    for t in types:
        page = octets(block_size * t.bits)
        times = maximum(1, where(divides(page, largest), floor_div(largest, page), 1))
        tables.append(Table(t, ceil_div(t.layers, per_group), block_size * times, largest))
    return Layout(tuple(tables), per_group, largest * per_group, False)


def available(
    capacity: Number,
    peak_torch: Number,
    non_torch: Number,
    gpu_memory_utilization: float = 0.92,
    graphs: Number = 0,
) -> Number:
    """Bytes that are left for the pool: "Available KV cache memory" ("kv_cache_size" once).

    capacity    of the device, as torch says
    peak_torch  weights and the most that the profile run had beside them, of max_num_batched_tokens tokens
    non_torch   CUDA context, NCCL, libraries
    graphs      CUDA graphs, counted from 0.21 on
    Below 0 where they do not fit. Raises SpecError for what is no number of bytes, or no share.
    """
    share = plain(gpu_memory_utilization)
    if not _holds(share, lambda x: (x > 0) & (x <= 1)):
        raise SpecError(f"gpu_memory_utilization={share!r} must be a share of the device, above 0 and at most 1")
    given = {"capacity": capacity, "peak_torch": peak_torch, "non_torch": non_torch, "graphs": graphs}
    capacity, peak_torch, non_torch, graphs = (_amount(name, n) for name, n in given.items())
    return capacity * gpu_memory_utilization - peak_torch - non_torch - graphs


def _amount(name: str, n: Any) -> Number:
    """Bytes: a number of 0 or more, or a column of them. Raises SpecError."""
    n = plain(n)
    if not _holds(n, lambda x: (x >= 0) & (x < float("inf"))):
        raise SpecError(f"{name}={n!r} must be a number of bytes, 0 or more")
    return n


def _holds(n: Any, test: Callable[[Any], Any]) -> bool:
    """Whether a number, or every point of a column, passes; a symbol is given the benefit of the doubt."""
    if is_symbol(n):
        return True
    if is_column(n):
        return n.dtype.kind == "f" and bool(test(n).all())
    return is_scalar(n) and not isinstance(n, bool) and bool(test(n))


def pool(
    spec: ModelSpec,
    available: Number,
    max_model_len: Number | None = None,
    precision: str | Precision = "bf16",
    rows: Ledger | None = None,
    **options: Any,
) -> Pool:
    """What vLLM says when it starts with so many bytes for its pool: blocks, tokens, concurrency, padding.

    available      bytes, rounded down, or a column of them
    max_model_len  the model's trained context where it is not given
    precision      the format of the cache, or a precision, whose `kv` is meant
    rows           the ledger of one rank, where the model is split
    Raises ArchlabError.
    """
    from archlab.engines import load_engine

    length = spec.context if max_model_len is None else max_model_len
    engine = load_engine("vllm", options)
    for condition, sentence in engine.rules(Workload(context=length)):
        if condition is False:
            raise SpecError(sentence())
    assert isinstance(engine, VLLM)
    return engine.pool(ledger(spec) if rows is None else rows, available, length, cache_precision(precision))
