"""How long a pass takes: a roofline bound always, and a prediction where the device was calibrated for the format.

The bound: an op takes at least its FLOPs over the peak rate and its bytes over the bandwidth. Bytes are weights and
state, crossing the memory bus once; activations are free, as in perfect fusion. FLOPs are exact (causal, windowed). Ops
run one after another, so parts add up. Nothing of it is measured: on the device itself no program that runs op by op
from device memory is faster, and every real one is slower.

The prediction: the kernels of a fused implementation, each by its law (calibration.py), or by its own measured time
where the exact shape of every product and attention is known: then it is composed. Its error is that of steps whose
configuration was left out when the laws were fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from archlab.algebra import Number, is_scalar, maximum, where
from archlab.analyzers.kernels import AnyKernel, Attention, Linear, kernels, op_bytes
from archlab.calibration import CALIBRATED, Calibration, Error, Laws
from archlab.efficiency import efficiency_of
from archlab.errors import SpecError
from archlab.hardware import Hardware, load_hardware
from archlab.ledger import Ledger, ledger
from archlab.parallel import Parallel, ranks
from archlab.precision import Precision, load_precision
from archlab.shown import Shown
from archlab.spec import ModelSpec
from archlab.units import show_tokens
from archlab.workload import Workload

BESIDE = "step"
"""The part of what a step takes besides its kernels."""

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Latency(Shown):
    """Seconds of one pass, by part, and what stands behind them.

    source          bound: the roofline | predicted: laws of kernels | composed: exact shapes that were measured
    compute, memory the bound, split by the roof that each op ran into; `bound_seconds` is their sum
    error_band      of what is not a bound: relative errors on configurations that were left out
    at_published_efficiency   seconds at what published systems reach of such a device's data sheet; None where nothing
                    is published of its kind or format
    assumptions     sentences
    """

    seconds: Number
    by_part: dict[str, Number]
    compute: Number
    memory: Number
    bound_seconds: Number
    source: str = "bound"
    error_band: Error | None = None
    at_published_efficiency: Number | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """compute | memory | latency: what takes most; latency is what neither roof accounts for. For scalars."""
        shares = {"memory": self.memory, "compute": self.compute, "latency": self.seconds - self.bound_seconds}
        return max(shares, key=lambda name: shares[name])


def latency(spec: ModelSpec, work: Workload, hardware: str | Hardware, precision: str | Precision = "bf16") -> Latency:
    """Seconds of one forward pass of the whole batch: composed, predicted, or the bound, as far as the device is known.

    hardware   a name, the path of a device's YAML, or a Hardware; one device
    precision  a name of conf/precision, the path of one, or a Precision: weights, cache and products
    Raises ArchlabError for names that are not there, SpecError where the device has no rate for the format and for
    training. The bound is a roofline (Williams et al., CACM 2009), operation by operation.
    """
    device, form, rows = load_hardware(hardware), load_precision(precision), ledger(spec, work)
    found = replace(bound(rows, device, form), assumptions=tuple(_of_bound(device, form)))
    calibration, efficiency = calibration_of(device, form), efficiency_of(device, exact_format(form))
    runs = kernels(rows, form) if calibration is not None or efficiency is not None else []
    if calibration is not None:
        found = _calibrated(found, runs, work, calibration)
    if efficiency is not None:
        seconds = sum(predicted(runs, efficiency.laws(device, form.compute)).values())
        said = (*found.assumptions, efficiency.sentence)
        found = replace(found, at_published_efficiency=seconds, assumptions=said)
    return found


def bound(rows: Ledger, hardware: Hardware, precision: Precision) -> Latency:
    """Lower bound on the time that one device takes for the rows that it holds. Raises SpecError."""
    if rows.work is not None and rows.work.train:
        raise SpecError("latency is for prefill and decode; a training step has no bound here yet")
    peak, bandwidth = hardware.flops_per_s(precision.compute), hardware.bandwidth_bytes_per_s
    by_part: dict[str, Number] = {}
    compute: Number = 0
    for entry in rows.entries:
        seconds: Number = 0
        arithmetic: Number = 0
        for op in entry.rows.ops:
            flops, traffic = op.flops(entry.sizes) / peak, op_bytes(rows, entry, op, precision) / bandwidth
            seconds = seconds + maximum(flops, traffic)
            arithmetic = arithmetic + where(flops > traffic, flops, 0)
        compute = compute + arithmetic * entry.count
        if not (is_scalar(seconds) and seconds == 0):
            by_part[entry.part] = by_part.get(entry.part, 0) + seconds * entry.count
    total = sum(by_part.values())
    return Latency(total, by_part, compute, total - compute, total)


def predicted(runs: Iterable[AnyKernel], laws: Laws, known: Mapping[str, float] = NOTHING) -> dict[str, Number]:
    """Seconds by part: each kernel by its law, or by the seconds that are `known` of its exact shape."""
    by_part: dict[str, Number] = {}
    for kernel in runs:
        by_part[kernel.part] = by_part.get(kernel.part, 0) + kernel.in_step(laws, known) * kernel.count
    return by_part if laws.step.seconds == 0 else by_part | {BESIDE: laws.step.seconds}


def calibration_of(device: Hardware, precision: Precision) -> Calibration | None:
    """What was measured of a device in exactly that format; None for quantised ones, and where nothing was."""
    name = exact_format(precision)
    return None if name is None else device.calibration(name)


def exact_format(precision: Precision) -> str | None:
    """The one format of weights, cache and products, where there is one and modules can be built in it."""
    name = precision.compute
    return name if precision.weights == precision.kv == name and name in CALIBRATED else None


def seconds_on(
    spec: ModelSpec, work: Workload, hardware: Hardware, precision: Precision, parallel: Parallel
) -> Number | None:
    """The bound of a pass over several ranks, communication for nothing: stages one after another.

    In the widest format that the device multiplies: a narrow one that it lacks is widened first (FP8 weights on an
    A100). None where it has no rate for any.
    """
    able = [f for f in (precision.compute, "bf16", "fp16", "fp32") if f in hardware.peak_flops]
    if not able:
        return None
    precision = replace(precision, compute=able[0])
    return sum(bound(rank.rows, hardware, precision).seconds for rank in ranks(ledger(spec, work), parallel))


def _calibrated(least: Latency, runs: Sequence[AnyKernel], work: Workload, calibration: Calibration) -> Latency:
    """The bound with what the calibration makes of the kernels in its place."""
    scalar = is_scalar(least.seconds)
    exact = calibration.of_shapes(kernel.key for kernel in runs if kernel.key is not None) if scalar else None
    laws = calibration if exact is None else exact
    by_part = predicted(runs, laws, NOTHING if exact is None else laws.operations or NOTHING)
    return replace(
        least,
        seconds=sum(by_part.values()),
        by_part=by_part,
        source="predicted" if exact is None else "composed",
        error_band=laws.error,
        assumptions=tuple(_of_calibration(laws, runs, work)),
    )


# ---------------------------------------------------------------- what is assumed, in sentences


def _of_bound(device: Hardware, precision: Precision) -> Iterator[str]:
    rates = "measured" if device.status == "measured" else "the data sheet's peaks"
    peak, bandwidth = device.flops_per_s(precision.compute), device.bandwidth_bytes_per_s
    yield (
        f"weights and cache are read once at {bandwidth / 1e9:,.4g} GB/s and {precision.compute} products run at "
        f"{peak / 1e12:,.4g} TFLOP/s: {rates}"
    )
    yield "activations, elementwise work and launches take no time"


def _of_calibration(calibration: Calibration, runs: Sequence[AnyKernel], work: Workload) -> Iterator[str]:
    yield (
        f"calibrated on {calibration.date} on {calibration.device} ({calibration.backend}, torch {calibration.torch}), "
        f"from {calibration.run}"
    )
    sizes = ((work.batch, calibration.batches, "sequences"), (work.context, calibration.contexts, "tokens"))
    for value, (least, most), what in sizes:
        if is_scalar(value) and not least <= value <= most:
            measured = f"{show_tokens(least)} to {show_tokens(most)}"
            yield f"{show_tokens(value)} {what} were not measured, only {measured}: the error there is not known"
    for wanted, used in dict.fromkeys(pair for kernel in runs for pair in _stand_ins(kernel, calibration)):
        yield f"attention of the kind {wanted} was not measured, and is taken for {used}"
    if any(isinstance(kernel, Linear) and not (is_scalar(kernel.batch) and kernel.batch == 1) for kernel in runs):
        yield "products of several matrices at once (experts, block-diagonal gates) go by the law of single ones"


def _stand_ins(kernel: AnyKernel, laws: Laws) -> Iterator[tuple[str, str]]:
    if isinstance(kernel, Attention):
        for kind in kernel.kinds:
            used = laws.attention_kind(kind, kernel.capped)
            wanted = f"{kind}_capped" if kernel.capped else kind
            if used != wanted:
                yield wanted, used
