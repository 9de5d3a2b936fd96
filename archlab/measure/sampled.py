"""A model's time from models of fewer layers: the head and k periods of the layer pattern, the head and 2k.

    t = t(n1) + (n - n1) / (n2 - n1) * (t(n2) - t(n1)),   n1 = kP + r layers, n2 = 2kP + r, r = n mod P

The difference is the time of kP more layers among others like them, with weights of their own: launches, the embedding
and the head are in both and fall out. What falls short of that is a model whose layers stay in the last cache, so k is
the least for which kP layers are four times as large; and layers that run slower the more there are. The second is
tested: a deeper model, the whole one where it fits, is timed in the same turns, and the residual of what the two
predict for it decides whether the result may be called measured: 3 % at most, and told from noise.

After Vidur, which multiplies one block's time by the number of layers; on a CPU that was up to 52 % off, and the slope
between two depths within 1 % (research/performance.md, 2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import numpy
import torch

from archlab.errors import SpecError
from archlab.measure.capacity import last_cache_bytes, need
from archlab.measure.periods import period_of, with_layers
from archlab.measure.records import Record, distinct
from archlab.measure.stats import drift, middle, resampled
from archlab.spec import ModelSpec
from archlab.workload import Workload

TIMES_CACHE = 4
"""Times the last cache that the layers between the two models take."""
CLOSE = 0.03
"""Largest residual with which a composed time is called measured."""
TOLD = 0.05
"""Largest half of the residual's 95 % interval with which it says anything: beyond, noise alone may have made it."""


@dataclass(frozen=True)
class Plan:
    """Which models stand for `whole`: `periods` periods of `period` layers and the rest, and twice as many."""

    whole: ModelSpec
    period: int
    periods: int = 1

    @property
    def step(self) -> int:
        """Layers that one has more than the other."""
        return self.periods * self.period

    @property
    def rest(self) -> int:
        """Layers left over by the pattern: in both."""
        return self.whole.n_layers % self.period

    @property
    def layers(self) -> tuple[int, int]:
        """Layers of the two."""
        return self.step + self.rest, 2 * self.step + self.rest

    @cached_property
    def specs(self) -> tuple[ModelSpec, ModelSpec]:
        """The two."""
        short, long = self.layers
        return self.at(short), self.at(long)

    def at(self, layers: int) -> ModelSpec:
        """The model with so many layers."""
        return self.whole if layers == self.whole.n_layers else with_layers(self.whole, layers)

    def depths(self) -> Iterator[int]:
        """Layers of models that the two can be verified on: the whole, then fewer and fewer periods, three at least."""
        yield self.whole.n_layers
        deepest = (self.whole.n_layers - self.rest) // self.step
        for count in range(deepest, 2, -1):
            layers = count * self.step + self.rest
            if layers < self.whole.n_layers:
                yield layers

    def weights(self, layers: int) -> tuple[float, float]:
        """What the times of the two are multiplied by, to be added up to that of so many layers."""
        factor = (layers - self.layers[0]) / self.step
        return 1 - factor, factor

    def predict(self, layers: int, short_s: Any, long_s: Any) -> Any:
        """Seconds of so many layers, from the two; of numbers or of columns."""
        of_short, of_long = self.weights(layers)
        return of_short * short_s + of_long * long_s

    @property
    def words(self) -> str:
        """'head + 1 and 2 periods of 6 layers'."""
        times = f"{self.periods} and {2 * self.periods} periods of {count_layers(self.period)}"
        return f"head + {times}" + (f", and the {count_layers(self.rest)} left over" if self.rest else "")


def count_layers(n: int) -> str:
    """'1 layer', '6 layers'."""
    return f"{n} layer" if n == 1 else f"{n} layers"


