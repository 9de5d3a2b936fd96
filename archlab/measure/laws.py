"""Constants of the laws: those of single kernels from operations, those of a step from whole steps.

A configuration that is left out is left out of the second fit; the laws of kernels know no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from archlab.analyzers.kernels import AnyKernel, Attention, Linear, Vector
from archlab.calibration import Laws, LinearLaw, ProductLaw, StepLaw, SumLaw
from archlab.errors import ArchlabError
from archlab.measure.fitting import Array, positive, relative

MOST_FEW_ROWS = 64
"""Rows up to which a kernel of its own may be what runs a product."""
LEAST_POINTS = 4
"""Operations that a law is fitted to at least."""
TRUST = 0.01
"""How far factors are drawn to 1, and elementwise kernels to the law of operations, in squared relative errors."""
ALIKE = 0.05
"""How far two facts of operations may part and still be one to a fit; the earlier has it, bytes before operations."""
DIGITS = 4
"""Significant digits of a constant."""

Run = tuple[AnyKernel, float]
"""A kernel and its seconds by itself."""


@dataclass(frozen=True)
class Step:
    """A whole step that was measured, with the kernels that it is made of."""

    model: str
    config_hash: str
    phase: str
    batch: int
    context: int
    seconds: float
    kernels: tuple[AnyKernel, ...]


# ---------------------------------------------------------------- single kernels


def fit_kernels(runs: Sequence[Run]) -> Laws:
    """Laws of kernels by themselves. Raises ArchlabError for sorts of them that were not measured."""
    sorts: dict[str, list[Run]] = {"linear": [], "vector": [], "step": [], "causal": []}
    for kernel, seconds in runs:
        sorts.setdefault(_sort(kernel), []).append((kernel, seconds))
    for sort in ("linear", "vector", "step", "causal"):
        if len(sorts[sort]) < LEAST_POINTS:
            what = {"linear": "products", "vector": "elementwise kernels"}.get(sort, f"{sort} attentions")
            raise ArchlabError(f"{len(sorts[sort])} {what} were timed, and a law needs {LEAST_POINTS} at least")
    linear, vector = sorts.pop("linear"), sorts.pop("vector")
    return Laws(
        linear=fit_linear(linear),
        attention={sort: fit_sum(of) for sort, of in sorts.items() if len(of) >= LEAST_POINTS},
        vector=fit_sum(vector),
    )


def _sort(kernel: AnyKernel) -> str:
    """The law that a kernel goes by."""
    return f"{kernel.kinds[0]}{'_capped' * kernel.capped}" if isinstance(kernel, Attention) else kernel.kind


def fit_linear(runs: Sequence[Run]) -> LinearLaw:
    """Both laws, parted at the number of rows at which they come nearest to what was measured."""
    products = [(kernel, seconds) for kernel, seconds in runs if isinstance(kernel, Linear)]
    found: list[tuple[float, LinearLaw]] = []
    for most in sorted({kernel.m for kernel, _ in products if kernel.m <= MOST_FEW_ROWS}):
        few = [(kernel, seconds) for kernel, seconds in products if kernel.m <= most]
        many = [(kernel, seconds) for kernel, seconds in products if kernel.m > most]
        if min(len(few), len(many)) >= LEAST_POINTS:
            law = LinearLaw(few_rows=int(most), few=fit_sum(few), many=fit_product(many))
            found.append((_misfit(law, products), law))
    if not found:
        raise ArchlabError(
            f"of the {len(products)} products that were timed {LEAST_POINTS} at least must have few rows, up to "
            f"{MOST_FEW_ROWS}, and as many more"
        )
    return min(found, key=lambda pair: pair[0])[1]


def _misfit(law: LinearLaw, runs: Sequence[tuple[Linear, float]]) -> float:
    """Mean distance in logarithms: a far point counts once."""
    made = [law.seconds(k.batch, k.m, k.n, k.k, k.bytes) for k, _ in runs]
    return float(np.abs(np.log(made) - np.log([seconds for _, seconds in runs])).mean())


def fit_product(runs: Sequence[tuple[Linear, float]]) -> ProductLaw:
    """The law of products of many rows."""
    batch, m, n, k, nbytes = np.array([(o.batch, o.m, o.n, o.k, o.bytes) for o, _ in runs], dtype=np.float64).T
    seconds = np.array([s for _, s in runs])
    names = ("launch_s", "bandwidth_bytes_per_s", "flops_per_s", "half_rows", "half_inputs")
    rates = (nbytes / seconds).max(), (2 * batch * m * n * k / seconds).max()
    start = np.array([seconds.min() / 4, *rates, 16.0, 64.0])

    def law(constants: Array) -> Array:
        made = ProductLaw(**dict(zip(names, constants, strict=True)))
        return np.asarray(made.seconds(batch, m, n, k, nbytes))

    constants = positive(law, seconds, start)
    return ProductLaw(**{name: rounded(value) for name, value in zip(names, constants, strict=True)})


def fit_sum(runs: Sequence[Run]) -> SumLaw:
    """The law of kernels whose launch, bytes, operations and results add up."""
    features = np.array([summands(kernel) for kernel, _ in runs], dtype=np.float64)
    return sum_law(relative(_told_apart(features), np.array([seconds for _, seconds in runs])))


def _told_apart(features: Array) -> Array:
    """Without columns that are an earlier one times a number, nearly: of one row, FLOPs are the matrix's bytes."""
    kept = features.copy()
    for later in range(1, features.shape[1]):
        for earlier in range(later):
            ratio = features[:, later] / features[:, earlier]
            if ratio.max() <= (1 + ALIKE) * ratio.min():
                kept[:, later] = 0.0
    return kept


