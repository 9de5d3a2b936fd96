"""How many FLOPs: 2 a multiply-add, matrix products only; elementwise operations in a column of their own.

`.total` counts the (token, key) pairs that masks keep. `.dense` is what a tracer of the built module sees: T x U.
Training adds the backward pass: each operand that needs a gradient costs the product once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from archlab.algebra import Number
from archlab.ledger import Entry, ledger
from archlab.rows import DATA, Op
from archlab.shown import Shown
from archlab.spec import ModelSpec
from archlab.workload import Workload


@dataclass(frozen=True)
class Flops(Shown):
    """FLOPs of one workload; `by_part` splits `.total`, `vector` counts elementwise operations of the forward pass."""

    total: Number
    dense: Number
    vector: Number
    by_part: dict[str, Number]


def flops(spec: ModelSpec, work: Workload) -> Flops:
    """Counts FLOPs of T new tokens ending at context S, of all sequences of the batch; with work.train of a whole step.

    Exact ints for a plain spec: 2 a multiply-add, as in Kaplan et al., arXiv:2001.08361. A backward pass costs each
    product once more for every operand whose gradient is wanted; recomputation is not counted.
    Raises SpecError for a workload that the model cannot be given.
    """
    total: Number = 0
    dense: Number = 0
    elementwise: Number = 0
    by_part: dict[str, Number] = {}
    for entry in ledger(spec, work).entries:
        for op in entry.rows.ops:
            elementwise = elementwise + op.vector(entry.sizes) * entry.count
            if op.kind != "matmul":
                continue
            times = entry.count * _passes(entry, op, work.train)
            exact = op.flops(entry.sizes) * times
            total = total + exact
            dense = dense + op.flops(entry.sizes, dense=True) * times
            by_part[entry.part] = by_part.get(entry.part, 0) + exact
    return Flops(total, dense, elementwise, by_part)


def _passes(entry: Entry, op: Op, train: bool) -> int:
    """1 forward, and 1 more for each operand whose gradient is wanted."""
    if not train:
        return 1
    frozen = sum(not entry.rows.weights[o.name].trainable for o in op.line.weights)
    data = sum(o.name in DATA for o in op.line.inputs)
    return 1 + len(op.line.inputs) - frozen - data
