"""Many design points through the formulas that one goes through.

A grid is an open mesh: each numeric axis is an array dimension of its own, so a formula that depends on two axes is
computed on two, whatever the others hold; full arrays are views, expanded on demand. Axes whose values are not numbers
(a layer pattern, a flag, a device) are walked one structure after another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from archlab.algebra import Number, column, is_scalar, plain
from archlab.analyzers.fit import max_batch, max_context
from archlab.analyzers.flops import flops
from archlab.analyzers.kernels import kernels
from archlab.analyzers.kv_cache import cache_items
from archlab.analyzers.latency import bound, calibration_of, predicted
from archlab.analyzers.memory import Memory, Setting, memory_in, setting
from archlab.analyzers.params import params, weight_bytes
from archlab.assemble import resolve, rules
from archlab.engines.base import Engine
from archlab.errors import ArchlabError, SpecError, nearest
from archlab.hardware import Hardware
from archlab.items import by_kind
from archlab.ledger import Ledger, ledger
from archlab.precision import Precision
from archlab.schema import field_type, known_keys, override
from archlab.spec import ModelSpec, Workload
from archlab.sweep.hold import Budget, budget, hold_budget
from archlab.units import tokens

if TYPE_CHECKING:
    import pandas

WORKLOAD_KEYS = ("workload.context", "workload.batch", "workload.source", "workload.images", "workload.prefix")
EXACT = 2.0**53

MEMORY_PARTS = ("weights", "kv_cache", "activations", "runtime")
"""Parts of a served model's memory, each a column memory_<part>_bytes."""


@dataclass(frozen=True)
class Asked:
    """Where the points run, and what of memory is to be computed of them."""

    at: Setting
    memory: bool = False
    limits: bool = False

    @property
    def timed(self) -> Hardware | None:
        """The device, where it has a rate for the format of the products: else there are no bounds."""
        device = self.at.device
        return device if device is not None and self.at.precision.compute in device.peak_flops else None

    def check(self) -> None:
        """Raises SpecError for memory of no device, and for a device that lacks the format, unless limits are asked."""
        if self.at.device is None and self.memory:
            raise SpecError("memory and limits need hardware")
        if self.at.device is not None and not self.limits:
            self.at.device.flops_per_s(self.at.precision.compute)


@dataclass(frozen=True)
class Axis:
    """Keys that vary together: one key of a grid, or all linked columns. `values[key]` has one entry a position."""

    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def numeric(self) -> bool:
        """Whether every value of every key is a plain number."""
        return all(is_scalar(v) and not isinstance(v, bool) for entries in self.values.values() for v in entries)


