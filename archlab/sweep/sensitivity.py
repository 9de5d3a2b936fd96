"""A tornado: what each size of a model, changed alone to either side, does to its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from archlab.engines.base import Engine
from archlab.errors import ArchlabError, SpecError, nearest
from archlab.hardware import Hardware, load_hardware
from archlab.precision import Precision
from archlab.schema import flat
from archlab.spec import ModelSpec
from archlab.sweep.axes import PLACE_KEYS, WORKLOAD_KEYS, bare_key
from archlab.sweep.evaluate import evaluate
from archlab.sweep.results import current_value, device_facts
from archlab.workload import Workload

METRICS = ("params", "kv_cache_bytes", "flops_prefill", "flops_decode")

SIZES = (
    "d_model", "n_layers", "vocab_size", "n_heads", "n_kv_heads", "head_dim", "window", "d_ff", "width", "experts",
    "top_k",
)  # fmt: skip
"""Last words of keys that are sizes: halving and doubling them is the same step for each."""

LIMITS = ("max_context", "max_batch")
"""Metrics that are asked of `evaluate` as limits."""

Range = tuple[Any, Any]


@dataclass(frozen=True)
class _Side:
    """The metrics of one changed point, or why it cannot be."""

    found: Mapping[str, float]
    reason: str | None = None


def tornado(
    spec: ModelSpec,
    work: Workload,
    hardware: str | Hardware | None = None,
    precision: str | Precision = "bf16",
    keys: Mapping[str, Range] | None = None,
    metrics: Sequence[str] = METRICS,
    engine: str | Engine = "ideal",
) -> pd.DataFrame:
    """A row a metric and key, largest change first within a metric.

    keys     key -> (low, high), paths as `evaluate` takes them; without them `default_ranges`
    metrics  columns of `evaluate`; those of memory, max_context and max_batch need hardware

    Columns: `metric`, `key`; `low`, `base`, `high`, the key's values; `at_low`, `at_base`, `at_high`, the metric's, NaN
    for a point that breaks a rule; `change_low`, `change_high`, relative to the base's metric (0.1 is 10 % more);
    `size`, the larger of their amounts; `reason`, why a side is missing (a rule, or another key that hides this one),
    else None. A key that has no legal side stands last.
    Raises ArchlabError for an unknown key or metric, and for a base that breaks a rule.
    """
    asked = _Asked(spec, work, hardware, precision, engine, tuple(metrics))
    base = asked.at({"workload.batch": [work.batch]})
    if base.reason is not None:
        raise SpecError(base.reason)
    ranges = default_ranges(spec, work) if keys is None else {bare_key(k): _pair(k, pair) for k, pair in keys.items()}
    rows = [row for key, pair in ranges.items() for row in _rows(asked, key, pair, base.found)]
    rows.sort(key=lambda row: (asked.metrics.index(row[0]), -row[-2] if row[-2] == row[-2] else math.inf))
    return pd.DataFrame({name: _typed(name, [row[i] for row in rows]) for i, name in enumerate(_COLUMNS)})


def default_ranges(spec: ModelSpec, work: Workload) -> dict[str, Range]:
    """Half and twice of every size that the model's file states for its decoder or encoder, and of context and batch.

    One step for all, an octave either way, makes their bars comparable. Half is rounded down; 1 has none (None).
    """
    stated = {
        key: value
        for key, value in flat({k: v for k, v in spec.data.items() if k not in ("vision", "audio")})
        if key.rpartition(".")[2] in SIZES and isinstance(value, int) and not isinstance(value, bool)
    }
    stated |= {"workload.context": work.context, "workload.batch": work.batch}
    return {key: (value // 2 or None, value * 2) for key, value in stated.items()}


_COLUMNS = (
    "metric", "key", "low", "base", "high", "at_low", "at_base", "at_high", "change_low", "change_high", "size",
    "reason",
)  # fmt: skip


def _typed(name: str, values: list[Any]) -> pd.Series:
    """Metrics and changes as floats; values of keys and reasons as they were given, None where there is none."""
    return pd.Series(values, dtype=float if name.startswith(("at_", "change_", "size")) else object)


@dataclass(frozen=True)
class _Asked:
    """What is evaluated, whatever the changes."""

    spec: ModelSpec
    work: Workload
    hardware: str | Hardware | None
    precision: str | Precision
    engine: str | Engine
    metrics: tuple[str, ...]

    def at(self, changes: Mapping[str, Sequence[Any]]) -> _Side:
        """One point. Raises ArchlabError for what is wrong with it whatever its values, and for an unknown metric."""
        limits = any(name in LIMITS for name in self.metrics)  # slow: a search a point
        memory = limits or any(name.startswith("memory_") or name == "fits" for name in self.metrics)
        more = {"engine": self.engine, "memory": memory, "limits": limits}
        points = evaluate(self.spec, self.work, self.hardware, self.precision, changes, **more)  # type: ignore[arg-type]
        frame = points.frame()
        if frame["status"].iloc[0] != "ok":
            return _Side({}, str(frame["reason"].iloc[0]))
        for name in self.metrics:
            if name not in points.columns:
                raise SpecError(f"unknown metric {name!r}{nearest(name, (*points.columns, *LIMITS))}")
            if points[name].dtype.kind not in "biuf":
                raise SpecError(f"metric {name!r} is text; a tornado takes numbers")
        return _Side({name: float(points[name].ravel()[0]) for name in self.metrics})

    def beside(self, key: str, value: Any) -> _Side:
        """One point with a changed key; what is wrong with it is a reason."""
        if value is None:
            return _Side({}, "1 cannot be halved")
        try:
            return self.at({key: [value]})
        except ArchlabError as problem:
            return _Side({}, str(problem))


def _pair(key: str, pair: Any) -> Range:
    if not isinstance(pair, Iterable) or isinstance(pair, str) or len(found := tuple(pair)) != 2:
        raise SpecError(f"{key}={pair!r} must be two values, the low and the high")
    return found[0], found[1]


def _rows(asked: _Asked, key: str, pair: Range, base: Mapping[str, float]) -> Iterator[tuple[Any, ...]]:
    """A row of _COLUMNS for each metric."""
    values = pair[0], _base_value(asked, key), pair[1]  # raises for a key that is unknown
    low, high = (asked.beside(key, value) for value in pair)
    for metric in asked.metrics:
        at = low.found.get(metric, math.nan), base[metric], high.found.get(metric, math.nan)
        changes = [_change(at[1], moved) for moved in (at[0], at[2])]
        size = max((abs(change) for change in changes if not math.isnan(change)), default=math.nan)
        yield metric, key, *values, *at, *changes, size, _reasons(low, high)


def _change(base: float, moved: float) -> float:
    """(moved - base) / base; NaN where the base is 0."""
    return (moved - base) / base if base else math.nan


def _reasons(low: _Side, high: _Side) -> str | None:
    if low.reason is not None and low.reason == high.reason:
        return low.reason
    return "; ".join(f"{name}: {side.reason}" for name, side in (("low", low), ("high", high)) if side.reason) or None


def _base_value(asked: _Asked, key: str) -> Any:
    """What the base has for a key. Raises SpecError for one that is unknown."""
    group, _, name = key.partition(".")
    if key in WORKLOAD_KEYS:
        return getattr(asked.work, name)
    if key in PLACE_KEYS:
        return getattr(asked, key)
    if group != "hardware" or asked.hardware is None:
        return current_value(asked.spec, key)
    facts = dict(flat(device_facts(load_hardware(asked.hardware))))
    if name not in facts:
        raise SpecError(f"unknown key {key}{nearest(name, facts)}")
    return facts[name]
