"""A roofline bound on latency: an op takes at least its FLOPs over the peak rate and its bytes over the bandwidth.

Bytes are weights and state, crossing the memory bus once; activations are free, as in perfect fusion. FLOPs are exact
(causal, windowed). Ops run one after another, so parts add up. Nothing here is measured: on the device itself no
program that runs op by op from device memory is faster, and every real one is slower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from archlab.algebra import Number, is_scalar, maximum, where
from archlab.errors import SpecError
from archlab.hardware import Hardware, load_hardware
from archlab.ledger import Entry, Ledger, ledger
from archlab.parallel import Parallel, ranks
from archlab.precision import Precision, load_precision
from archlab.rows import Op
from archlab.spec import ModelSpec, Workload


@dataclass(frozen=True)
class Latency:
    """Seconds. `compute` and `memory` split them by the roof that each op ran into; `bound` names the larger share."""

    seconds: Number
    by_part: dict[str, Number]
    compute: Number
    memory: Number
    source: str = "bound"

    @property
    def bound(self) -> str:
        """compute | memory. For scalars."""
        return "compute" if self.compute > self.memory else "memory"


def latency(spec: ModelSpec, work: Workload, hardware: str | Hardware, precision: str | Precision = "bf16") -> Latency:
    """Lower bound on the time of one forward pass. Raises SpecError where the device has no rate for the format."""
    return bound(ledger(spec, work), load_hardware(hardware), load_precision(precision))


def bound(rows: Ledger, hardware: Hardware, precision: Precision) -> Latency:
    """Lower bound on the time that one device takes for the rows that it holds. Raises SpecError."""
    if rows.work is not None and rows.work.train:
        raise SpecError("latency is for prefill and decode; a training step has no bound here yet")
    peak, bandwidth = hardware.flops_per_s(precision.compute), hardware.bandwidth_bytes_per_s
    by_part: dict[str, Number] = {}
    compute: Number = 0
    memory: Number = 0
    for entry in rows.entries:
        for op in entry.rows.ops:
            arithmetic = op.flops(entry.sizes) * entry.count / peak
            traffic = op_bytes(rows, entry, op, precision) * entry.count / bandwidth
            longer = maximum(arithmetic, traffic)
            compute = compute + where(arithmetic > traffic, longer, 0)
            memory = memory + where(arithmetic > traffic, 0, longer)
            if not (is_scalar(longer) and longer == 0):
                by_part[entry.part] = by_part.get(entry.part, 0) + longer
    return Latency(sum(by_part.values()), by_part, compute, memory)


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


def op_bytes(rows: Ledger, entry: Entry, op: Op, precision: Precision) -> Number:
    """Bytes of weights read and of state read and written by one run of an op."""
    weights = sum(n * precision.bits(rows, entry, w) for w, n in entry.read_weights(op))
    states = sum(
        n / entry.numel(s) * precision.state_bits(entry, s)
        for s, n in entry.touched_states((*op.line.states_read, *op.line.states_written))
    )
    return (weights + states) / 8
