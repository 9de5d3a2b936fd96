"""llama.cpp: a cell a token in one or two caches, allocated whole when it starts.

n_ctx is shared by its sequences: n_ctx = context x n_seq, where archlab's `context` is tokens of one sequence. A log
of `-c 4096 -np 2` is context=2048, n_seq=2. Two layouts:

    a stream a sequence (the library's default)      cells = pad(context), for each sequence
    unified (llama-server's, with -np auto)           cells = pad(context x n_seq), shared

Layers with a window have a cache of their own, window x (n_seq if unified else 1) + n_ubatch cells, no more than the
others have; pad() is up to 256. Layers that read another's keys and values have none. Rows of the cache are stored in
GGML types; without flash attention V lies transposed, in rows as wide as the widest layer's. Recurrent states are
one a sequence.

Followed: src/llama-kv-cache-iswa.cpp, llama-kv-cache.cpp and llama-context.cpp of builds from November 2025 (pull
request 17046: cells are padded to 256 with and without flash attention) to 2026. The sliding cache was kept in f16
beside a quantised one for a day (21277 of 2026-04-01, taken back by 21332): `swa_f16`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archlab.algebra import Number, ceil_div, maximum, minimum, octets
from archlab.engines.base import Engine, Held, cache_format, held, packed
from archlab.engines.runtime import overheads
from archlab.errors import SpecError
from archlab.fields import FieldType, Rule, at_most, flag, size
from archlab.formats import FORMATS, Format
from archlab.items import Item
from archlab.ledger import Entry, Ledger
from archlab.precision import Precision
from archlab.rows import Weight
from archlab.spec import ModelSpec
from archlab.workload import Workload

if TYPE_CHECKING:
    from archlab.hardware import Hardware

TYPES: Mapping[str, str] = {
    "f32": "fp32", "f16": "fp16", "bf16": "bf16", "q8_0": "q8_0", "q5_1": "q5_1", "q5_0": "q5_0", "q4_1": "q4_1",
    "q4_0": "q4_0", "iq4_nl": "iq4_nl",
}  # fmt: skip
"""What --cache-type-k and --cache-type-v take -> archlab's name of the format (common/arg.cpp)."""

PAD = 256
SOURCE = "llama.cpp, src/llama-kv-cache-iswa.cpp"


def _type(doc: str) -> Any:
    """A field that is one of TYPES, or null."""
    words = f"one of {', '.join(TYPES)} or null"
    kind = FieldType(words, lambda x: isinstance(x, str) and x in TYPES, none=True, choices=tuple(TYPES))
    return field(default=None, kw_only=True, metadata={"type": kind, "doc": doc})


