"""Hold a budget: give each point the width or the depth at which it costs what the base does: only shape differs.

What is held (parameters, FLOPs, cache, memory) grows with d_ff, n_layers and d_model, whatever the blocks are: the
multiple that comes nearest is searched for, on numbers, on columns and on placeholders alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archlab.algebra import Number, is_scalar, maximum, placeholder_in, where
from archlab.analyzers.fit import largest
from archlab.analyzers.flops import flops
from archlab.analyzers.kv_cache import cache_items
from archlab.analyzers.memory import Setting, memory_in
from archlab.analyzers.params import params
from archlab.assemble import resolve
from archlab.errors import ArchlabError, SpecError, nearest
from archlab.fields import MOST_LAYERS
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.workload import Workload

HELD = ("params", "flops", "kv_cache", "memory")
STEPS: Mapping[str, int] = {"mlp.d_ff": 64, "n_layers": 1, "d_model": 64}
"""What may be solved for, and the multiples that it is rounded to: tensor cores like 64."""

MOST = {"mlp.d_ff": 2**24, "n_layers": MOST_LAYERS, "d_model": 2**20}


@dataclass(frozen=True)
class Budget:
    """What is held, the base's amount of it, the key that is solved for, and the multiple to which it is rounded."""

    name: str
    metric: Callable[[ModelSpec], Number]
    target: Number
    multiple: int = 64
    by: str = "mlp.d_ff"

    @property
    def short(self) -> str:
        """The key's last word, the name of its column."""
        return self.by.rpartition(".")[2]

    @property
    def refusal(self) -> str:
        """Why a point without a value is refused."""
        least = f"{self.short} of {self.multiple} or more"
        return f"no {least} holds the base's {self.name}: the rest of the model alone is too much"


def budget(
    name: str,
    base: ModelSpec,
    work: Workload,
    multiple: int | None = None,
    by: str = "mlp.d_ff",
    at: Setting | None = None,
) -> Budget:
    """The base's own parameters, or its exact prefill FLOPs, cache or memory at a workload. Raises SpecError.

    by        mlp.d_ff | n_layers | d_model: the key that is solved for
    multiple  what it is rounded to: 64, of layers 1, where it is not given
    at        where memory is held, and whose cache; kv_cache and memory need it
    """
    metrics: dict[str, Callable[[ModelSpec], Number]] = {
        "params": lambda spec: params(spec).total,
        "flops": lambda spec: flops(spec, work).total,
        "kv_cache": lambda spec: _cache(spec, work, _place(at)),
        "memory": lambda spec: memory_in(spec, work, _place(at)).needed,
    }
    if by not in STEPS:
        raise SpecError(f"hold_by={by!r} must be one of {', '.join(STEPS)}{nearest(by, STEPS)}")
    step = STEPS[by] if multiple is None else multiple
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise SpecError(f"hold_multiple={multiple!r} must be a whole number of 1 or more")
    if name not in metrics:
        raise SpecError(f"hold={name!r} must be one of {', '.join(HELD)}{nearest(name, HELD)}")
    found = Budget(name, metrics[name], metrics[name](base), step, by)
    _check_grows(base, found)
    return found


def _cache(spec: ModelSpec, work: Workload, at: Setting) -> Number:
    return sum(item.bytes for item in cache_items(spec, work, at.precision, at.engine))


def _place(at: Setting | None) -> Setting:
    if at is None:
        raise SpecError("holding kv_cache or memory needs a precision, an engine and, for memory, hardware")
    return at


def _check_grows(base: ModelSpec, held: Budget) -> None:
    """Raises SpecError where the key does not change what is held: d_ff and the cache."""
    step = held.multiple
    one, two = (held.metric(_with(base, held.by, step * n)) for n in (1, 2))
    if not one < two:
        raise SpecError(f"hold={held.name} cannot be solved for {held.by}, which does not change it")


def hold_budget(spec: ModelSpec, held: Budget) -> tuple[ModelSpec, Any]:
    """(spec with the key solved, whether one of a multiple or more does it): the multiple nearest to the budget."""
    step = held.multiple

    def amount(n: Number) -> Number:
        return held.metric(_with(spec, held.by, step * n))

    like = placeholder_in((spec.data, held.target))
    below = largest(lambda n: amount(n) <= held.target, MOST[held.by] // step, 1, like)
    under = maximum(below, 1)
    near, far = amount(under), amount(under + 1)
    over = 2 * held.target >= near + far  # nearer to the next multiple
    fits = (below >= 1) | (3 * near - far <= 2 * held.target)  # the least is too much, by less than half a step
    n = where((below >= 1) & over, under + 1, under)
    if is_scalar(n):
        return _with(spec, held.by, int(n) * step), bool(fits)
    return _with(spec, held.by, n * step), fits


def _with(spec: ModelSpec, key: str, value: Number) -> ModelSpec:
    try:
        return resolve(override(dict(spec.data), {key: value}))
    except ArchlabError as problem:
        raise SpecError(f"hold cannot solve for {key}: {problem}") from None
