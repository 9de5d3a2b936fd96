"""A run's folder: run.json and parquet tables, all that a report knows. Written to temporary names, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sympy

from archlab.algebra import is_scalar
from archlab.analyzers.flops import flops
from archlab.analyzers.formula import LETTERS, formula
from archlab.analyzers.kv_cache import kv_cache
from archlab.engines.base import Engine
from archlab.hardware import Hardware
from archlab.precision import Precision
from archlab.schema import expand_pattern, field_of
from archlab.spec import ModelSpec
from archlab.sweep.writers import writer
from archlab.units import show_tokens
from archlab.workload import Workload

SCHEMA = 1
MOST_CURVES = 64  # points that get curves and layer patterns; beyond, a picture of lines says nothing

WORK_LETTERS = {"B": "batch", "S": "context in tokens", "E": "tokens of a source"}

ASSUMPTIONS = (
    "A FLOP is half a multiply-add; matrix products only. Exact counts keep the (token, key) pairs that the causal and "
    "sliding-window masks keep; a dense count is what a tracer of the built module sees.",
    "{cache}",
    "Memory is weights, cache, the activations of the fullest step, and what a process takes besides. Weights and "
    "cache are calculated; activations are an estimate from the operations; the rest is what others measured or "
    "assumed, with its sources in conf/runtime.yaml. A model fits where all of it is within what a program can have "
    "of the device.",
    "A bound is the roofline of the data sheet: each operation takes at least its exact FLOPs over the peak rate, and "
    "at least its weights and cache over the memory bandwidth; activations are free; operations do not overlap.",
    "Prefill returns logits of the last token only, as servers do.",
    "An encoder reads a source as long as the context, and a prefix mask covers the whole prompt, where the workload "
    "does not say otherwise.",
    "Tied tables count once. 1 GiB is 2^30 bytes.",
)


_CACHE = "The KV cache is what the mathematics needs: a global layer holds every token, a local one at most its window."
_LAID_OUT = "The KV cache is as {engines} allocates it; against context it is drawn as the mathematics needs it."


def assumptions(engines: Iterable[Engine]) -> list[str]:
    """What stands behind the numbers, in sentences."""
    names = list(dict.fromkeys(engine.name for engine in engines if engine.name != "ideal"))
    cache = _LAID_OUT.format(engines=" or ".join(names)) if names else _CACHE
    return [text.format(cache=cache) for text in ASSUMPTIONS]


def describe_point(spec: ModelSpec) -> dict[str, Any]:
    """The shape of one point, for tables: sizes, layers by kind, window."""
    layers = spec.decoder.layers
    reach = {where: [layer for layer in layers if layer.reach == where] for where in ("global", "local", "recurrent")}
    told = next(layer for where in reach.values() for layer in where).facts()
    counts = {f"layers_{where}": sum(layer.count for layer in found) for where, found in reach.items()}
    return {
        "family": spec.family,
        "n_layers": spec.n_layers,
        **counts,
        "window": reach["local"][0].facts()["window"] if reach["local"] else None,
        "d_model": spec.d_model,
        **{name: told.get(name) for name in ("d_ff", "n_heads", "n_kv_heads", "head_dim")},
        "vocab_size": spec.vocab_size,
        "trained_context": spec.context,
    }


def current_value(spec: ModelSpec, key: str) -> Any:
    """What a model has for a dotted key: its file's value, else the field's default."""
    entry: Any = spec.data
    for name in key.split("."):
        if not isinstance(entry, Mapping) or name not in entry:
            return field_of(spec.data, key).default
        entry = entry[name]
    return entry


def same_value(spec: ModelSpec, key: str, value: Any) -> bool:
    """Whether a point's value is the one that the model has already."""
    have = current_value(spec, key)
    if isinstance(value, list | tuple):
        return expand_pattern(have) == expand_pattern(value)
    return bool(have == value)


def curve_rows(point: str, base: str, spec: ModelSpec) -> Iterable[dict[str, Any]]:
    """KV cache and FLOPs of one decode step, batch 1, at powers of two up to the trained context or 128k."""
    if not spec.decodes:
        return
    top = max(spec.context, 131072)
    for context in [c for c in (2**n for n in range(10, 21)) if c <= top]:
        source = context if spec.encoder is not None else 0
        step = flops(spec, Workload(1, new=1, context=context, source=source))
        yield {
            "point": point,
            "base": base,
            "context": context,
            "beyond_trained": context > spec.context,
            "kv_cache_bytes": kv_cache(spec, context, source=source).total,
            "flops_per_token": step.total,
            "flops_attention_per_token": step.by_part.get("attention", 0),
        }


def layer_rows(point: str, spec: ModelSpec) -> Iterable[dict[str, Any]]:
    """The kind and window of each layer."""
    for index, layer in enumerate(spec.decoder.in_order()):
        yield {"point": point, "index": index, "kind": layer.kind, "window": layer.facts()["window"]}