def summands(kernel: AnyKernel) -> tuple[float, ...]:
    """What a sum's constants multiply: a launch, bytes, operations, and results where there are some."""
    if isinstance(kernel, Vector):
        return 1.0, kernel.bytes, kernel.operations
    return 1.0, kernel.bytes, kernel.flops, kernel.results


def sum_law(constants: Iterable[float]) -> SumLaw:
    """The law of seconds a launch, a byte, an operation and a result."""
    launch, *slopes = (float(c) for c in constants)
    names = ("bandwidth_bytes_per_s", "operations_per_s", "results_per_s")
    rates = {name: rounded(1 / slope) if slope > 0 else None for name, slope in zip(names, slopes, strict=False)}
    return SumLaw(launch_s=rounded(launch), **rates)


def kernel_errors(laws: Laws, runs: Sequence[Run]) -> dict[str, float]:
    """Sort of kernel -> mean relative error of its law."""
    found: dict[str, list[float]] = {}
    for kernel, seconds in runs:
        found.setdefault(_sort(kernel), []).append(abs(kernel.alone(laws) / seconds - 1))
    return {sort: float(np.mean(errors)) for sort, errors in found.items()}


def rounded(x: float) -> float:
    """To as many digits as a constant has."""
    return float(f"{float(x):.{DIGITS}g}")


# ---------------------------------------------------------------- whole steps

Known = Mapping[str, float]
"""Exact shape -> seconds by itself; empty: the laws say them."""


def exact(steps: Iterable[Step], known: Known) -> list[Step]:
    """The steps of whose products and attention every exact shape is known."""
    return [step for step in steps if all(k.key is None or k.key in known for k in step.kernels)]


def left_out(laws: Laws, steps: Sequence[Step], known: Known) -> list[float]:
    """Seconds of each step by a fit to the steps of all other configurations."""
    found: dict[int, float] = {}
    for configuration in dict.fromkeys(step.config_hash for step in steps):
        others = fit_steps(laws, [step for step in steps if step.config_hash != configuration], known)
        for place, step in enumerate(steps):
            if step.config_hash == configuration:
                found[place] = seconds_of(step, others, known)
    return [found[place] for place in range(len(steps))]


def seconds_of(step: Step, laws: Laws, known: Known) -> float:
    """A step as the laws make it."""
    return float(sum(kernel.in_step(laws, known) * kernel.count for kernel in step.kernels) + laws.step.seconds)


def fit_steps(laws: Laws, steps: Sequence[Step], known: Known) -> Laws:
    """The laws with a step's factors and seconds, and with elementwise kernels as they run in one.

    The steps decide; what they do not tell stays as it is by itself.
    """
    features = np.array([_sums(step.kernels, laws, known) for step in steps], dtype=np.float64)
    alone = laws.vector
    slopes = [0.0 if rate is None else 1 / rate for rate in (alone.bandwidth_bytes_per_s, alone.operations_per_s)]
    prior = np.array([1.0, 1.0, 1.0, alone.launch_s, *slopes, 0.0])
    seconds = np.array([step.seconds for step in steps])
    x = relative(features, seconds, prior, np.where(prior > 0, TRUST, 0.0))
    linear, step_attention, attention, beside = (rounded(v) for v in (*x[:3], x[6]))
    factors = StepLaw(linear=linear, step_attention=step_attention, attention=attention, seconds=beside)
    return replace(laws, vector=sum_law(x[3:6]), step=factors)


def _sums(runs: Iterable[AnyKernel], laws: Laws, known: Known) -> list[float]:
    """What the constants of a step multiply.

    Seconds by themselves of products, of attention of one token and of many; launches, bytes and operations of
    elementwise kernels; and 1.
    """
    sums = np.zeros(7)
    for kernel in runs:
        if isinstance(kernel, Vector):
            sums[3:6] += np.array(summands(kernel)) * kernel.count
        else:
            place = 0 if isinstance(kernel, Linear) else 1 if kernel.new == 1 else 2
            sums[place] += (known[kernel.key] if known else kernel.alone(laws)) * kernel.count
    sums[6] = 1.0
    return sums.tolist()
