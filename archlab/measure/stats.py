"""What is said about a list of timings: the median and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

RESAMPLES = 1000

Samples = NDArray[numpy.float64]


@dataclass(frozen=True)
class Summary:
    """Seconds, but for n and drift. `ci_*` is a bootstrap 95 % interval of the median.

    The bootstrap takes samples for independent; a machine that others share has slow swings that it does not see.
    `drift` does: the second half's median over the first half's, less 1.
    """

    median_s: float
    p5_s: float
    p95_s: float
    ci_low_s: float
    ci_high_s: float
    n: int
    drift: float


def summarize(samples: Sequence[float], seed: int = 0) -> Summary:
    """Summary of at least one sample. The seed makes the interval repeatable."""
    values = numpy.asarray(samples, dtype=numpy.float64)
    p5, median, p95 = (float(q) for q in numpy.percentile(values, (5, 50, 95)))
    low, high = bootstrap_median(values, seed)
    return Summary(median, p5, p95, low, high, len(values), drift(values))


def bootstrap_median(values: Sequence[float] | Samples, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the median, from resamples with replacement."""
    return middle(next(resampled([values], seed)))


def resampled(sets: Iterable[Sequence[float] | Samples], seed: int = 0) -> Iterator[Samples]:
    """Of each set of samples the medians of resamples with replacement, each set by itself: what is computed of them
    has the noise of all.
    """
    generator = numpy.random.default_rng(seed)
    for samples in sets:
        values = numpy.asarray(samples, dtype=numpy.float64)
        yield numpy.median(generator.choice(values, (RESAMPLES, len(values))), axis=1)


def middle(values: Samples) -> tuple[float, float]:
    """The ends of the middle 95 %."""
    low, high = numpy.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def drift(values: Samples) -> float:
    """Median of the second half over that of the first, less 1: 0.02 is a machine that became 2 % slower."""
    half = len(values) // 2
    return float(numpy.median(values[half:]) / numpy.median(values[:half]) - 1) if half else 0.0
