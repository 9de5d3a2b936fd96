"""A roofline bound on latency: an op takes at least its FLOPs over the peak rate and its bytes over the bandwidth.

Bytes are weights and state, crossing the memory bus once; activations are free, as in perfect fusion. FLOPs are exact
(causal, windowed). Ops run one after another, so parts add up. Nothing here is measured: on the device itself no
program that runs op by op from device memory is faster, and every real one is slower.
"""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number, is_scalar, maximum, where
from archlab.config import load_precision
from archlab.errors import SpecError
from archlab.hardware import Hardware, load_hardware
from archlab.ledger import Entry, ledger
from archlab.rows import Op
from archlab.spec import ModelSpec, Precision, Workload


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
    if work.train:
        raise SpecError("latency is for prefill and decode; a training step has no bound here yet")
    hardware, precision = load_hardware(hardware), load_precision(precision)
    peak, bandwidth = hardware.flops_per_s(precision.compute), hardware.bandwidth_bytes_per_s
    by_part: dict[str, Number] = {}
    compute: Number = 0
    memory: Number = 0
    for entry in ledger(spec, work).entries:
        for op in entry.rows.ops:
            arithmetic = op.flops(entry.sizes) * entry.count / peak
            traffic = op_bytes(entry, op, precision) * entry.count / bandwidth
            longer = maximum(arithmetic, traffic)
            compute = compute + where(arithmetic > traffic, longer, 0)
            memory = memory + where(arithmetic > traffic, 0, longer)
            if not (is_scalar(longer) and longer == 0):
                by_part[entry.part] = by_part.get(entry.part, 0) + longer
    return Latency(sum(by_part.values()), by_part, compute, memory)


def op_bytes(entry: Entry, op: Op, precision: Precision) -> Number:
    """Bytes of weights read and of state read and written by one run of an op."""
    weights = sum(n * precision.bits(w) for w, n in entry.read_weights(op))
    states = sum(
        n * precision.state_bits(s) for s, n in entry.touched_states((*op.line.states_read, *op.line.states_written))
    )
    return (weights + states) / 8