@dataclass(frozen=True)
class LlamaCpp(Engine):
    """llama.cpp's library and server."""

    name: ClassVar[str] = "llama_cpp"
    title: ClassVar[str] = "llama.cpp: cells allocated when it starts"
    context_is: ClassVar[str] = "tokens of a sequence; its own n_ctx is context x n_seq"
    kv_formats: ClassVar[tuple[str, ...]] = ("q8_0", "q4_0")
    savers: ClassVar[tuple[Mapping[str, Any], ...]] = ({"swa_full": False}, {"n_ubatch": 128})
    splits: ClassVar[tuple[str, ...]] = ("pp",)  # --split-mode layer; its rows are not modelled

    n_seq: int | None = size("sequences it is started for (--parallel); null: the batch", None, none=True)
    n_ubatch: int = size("tokens that it computes at once", 512)
    n_batch: int = size("tokens handed to it at once; n_ubatch is no more", 2048)
    unified: bool = flag("one cache that the sequences share (--kv-unified)", False)
    swa_full: bool = flag("sliding layers keep the whole context (--swa-full)", False)
    cache_type_k: str | None = _type("type of the keys; null: the precision's")
    cache_type_v: str | None = _type("type of the values; null: the precision's")
    swa_f16: bool = flag("sliding layers stay f16 (builds of 2026-04-01)", False)
    flash_attn: bool = flag("flash attention; without it scores are stored, and V is padded", True)
    n_outputs_max: int | None = size(
        "rows of logits; null: one a sequence, as llama-server asks (older builds: n_ubatch)",
        None, none=True,
    )  # fmt: skip

    @property
    def attention(self) -> str:  # type: ignore[override]
        """Whether scores are stored."""
        return "fused" if self.flash_attn else "eager"

    def rules(self, work: Workload) -> Iterator[Rule]:
        yield not work.train, lambda: "engine llama_cpp serves models and does not train them; engine=hf does"
        if self.n_seq is not None:
            yield (
                at_most(work.batch, self.n_seq),
                lambda: f"n_seq={self.n_seq} of engine llama_cpp must not be below batch={work.batch}",
            )

    def runs_on(self, device: Hardware) -> str | None:
        return f"llama_cpp has no backend for {device.name}" if device.kind in ("tpu", "accelerator") else None

    def notes(self, device: Hardware | None, precision: Precision, spec: ModelSpec | None = None) -> tuple[str, ...]:
        said = super().notes(device, precision, spec)
        if spec is not None and any(stack.part is not None for stack in spec.stacks):
            said += (
                "towers are counted on the device; llama_cpp loads them only with --mmproj, from a file of their own",
            )
        return said

    @property
    def kv_given(self) -> str | None:
        if self.cache_type_k is None and self.cache_type_v is None:
            return None
        keys, values = (None if t is None else TYPES[t] for t in (self.cache_type_k, self.cache_type_v))
        if keys == values:
            return keys
        return ", ".join(f"{part} {name}" for part, name in (("k", keys), ("v", values)) if name is not None)

    def cache_words(self, precision: Precision) -> str:
        keys, values = (precision.kv if t is None else TYPES[t] for t in (self.cache_type_k, self.cache_type_v))
        both = keys if keys == values else f"k {keys}, v {values}"
        return f"{both}, sliding layers fp16" if self.swa_f16 and both != "fp16" else both

    def sequences(self, work: Workload) -> Number:
        """Sequences that it is started for."""
        return work.batch if self.n_seq is None else self.n_seq

    def cells(self, context: Number, sequences: Number, window: Number | None = None) -> Number:
        """Cells of all streams of the cache of layers with a window, or without one."""
        streams, share = (1, sequences) if self.unified else (sequences, 1)
        base = pad(context * share)
        if window is None or self.swa_full:
            return base * streams
        return pad(minimum(base, window * share + min(self.n_ubatch, self.n_batch))) * streams

    def cache(self, rows: Ledger, work: Workload, precision: Precision) -> tuple[Item, ...]:
        states = [*held(rows, precision)]
        widest = 0 if self.flash_attn else _widest(states)
        bits: dict[str, Number] = {}
        for kept in states:
            slots = self._slots(kept, work)
            part = kept.state.part
            bits[part] = bits.get(part, 0) + slots * kept.layers * self._slot_bits(kept, precision, widest)
        return tuple(Item("kv_cache", part, octets(n), self._words(part), SOURCE) for part, n in bits.items())

    def _slots(self, kept: Held, work: Workload) -> Number:
        if kept.state.capacity == "window":
            return self.cells(work.context, self.sequences(work), kept.state.window)
        if kept.state.capacity == "context":
            return self.cells(kept.entry.slots(kept.state, work.context), self.sequences(work))
        return self.sequences(work) * kept.state.slots(work.context, work.source)

    def _slot_bits(self, kept: Held, precision: Precision, widest: Number) -> Number:
        """Bits of a cell of one layer: a row of heads, of the widest layer where V is transposed."""
        if kept.state.capacity == "constant":
            return kept.bits
        form, width = self._form(kept, precision), kept.entry.numel(kept.state)
        if kept.state.role == "v" and kept.state.capacity != "source":
            width = maximum(width, widest)
        return form.matrix_bits(1, width) - form.tensor

    def _form(self, kept: Held, precision: Precision) -> Format:
        if self.swa_f16 and kept.state.capacity == "window":
            return FORMATS["fp16"]
        asked = self.cache_type_k if kept.state.role == "k" else self.cache_type_v
        form = cache_format(self, precision, tuple(TYPES.values())) if asked is None else FORMATS[TYPES[asked]]
        if kept.state.role == "v" and form.group is not None and not self.flash_attn:
            raise SpecError(
                f"values in {form.name} need flash_attn=true of engine llama_cpp: V lies transposed without"
            )
        return form

    def _words(self, part: str) -> str:
        if part == "global" or (part == "local" and self.swa_full):
            return f"a cell a token of n_ctx, up to {PAD}"
        cells = f"window{' x n_seq' if self.unified else ''} + n_ubatch cells, up to {PAD}"
        return cells if part == "local" else "a slot a source token" if part == "source" else "a state a sequence"

    def output_bytes(self, rows: Ledger, work: Workload) -> Number:
        """Bytes of the logits' buffer in the host's memory: "output buffer size" of its log."""
        return self.sequences(work) * rows.spec.vocab_size * 4

    def steps(self, spec: ModelSpec, work: Workload) -> tuple[Workload, ...]:
        if not spec.decodes:
            return (work,)
        tokens = min(self.n_ubatch, self.n_batch)
        outputs = self.n_outputs_max
        chunk = packed(spec, work, tokens, "all" if outputs is not None and outputs >= tokens else "last")
        rows = self.sequences(work) if outputs is None else maximum(self.sequences(work), min(outputs, tokens))
        return chunk, replace(work.decode(), batch=rows)

    def on_host(self, rows: Ledger, entry: Entry, weight: Weight) -> bool:
        """Tables that are only looked up stay there; one that is the head too is on the device besides."""
        looked_up = weight.use == "lookup" and not entry.in_tower
        return looked_up and f"{entry.path}.{weight.name}" not in _multiplied(rows)

    def runtime(self, device: Hardware, ranks: int, precision: Precision) -> tuple[Item, ...]:
        return overheads(self.name, device, ranks)


def pad(cells: Number) -> Number:
    """Up to a multiple of 256."""
    return ceil_div(cells, PAD) * PAD


def _widest(states: list[Held]) -> Number:
    """Elements of the widest row of values of all layers."""
    widest: Number = 0
    for kept in states:
        if kept.state.role == "v":
            widest = maximum(widest, kept.entry.numel(kept.state))
    return widest


def _multiplied(rows: Ledger) -> set[str]:
    """Paths of the weights that a product reads under another name: the table of a tied head."""
    weights = {f"{e.path}.{w.name}": w for e in rows.entries for w in e.rows.weights.values()}
    found: set[str] = set()
    for path, weight in weights.items():
        at = path if weight.use == "matmul" else None
        while at is not None and (tied := weights[at].tied if at in weights else None) is not None:
            found.add(tied)
            at = tied
    return found
