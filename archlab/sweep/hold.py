"""Hold a budget: give each point the d_ff at which it has the base's parameters (or FLOPs), so that only shape differs.

Parameters and FLOPs are affine in d_ff, whatever the blocks are: two evaluations give the line, on columns too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from archlab.algebra import Number, is_scalar
from archlab.analyzers.flops import flops
from archlab.analyzers.params import params
from archlab.assemble import resolve
from archlab.errors import SpecError, nearest
from archlab.schema import override
from archlab.spec import ModelSpec, Workload

HELD = ("params", "flops")


@dataclass(frozen=True)
class Budget:
    """What is held, the base's amount of it, and the multiple to which d_ff is rounded."""

    name: str
    metric: Callable[[ModelSpec], Number]
    target: Number
    multiple: int = 64

    @property
    def refusal(self) -> str:
        """Why a point without a d_ff is refused."""
        return (
            f"no d_ff of {self.multiple} or more holds the base's {self.name}: the rest of the model alone is too much"
        )


def budget(name: str, base: ModelSpec, work: Workload, multiple: int = 64) -> Budget:
    """The base's own parameters, or its exact prefill FLOPs of a workload. Raises SpecError."""
    metrics: dict[str, Callable[[ModelSpec], Number]] = {
        "params": lambda spec: params(spec).total,
        "flops": lambda spec: flops(spec, work).total,
    }
    if not isinstance(multiple, int) or isinstance(multiple, bool) or multiple < 1:
        raise SpecError(f"hold_multiple={multiple!r} must be a whole number of 1 or more")
    if name not in metrics:
        raise SpecError(f"hold={name!r} must be one of {', '.join(HELD)}{nearest(name, HELD)}")
    return Budget(name, metrics[name], metrics[name](base), multiple)


def hold_budget(spec: ModelSpec, held: Budget) -> tuple[ModelSpec, Any]:
    """(spec with d_ff solved, whether a d_ff of one multiple or more does it); within half a multiple of the budget."""
    step = held.multiple
    one, two = (held.metric(_with_d_ff(spec, step * n)) for n in (1, 2))
    exact = step + (held.target - one) / (two - one) * step
    rounded = np.round(np.asarray(exact, dtype=float) / step) * step
    fits = rounded >= step
    d_ff: Any = np.maximum(rounded, step)
    if is_scalar(exact):
        return _with_d_ff(spec, int(d_ff)), bool(fits)
    return _with_d_ff(spec, d_ff), fits


def _with_d_ff(spec: ModelSpec, d_ff: Number) -> ModelSpec:
    return resolve(override(dict(spec.data), {"mlp.d_ff": d_ff}))
