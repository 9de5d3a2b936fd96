"""How long kernels take on a device, from a few constants: the laws, and the `measured:` block that holds them.

    linear     of few rows: launch + bytes / bandwidth + FLOPs / rate + outputs / rate; of more:
               launch + smooth max(bytes / bandwidth, 2 (m + half_rows) n (k + half_inputs) / rate)
    attention  launch + bytes / bandwidth + FLOPs / rate + scores / rate, by kind: a step of one token, a causal pass,
               a windowed one, each with a cap or without
    vector     launch + bytes / bandwidth + operations / rate
    a step     factors of the sums of the first two, fitted on whole steps, and seconds that no kernel accounts for

On a table of NVIDIA's (aiconfigurator, H200, bf16) a linear law fitted to 66 products is off by 8 % of others of few
rows and by 6 % of many, in the mean (tests/golden/test_h200.py). What the last wave of tiles leaves idle is not in it:
with it the law was three times as far off, as the library chooses its tile by the shape. Bytes and FLOPs come from the
rows, constants from measurements (measure/calibration.py). A device says them in a block, by number format:

    measured:
      bf16: {date: ..., device: ..., linear: {...}, ..., error: {median: ..., p90: ..., n_configurations: ...}}

`operations` are exact shapes with their seconds, kernels alone: a workload whose shapes are all among them is composed
of these instead of the laws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archlab.algebra import Number, choose, smooth_maximum
from archlab.errors import SpecError, nearest
from archlab.fields import FieldType, check_fields, real, size, text

CALIBRATED = ("fp32", "bf16", "fp16")
"""Number formats that a device may be calibrated for: those that its modules are timed in."""

ATTENTION = ("step", "causal", "windowed", "step_capped", "causal_capped", "windowed_capped")
"""What attention is measured as; the first two at least."""


def table(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is a table of its own; null where the default is."""
    kind = FieldType("a table" + (" or null" if default is None else ""), _is_table, default is None)
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def _is_table(x: Any) -> bool:
    return isinstance(x, Mapping) or dataclasses.is_dataclass(x)


def span(doc: str) -> Any:
    """A field that is two counts, the least and the most."""
    kind = FieldType("two whole numbers, the least and the most", _is_span)
    return field(kw_only=True, metadata={"type": kind, "doc": doc})


def _is_span(x: Any) -> bool:
    whole = isinstance(x, list | tuple) and len(x) == 2 and all(type(n) is int for n in x)
    return whole and 1 <= x[0] <= x[1]


@dataclass(frozen=True)
class SumLaw:
    """Seconds of a kernel whose launch, bytes, operations and results add up; null for what takes no time."""

    launch_s: float = real("seconds of a kernel that does nothing", zero=True)
    bandwidth_bytes_per_s: float | None = real("bytes read and written a second", none=True)
    operations_per_s: float | None = real("FLOPs, or elementwise operations, a second", none=True)
    results_per_s: float | None = real("outputs of a product, or scores of attention, a second", None, none=True)

    def seconds(self, nbytes: Number, operations: Number, results: Number = 0) -> Number:
        """One kernel."""
        return (
            self.launch_s
            + (0 if self.bandwidth_bytes_per_s is None else nbytes / self.bandwidth_bytes_per_s)
            + (0 if self.operations_per_s is None else operations / self.operations_per_s)
            + (0 if self.results_per_s is None else results / self.results_per_s)
        )


@dataclass(frozen=True)
class ProductLaw:
    """Seconds of products of m rows with matrices of n outputs and k inputs, where all three may be large."""

    launch_s: float = real("seconds of a kernel that does nothing", zero=True)
    bandwidth_bytes_per_s: float = real("rate at which large matrices are read")
    flops_per_s: float = real("rate of large products")
    half_rows: float = real("rows at which half of that rate is reached", zero=True)
    half_inputs: float = real("inputs at which half of it is", zero=True)

    def seconds(self, batch: Number, m: Number, n: Number, k: Number, nbytes: Number) -> Number:
        """`batch` products that move `nbytes` between them."""
        padded = 2 * batch * (m + self.half_rows) * n * (k + self.half_inputs)
        return self.launch_s + smooth_maximum(nbytes / self.bandwidth_bytes_per_s, padded / self.flops_per_s)


@dataclass(frozen=True)
class LinearLaw:
    """Of few rows a product is a matrix that is read, by a kernel of its own; of more, a product."""

    few_rows: int = size("rows up to which the first law holds")
    few: SumLaw = table("the law of few rows")
    many: ProductLaw = table("the law of more")

    def seconds(self, batch: Number, m: Number, n: Number, k: Number, nbytes: Number) -> Number:
        """`batch` products of m rows with k x n matrices, which move `nbytes` between them."""
        return choose(
            m <= self.few_rows,
            lambda: self.few.seconds(nbytes, 2 * batch * m * n * k, batch * m * n),
            lambda: self.many.seconds(batch, m, n, k, nbytes),
        )


@dataclass(frozen=True)
class StepLaw:
    """What kernels take in a step, over what they take alone: below 1 where they overlap, above where they wait."""

    linear: float = real("factor of linear products", 1.0, zero=True)
    step_attention: float = real("factor of attention of one token", 1.0, zero=True)
    attention: float = real("factor of attention of many", 1.0, zero=True)
    seconds: float = real("seconds a step besides its kernels", 0.0, zero=True)


@dataclass(frozen=True)
class Error:
    """Relative errors of steps whose configuration was left out of the fit."""

    median: float = real("half of the steps are nearer", zero=True)
    p90: float = real("nine of ten are", zero=True)
    n_configurations: int = size("configurations, each left out once")