def plan_for(
    spec: ModelSpec, works: Sequence[Workload], dtype: str, device: torch.device, cache_bytes: int | None = None
) -> Plan:
    """How a model is sampled. Raises SpecError where it has no period, or would not be cheaper for it.

    cache_bytes   the last cache, if not as the device says; 0 is for trying out what tiny models cannot show
    """
    one = Plan(spec, period_of(spec))
    if one.layers[1] >= spec.n_layers:
        raise SpecError(
            f"{spec.name} has {count_layers(spec.n_layers)}, too few to time 2 periods of {one.period} instead"
        )
    least = TIMES_CACHE * (last_cache_bytes(device) if cache_bytes is None else cache_bytes)
    size = min(_period_bytes(one, work, dtype, device) for work in works)
    plan = dataclasses.replace(one, periods=max(1, ceil(least / size)))
    if plan.layers[1] >= spec.n_layers:
        raise SpecError(
            f"{spec.name} has {count_layers(spec.n_layers)}, too few to sample: {plan.step} would have to differ "
            f"between two models, to be {TIMES_CACHE} times the last cache"
        )
    return plan


def _period_bytes(one: Plan, work: Workload, dtype: str, device: torch.device) -> int:
    """Weights and cache of one period of layers."""
    short, long = (need(spec, work, dtype, device) for spec in one.specs)
    return long.weights + long.cache - short.weights - short.cache


# ---------------------------------------------------------------- what the two give


def compose(plan: Plan, whole: Record, short: Record, long: Record) -> Record:
    """`whole`, a record without times, with those that the records of the two models give."""
    broken = next((r for r in (short, long) if r.status != "ok"), None)
    if broken is not None:
        return dataclasses.replace(whole, status=broken.status, reason=f"at fewer layers: {broken.reason}")
    layers = whole_layers(plan)
    sets = short.samples, long.samples
    low, high = middle(plan.predict(layers, *resampled(sets, whole.seed)))
    drifts = [drift(numpy.asarray(samples)) for samples in sets]
    return dataclasses.replace(
        whole,
        source="extrapolated",
        sampled=plan.words,
        median_s=plan.predict(layers, _median(short), _median(long)),
        ci_low_s=max(low, 0.0),
        ci_high_s=high,
        n=min(short.n, long.n),
        drift=max(drifts, key=abs),
        warmup_s=(short.warmup_s or 0) + (long.warmup_s or 0),
        repetitions=long.repetitions,
        cache_bytes=_cache_bytes(plan, short, long),
        parts=(part(plan.layers[0], short), part(plan.layers[1], long)),
        runs=long.runs,
        attention=long.attention,
        kernels=long.kernels,
        compiled=short.compiled + long.compiled,
        state=long.state,
        warnings=distinct((*short.warnings, *long.warnings)),
        provenance=long.provenance,
    )


def whole_layers(plan: Plan) -> int:
    """Layers of the whole model, as a plain number."""
    return int(plan.whole.n_layers)


def part(layers: int, record: Record) -> dict[str, object]:
    """What a composed record keeps of a model that was timed for it."""
    names = ("median_s", "p5_s", "p95_s", "n", "repetitions", "drift", "samples")
    return {"layers": layers, **{name: getattr(record, name) for name in names}}


def _median(record: Record) -> float:
    assert record.median_s is not None
    return record.median_s


def _cache_bytes(plan: Plan, short: Record, long: Record) -> int | None:
    """Bytes of the whole model's cache: it has as much for each period."""
    if short.cache_bytes is None or long.cache_bytes is None:
        return None
    left = whole_layers(plan) - plan.layers[0]
    return short.cache_bytes + left * (long.cache_bytes - short.cache_bytes) // plan.step


@dataclass(frozen=True)
class Verified:
    """What the two predict of a deeper model over what was measured, less 1; its 95 % interval; which model it was."""

    residual: float
    low: float
    high: float
    on: str

    @property
    def shown(self) -> bool:
        """Whether it is small, and told from noise."""
        return abs(self.residual) <= CLOSE and self.high - self.low <= 2 * TOLD

    def of(self, record: Record) -> Record:
        """The record, called measured where that is shown."""
        return dataclasses.replace(
            record,
            source="measured" if self.shown else "extrapolated",
            residual=self.residual,
            residual_low=self.low,
            residual_high=self.high,
            verified_on=self.on,
        )


def verify(plan: Plan, layers: int, short: Record, long: Record, deep: Record, on: str) -> Verified:
    """The residual on a model of so many layers."""
    found = plan.predict(layers, _median(short), _median(long)) / _median(deep) - 1
    shorts, longs, deeps = resampled((short.samples, long.samples, deep.samples), deep.seed)
    return Verified(found, *middle(plan.predict(layers, shorts, longs) / deeps - 1), on)