@dataclass
class Points:
    """Evaluated points: an array over the axes for each column; `ok` masks the points that keep every rule."""

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    columns: dict[str, np.ndarray]
    ok: np.ndarray
    spec: ModelSpec
    work: Workload
    walked: tuple[int, ...]  # the axes that were taken one structure after another
    refusals: dict[tuple[int, ...], str]  # position on those axes -> why that structure cannot be
    hold: Budget | None = None
    engine: Engine | None = None
    inexact: set[str] = field(default_factory=set)  # columns with values of 2**53 or more: within 1e-12, not exact

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise SpecError(f"unknown column {name!r}{nearest(name, self.columns)} (known: {', '.join(self.columns)})")
        return np.broadcast_to(self.columns[name], self.shape)

    def __len__(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    def at(self, position: tuple[int, ...]) -> dict[str, Any]:
        """Key -> value of one point, as it was given."""
        return {
            key: entries[i] for axis, i in zip(self.axes, position, strict=True) for key, entries in axis.values.items()
        }

    def reason(self, position: tuple[int, ...]) -> str | None:
        """Why a point is refused, in one sentence; None for a point that stands."""
        if np.broadcast_to(self.ok, self.shape)[position]:
            return None
        structure = tuple(position[i] for i in self.walked)
        if structure in self.refusals:
            return self.refusals[structure]
        try:
            _scalar_point(self.spec, self.work, self.at(position), self.engine)
        except ArchlabError as problem:
            return str(problem)
        return "" if self.hold is None else self.hold.refusal

    def frame(self) -> pandas.DataFrame:
        """A row a point: axis values, `status`, `reason`, and the columns (null where refused)."""
        import pandas

        positions = list(np.ndindex(*self.shape))
        rows: dict[str, Any] = {}
        for key in [k for axis in self.axes for k in axis.values]:
            rows[key] = show_values([self.at(p)[key] for p in positions])
        good = np.broadcast_to(self.ok, self.shape).ravel()
        rows["status"] = np.where(good, "ok", "refused")
        rows["reason"] = [None if g else self.reason(p) for g, p in zip(good, positions, strict=True)]
        for name in self.columns:
            rows[name] = _masked(self[name].ravel(), good)
        return pandas.DataFrame(rows)


def evaluate(
    spec: ModelSpec,
    work: Workload,
    hardware: str | Hardware | None = None,
    precision: str | Precision = "bf16",
    grid: Mapping[str, Sequence[Any]] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    hold: str | Budget | None = None,
    engine: str | Engine = "ideal",
    memory: bool = False,
    limits: bool = False,
) -> Points:
    """Parameters, exact FLOPs of both phases, KV cache, weights and latency bounds of every point.

    Where the device is calibrated for the precision: predicted latencies too, and the error of such predictions.

    grid     key -> values; the points are all combinations
    columns  key -> values, all of one length; position i of each makes point i
    Keys are paths into the model (`attention.n_kv_heads`, or with `model.` before it), or workload.context, .batch,
    .source, .images, .prefix. A source or a prefix as long as the context follows a changed context.
    hold     params | flops: rescales d_ff of each point to keep the spec's own amount, to a multiple of 64
    engine   whose cache kv_cache_bytes is (ideal: what the mathematics needs), and whose memory
    memory   adds memory_bytes (needed), memory_reserved_bytes, memory_budget_bytes, memory_host_bytes, a
             memory_<part>_bytes each for weights, kv_cache, activations and runtime, and fits; needs hardware
    limits   adds max_context (tokens at this batch) and max_batch (sequences of this context) to these; bounds are
             then left out, not refused, where the device has no rate for the format
    `work` is a prefill: its decode step is computed beside it.
    Raises ArchlabError for an unknown key; a point that breaks a rule is masked, not raised.
    """
    _check_work(work)
    hold = budget(hold, spec, work) if isinstance(hold, str) else hold
    axes = _axes(spec, grid or {}, columns or {})
    shape = tuple(len(axis) for axis in axes)
    asked = Asked(setting(hardware, precision, engine), memory or limits, limits)
    asked.check()
    walked = [i for i, axis in enumerate(axes) if not axis.numeric or _is_structure(spec, axis, asked.at.precision)]
    if hold is not None and any("mlp.d_ff" in axis.values for axis in axes):
        raise SpecError("hold rescales mlp.d_ff, so d_ff cannot be an axis too; drop one of them")
    parts: dict[tuple[int, ...], tuple[dict[str, Number], Any]] = {}
    refusals: dict[tuple[int, ...], str] = {}
    for position in itertools.product(*(range(shape[i]) for i in walked)):
        try:
            parts[position] = _mesh(spec, work, asked, axes, dict(zip(walked, position, strict=True)), hold)
        except ArchlabError as problem:
            parts[position] = {}, np.zeros((1,) * len(axes), dtype=bool)
            refusals[position] = str(problem)
    merged, ok = _join(parts, walked, shape)
    points = Points(axes, shape, merged, ok, spec, work, tuple(walked), refusals, hold, asked.at.engine)
    points.inexact = {name for name, values in merged.items() if values.dtype.kind == "f" and _largest(values) >= EXACT}
    return points


def bare_key(key: str) -> str:
    """'model.attention.n_kv_heads' -> 'attention.n_kv_heads'; the other groups keep their names."""
    return key.removeprefix("model.")


def show_value(value: Any) -> Any:
    """A pattern as text, anything else as it is: parquet columns hold one type."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def show_values(values: Sequence[Any]) -> list[Any]:
    """A column of axis values: of one type, as text where they are of several."""
    shown = [show_value(v) for v in values]
    kinds = {type(v) for v in shown if v is not None}
    return shown if len(kinds) <= 1 or kinds == {int, float} else [None if v is None else str(v) for v in shown]


def _axes(spec: ModelSpec, grid: Mapping[str, Sequence[Any]], columns: Mapping[str, Sequence[Any]]) -> tuple[Axis, ...]:
    axes = [Axis({bare_key(key): axis_values(key, values)}) for key, values in grid.items()]
    if columns:
        axes.append(Axis({bare_key(key): axis_values(key, values, linked=True) for key, values in columns.items()}))
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise SpecError(f"linked columns must have one length, not {lengths}")
    known = [*known_keys(spec.data), *WORKLOAD_KEYS]
    keys = [bare_key(k) for k in (*grid, *columns)]
    for key in keys:
        if key not in known:
            raise SpecError(f"unknown key {key}{nearest(key, known)}")
        if keys.count(key) > 1:
            raise SpecError(f"{key} is given as two axes")
    return tuple(axes)


def axis_values(key: str, values: Any, linked: bool = False) -> list[Any]:
    """An axis's values as a list: numpy's as Python's, tokens read (8k is 8192). Raises SpecError."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise SpecError(f"{key}={values!r} must be a list of values")
    found = [plain(v) for v in values]
    if bare_key(key) == "workload.context":
        found = [tokens(v, key) if isinstance(v, str) else v for v in found]
    if not found:
        raise SpecError(f"{key} has no values")
    if not linked and len(set(map(repr, found))) < len(found):
        twice = next(v for v in found if found.count(v) > 1)
        raise SpecError(f"{key} has the value {twice!r} twice")
    return found


def _is_structure(spec: ModelSpec, axis: Axis, precision: Precision) -> bool:
    """Whether numbers of an axis decide which layers are alike.

    n_layers does, where spans name layers by position, or the precision gives them formats by position.
    """
    layers = [key for key in axis.values if key.endswith("n_layers")]
    return any(precision.by_position or _has_spans(spec.data, key) for key in layers)


def _has_spans(data: Mapping[str, Any], key: str) -> bool:
    encoder = data.get("encoder") or {}
    return bool(data.get("spans")) or (key.startswith("encoder.") and bool(encoder.get("spans")))


def _check_work(work: Workload) -> None:
    if work.train:
        raise SpecError("evaluate computes prefill and decode, not training; use flops for one training step")
    if is_scalar(work.new) and work.new != work.context:
        raise SpecError(f"evaluate takes a prefill (new = context), not new={work.new} of context={work.context}")


def _mesh(
    spec: ModelSpec,
    work: Workload,
    asked: Asked,
    axes: tuple[Axis, ...],
    walked: Mapping[int, int],
    hold: Budget | None,
) -> tuple[dict[str, Number], Any]:
    """(columns, mask) of one structure, each column on the axes that it depends on."""
    changes: dict[str, Any] = {}
    ok: Any = True
    for i, axis in enumerate(axes):
        for key, values in axis.values.items():
            if i in walked:
                changes[key] = values[walked[i]]
            else:
                legal = np.array([_legal(spec, key, v) for v in values])
                shape = [1] * len(axes)
                shape[i] = len(axis)
                changes[key] = np.where(legal, column(values), 1.0).reshape(shape)
                ok = ok & legal.reshape(shape)
    return _columns(spec, work, asked, changes, ok, hold)


def _columns(
    spec: ModelSpec,
    work: Workload,
    asked: Asked,
    changes: Mapping[str, Any],
    ok: Any,
    hold: Budget | None,
) -> tuple[dict[str, Number], Any]:
    shaped = resolve(override(dict(spec.data), {k: v for k, v in changes.items() if k not in WORKLOAD_KEYS}))
    for _, condition, _ in rules(shaped):
        ok = ok & condition
    if hold is not None:
        shaped, fits = hold_budget(shaped, hold)
        ok = ok & fits
    work = _work(work, changes)
    for condition, sentence in (*shaped.work_rules(work), *asked.at.engine.rules(work)):
        if condition is False:
            raise SpecError(sentence())
        ok = ok & condition
    found = measures(shaped, work, asked)
    if hold is not None:
        found |= {"d_ff": shaped.data["mlp"]["d_ff"], "hold_residual": hold.metric(shaped) / hold.target - 1}
    return found, ok


def measures(spec: ModelSpec, work: Workload, asked: Asked) -> dict[str, Number]:
    """Every calculated number of a model (or of a mesh of them) at one workload."""
    at = asked.at
    counted, phases = params(spec), {"prefill": work}
    found: dict[str, Number] = {"params": counted.total, "active_params": counted.active}
    found |= {f"params_{part}": n for part, n in counted.by_part.items()}
    found |= {"weights_bytes": weight_bytes(spec, at.precision)}
    if spec.decodes:
        phases["decode"] = work.decode()
        cache = by_kind(cache_items(spec, work, at.precision, at.engine))
        found |= {"kv_cache_bytes": sum(cache.values())} | {f"kv_{part}_bytes": n for part, n in cache.items()}
    if asked.memory:
        found |= memory_columns(memory_in(spec, work, at))
    if asked.limits:
        found |= {"max_context": max_context(spec, work, at), "max_batch": max_batch(spec, work, at)}
    for phase, step in phases.items():
        counts = flops(spec, step)
        found |= {f"flops_{phase}": counts.total, f"flops_{phase}_dense": counts.dense}
    if asked.timed is not None:
        for phase, step in phases.items():
            found |= _times(phase, ledger(spec, step), asked.timed, at.precision)
    return found


def _times(phase: str, rows: Ledger, device: Hardware, precision: Precision) -> dict[str, Number]:
    """The bound of one phase, and what is predicted where the device is calibrated, with the held-out error."""
    least, calibration = bound(rows, device, precision), calibration_of(device, precision)
    found = {
        f"{phase}_bound_s": least.seconds,
        f"{phase}_bound_by": np.where(np.asarray(least.compute > least.memory), "compute", "memory"),
        **{f"{phase}_bound_{part}_s": seconds for part, seconds in least.by_part.items()},
    }
    if calibration is None:
        return found
    by_part = predicted(kernels(rows, precision), calibration)
    found |= {f"{phase}_predicted_s": sum(by_part.values())}
    found |= {f"{phase}_predicted_{part}_s": seconds for part, seconds in by_part.items()}
    return found | {
        "predicted_error_median": calibration.error.median,
        "predicted_error_p90": calibration.error.p90,
    }


def memory_columns(found: Memory) -> dict[str, Any]:
    """What a device must hold, by part, beside what it can."""
    parts = found.by_part
    return {
        "memory_bytes": found.needed,
        **{f"memory_{part}_bytes": parts.get(part, 0) for part in MEMORY_PARTS},
        "memory_host_bytes": found.host,
        "memory_reserved_bytes": found.reserved,
        "memory_budget_bytes": found.budget,
        "fits": found.fits,
    }


def _legal(spec: ModelSpec, key: str, value: Any) -> bool:
    if key in WORKLOAD_KEYS:
        return isinstance(value, int) and value >= (1 if key in WORKLOAD_KEYS[:2] else 0)
    return bool(field_type(spec.data, key).test(value))


def _scalar_point(spec: ModelSpec, work: Workload, values: Mapping[str, Any], engine: Engine | None) -> None:
    """Raises the sentence of the rule that one point breaks."""
    shaped = resolve(override(dict(spec.data), {k: v for k, v in values.items() if k not in WORKLOAD_KEYS}))
    work = _work(work, values)
    ledger(shaped, work)
    for condition, sentence in engine.rules(work) if engine is not None else ():
        if condition is False:
            raise SpecError(sentence())


def _work(work: Workload, changes: Mapping[str, Any]) -> Workload:
    """The prefill with the changed workload keys."""
    resized = work.resized(changes.get("workload.batch", work.batch), changes.get("workload.context", work.context))
    given = {
        name: changes[f"workload.{name}"] for name in ("source", "images", "prefix") if f"workload.{name}" in changes
    }
    return replace(resized, **given, **{f"new_{name}": value for name, value in given.items()})


def _join(
    parts: Mapping[tuple[int, ...], tuple[dict[str, Number], Any]], walked: Sequence[int], shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The structures' columns laid side by side along their axes; a column that one of them lacks is 0 there."""
    names = list(dict.fromkeys(name for found, _ in parts.values() for name in found))
    ok = _lay({p: mask for p, (_, mask) in parts.items()}, walked, shape)
    return {name: _lay({p: found.get(name) for p, (found, _) in parts.items()}, walked, shape) for name in names}, ok


def _lay(parts: Mapping[tuple[int, ...], Any], walked: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    given = [np.asarray(v) for v in parts.values() if v is not None]
    blank = np.zeros((), dtype=given[0].dtype)
    arrays = {p: _dims(blank if v is None else np.asarray(v), len(shape)) for p, v in parts.items()}
    if not walked:
        return next(iter(arrays.values()))
    whole = tuple(shape[i] if i in walked else max(a.shape[i] for a in arrays.values()) for i in range(len(shape)))
    result = np.zeros(whole, dtype=np.result_type(*arrays.values()))
    for position, array in arrays.items():
        at = dict(zip(walked, position, strict=True))
        result[tuple(slice(at[i], at[i] + 1) if i in at else slice(None) for i in range(len(shape)))] = array
    return result


def _dims(array: np.ndarray, n: int) -> np.ndarray:
    return array if array.ndim == n else array.reshape((1,) * n)


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max(initial=0.0))


def _masked(values: np.ndarray, good: np.ndarray) -> Any:
    if values.dtype.kind in "iuf":
        return np.where(good, values, np.nan)
    return [v if g else None for v, g in zip(values.tolist(), good, strict=True)]


def positions(points: Points) -> Iterator[tuple[int, ...]]:
    """Every point's position, in the order of `frame`."""
    return iter(np.ndindex(*points.shape))