@dataclass(frozen=True)
class Composed:
    """What goes with exact shapes instead of laws: elementwise kernels, a step's factors, and the error of both."""

    vector: SumLaw = table("the law of elementwise kernels")
    step: StepLaw = table("factors of kernels in a step")
    error: Error = table("relative errors on configurations that were left out")


@dataclass(frozen=True, kw_only=True)
class Laws:
    """The laws of one device and number format."""

    linear: LinearLaw = table("the law of linear products")
    attention: Mapping[str, SumLaw] = table("kind of attention -> its law; kinds: " + ", ".join(ATTENTION))
    vector: SumLaw = table("the law of elementwise kernels, as they run in steps")
    step: StepLaw = table("factors of kernels in a step", StepLaw())

    def attention_kind(self, kind: str, capped: bool = False) -> str:
        """The measured kind that stands for step, causal or windowed: itself, without its cap, or causal."""
        wanted = [f"{kind}_capped"] * capped + [kind, "causal"]
        return next(name for name in wanted if name in self.attention)

    def attention_law(self, kind: str, capped: bool = False) -> SumLaw:
        """The law of that kind."""
        return self.attention[self.attention_kind(kind, capped)]


@dataclass(frozen=True, kw_only=True)
class Calibration(Laws):
    """The laws as they were measured: when, on what, from which run, and how wrong they were on what was left out."""

    date: str = text("day of the measurement")
    device: str = text("what was measured, as torch or the system names it")
    run: str = text("folder of the raw data")
    torch: str = text("version of torch")
    code_version: str = text("version of the timed code")
    backend: str = text("how the steps were run", "eager")
    threads: int | None = size("threads of a CPU", None, none=True)
    multiprocessors: int | None = size("multiprocessors of a GPU", None, none=True)
    contexts: Sequence[int] = span("least and most tokens of the steps")
    batches: Sequence[int] = span("least and most sequences of the steps")
    error: Error = table("relative errors of the laws on configurations that were left out")
    composed: Composed | None = table("what goes with exact shapes; null where too few steps were of known ones", None)
    operations: Mapping[str, float] | None = table("exact shape -> seconds, alone", None)

    def of_shapes(self, shapes: Iterable[str]) -> Calibration | None:
        """The calibration that goes with exact shapes; None unless each of them was measured."""
        known = self.operations or {}
        if self.composed is None or not all(shape in known for shape in shapes):
            return None
        return replace(self, vector=self.composed.vector, step=self.composed.step, error=self.composed.error)


_NESTED = {"vector": SumLaw, "step": StepLaw, "error": Error}


def calibrations_from(data: Mapping[str, Any], path: str = "measured") -> dict[str, Calibration]:
    """A device's block, by number format. Raises SpecError."""
    _check_table(path, data)
    for name in data:
        if name not in CALIBRATED:
            raise SpecError(
                f"unknown format {path}.{name}{nearest(str(name), CALIBRATED)} (known: {', '.join(CALIBRATED)})"
            )
    return {name: calibration_from(given, f"{path}.{name}") for name, given in data.items()}


def calibration_from(data: Any, path: str = "measured") -> Calibration:
    """A calibration from its keys. Raises SpecError."""
    if isinstance(data, Calibration):
        return data
    if not isinstance(data, Mapping):
        raise SpecError(f"{path}={data!r} must be a table of what was measured")
    check_fields(Calibration, path, data)
    read: dict[str, Any] = {}
    for name, schema in _NESTED.items():
        if data.get(name) is not None:
            read[name] = _law(schema, data[name], f"{path}.{name}")
    read["linear"] = _linear(data["linear"], f"{path}.linear")
    if data.get("composed") is not None:
        read["composed"] = _composed(data["composed"], f"{path}.composed")
    read["attention"] = dict(_attention(data["attention"], f"{path}.attention"))
    read["operations"] = dict(_operations(data.get("operations") or {}, f"{path}.operations"))
    return Calibration(**{**data, **read})


def _law(schema: type, data: Any, path: str) -> Any:
    if isinstance(data, schema):
        return data
    _check_table(path, data)
    check_fields(schema, path, data)
    return schema(**data)


def _check_table(path: str, data: Any) -> None:
    if not isinstance(data, Mapping):
        raise SpecError(f"{path}={data!r} must be a table")


def _linear(data: Any, path: str) -> LinearLaw:
    if isinstance(data, LinearLaw):
        return data
    _check_table(path, data)
    check_fields(LinearLaw, path, data)
    few, many = _law(SumLaw, data["few"], f"{path}.few"), _law(ProductLaw, data["many"], f"{path}.many")
    return LinearLaw(**{**data, "few": few, "many": many})


def _composed(data: Any, path: str) -> Composed:
    if isinstance(data, Composed):
        return data
    check_fields(Composed, path, data)
    of = {"vector": SumLaw, "step": StepLaw, "error": Error}
    return Composed(**{name: _law(schema, data[name], f"{path}.{name}") for name, schema in of.items()})


def _attention(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, SumLaw]]:
    for kind in ATTENTION[:2]:
        if kind not in data:
            raise SpecError(f"{path}.{kind} is missing: every model has steps and causal passes")
    for kind, given in data.items():
        if kind not in ATTENTION:
            raise SpecError(f"unknown key {path}.{kind}{nearest(str(kind), ATTENTION)} (known: {', '.join(ATTENTION)})")
        yield kind, _law(SumLaw, given, f"{path}.{kind}")


def _operations(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for key, seconds in data.items():
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
            raise SpecError(f"{path}: {key!r} has {seconds!r}, which must be seconds above 0")
        yield key, seconds


def operation_key(kind: str, **shape: Number) -> str:
    """'linear batch=1 m=1 n=4096 k=3584': what an exact shape is filed under."""
    return " ".join([kind, *(f"{name}={value}" for name, value in shape.items())])