def formulas(specs: Mapping[str, ModelSpec], keys: Sequence[str] = ()) -> list[dict[str, str]]:
    """The formulas that were computed, from a run on symbols: a letter for each of the `keys` that has one."""
    moved = [key for key in keys if key in LETTERS and not key.endswith("n_layers")]  # a pattern's counts are no line
    decoders = {name: spec for name, spec in specs.items() if spec.decodes}
    return [found for name in [*decoders][:8] for found in _formulas(name, specs[name], moved)]


def _formulas(name: str, spec: ModelSpec, moved: Sequence[str]) -> Iterator[dict[str, str]]:
    count, cache = formula("params", spec, moved), formula("kv_cache", spec, moved)
    step, context = formula("flops_decode", spec, moved), sympy.Symbol("S", integer=True, positive=True)
    beyond = sympy.expand(step.replace(sympy.Min, lambda *args: next(a for a in args if not a.has(context))))
    where = "" if beyond == step else ", once S exceeds the window"
    if not count.is_Integer:
        yield _said("params", f"Parameters, {name}", count)
    yield _said("kv_cache", f"KV cache in bytes (bf16), {name}", cache)
    yield _said("flops_decode", f"FLOPs of one decode step, {name}{where}", beyond)


def _said(metric: str, what: str, found: sympy.Expr) -> dict[str, str]:
    """A formula, and what its letters stand for."""
    meant = {letter: key for key, letter in LETTERS.items()} | WORK_LETTERS
    used = sorted({symbol.name for symbol in found.free_symbols}, key=[*meant].index)
    return {"metric": metric, "what": what, "text": str(found), "letters": ", ".join(f"{x} {meant[x]}" for x in used)}


def device_facts(device: Hardware) -> dict[str, Any]:
    """A device as run.json holds it; `available_bytes` is what one program can have."""
    facts = {k: v for k, v in asdict(device).items() if k != "name"} | {"peak_flops": dict(device.peak_flops)}
    return facts | {"available_bytes": device.available_bytes}


def precision_facts(precision: Precision) -> dict[str, Any]:
    """A precision as run.json holds it."""
    return {k: v for k, v in asdict(precision).items() if k != "name"}


def engine_facts(engine: Engine) -> dict[str, Any]:
    """An engine as run.json holds it: what it is, and its options."""
    return {"title": engine.title, "options": asdict(engine)}


def write_run(out: Path, run: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    """Writes the tables, then run.json, which says that the run is whole."""
    for name, frame in tables.items():
        write_table(out / f"{name}.parquet", frame, run.get("provenance"))
    write_text(out / "run.json", json.dumps({"schema": SCHEMA, **run}, indent=1, allow_nan=False) + "\n")


def write_table(path: Path, frame: pd.DataFrame, facts: Any = None) -> None:
    """A parquet file with its provenance in the metadata, by way of a temporary name."""
    write_arrow(path, pa.Table.from_pandas(tidy(frame), preserve_index=False), facts)


def write_arrow(path: Path, table: pa.Table, facts: Any = None) -> None:
    """A parquet file with its provenance in the metadata and checksums in its pages, by way of a temporary name."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"archlab": json.dumps(facts).encode()})
    with _replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def write_text(path: Path, text: str) -> None:
    """A text file by way of a temporary name."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class _replacing:
    """A temporary path beside the target that takes its name when all went well."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.{writer()}.")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.temporary.chmod(0o644)
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers as (nullable) integers where float64 holds them exactly, missing text as null."""
    result = frame.copy()
    for name in result.columns:
        values = result[name]
        if pd.api.types.is_float_dtype(values) and not name.endswith(("_s", "_residual")):
            known = values.dropna()
            if len(known) and (known % 1 == 0).all() and (known.abs() < 2**53).all():
                result[name] = values.astype("Int64")
    return result


def short_key(key: str) -> str:
    """'model.attention.n_kv_heads' -> 'n_kv_heads'; kinds keep their names: 'local window'."""
    words = key.removeprefix("model.").split(".")
    return " ".join(w for w in words if w not in ("attention", "mlp", "workload"))


def show_axis(value: Any) -> str:
    """A value in a point's label."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return show_tokens(value) if is_scalar(value) and not isinstance(value, bool) and value >= 16384 else str(value)


def label(base: str, values: Mapping[str, Any]) -> str:
    """A point's name: the base and what differs from it."""
    return " ".join([base, *(f"{short_key(k)}={show_axis(v)}" for k, v in values.items())])


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame; columns in the order in which they first appear."""
    return pd.DataFrame(list(rows), columns=list(dict.fromkeys(k for row in rows for k in row)))
