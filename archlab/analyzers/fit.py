"""Does it fit, and how much more would: the longest context, the largest batch, and what would make it fit.

All of it asks `memory`, so that the longest context is its exact inverse: one token more does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from archlab.algebra import Number, floor_div, is_scalar, where
from archlab.analyzers.latency import seconds_on
from archlab.analyzers.memory import Memory, Setting, memory_in, setting
from archlab.analyzers.params import weight_bytes
from archlab.analyzers.training import Training
from archlab.config import Serving
from archlab.engines.base import Engine
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import Hardware
from archlab.parallel import Parallel
from archlab.precision import Precision, load_precision, precision_names, with_kv
from archlab.spec import ModelSpec, Workload

MOST_CONTEXT = 2**27
MOST_BATCH = 2**20
"""Where the search ends: a model whose memory does not grow fits any context."""


@dataclass(frozen=True)
class Remedy:
    """One change that makes it fit."""

    kind: str  # precision | kv | parallel | engine | context | batch
    words: str
    needed: Number


@dataclass(frozen=True)
class Fit:
    """The answer for `batch` sequences of `context` tokens.

    max_context      tokens at this batch, by memory alone; MOST_CONTEXT where nothing grows; 0 where none fits
    trained_context  what the model was trained for
    max_batch        sequences at this context: the concurrency
    tokens_per_s     of all sequences, while decoding at this context: a bound from above; None without a rate
    """

    memory: Memory
    context: Number
    batch: Number
    max_context: Number
    max_batch: Number
    trained_context: Number
    tokens_per_s: Number | None
    remedies: tuple[Remedy, ...]

    @property
    def verdict(self) -> str:
        """fits | tight (less than 5 % left) | no. For scalars."""
        return self.memory.verdict

    @property
    def fits(self) -> Any:
        """Whether it fits, tight or not."""
        return self.memory.fits


def fit(
    spec: ModelSpec,
    hardware: str | Hardware | None = None,
    precision: str | Precision = "bf16",
    batch: Number = 1,
    context: Number | None = None,
    engine: str | Engine = "ideal",
    parallel: Parallel | Mapping[str, Any] | None = None,
    training: Training | Mapping[str, Any] | None = None,
    kv: str | None = None,
    capacity: Number | None = None,
    **options: Any,
) -> Fit:
    """Whether `batch` sequences of `context` tokens (8192, or the trained context if that is less) can be served.

    With `training`, whether a step on them can be trained. The other arguments are those of `memory`.
    Raises ArchlabError.
    """
    at = setting(hardware, precision, engine, parallel, training, kv, capacity, options)
    if at.capacity is None:
        raise SpecError("fit needs hardware, or capacity in bytes")
    context = minimum_context(spec) if context is None else context
    return fit_in(spec, workload(spec, batch, context, train=at.training is not None), at)


def minimum_context(spec: ModelSpec) -> Number:
    """8192 tokens, or the trained context where that is less."""
    return min(8192, spec.context) if is_scalar(spec.context) else 8192


def workload(spec: ModelSpec, batch: Number, context: Number, train: bool = False) -> Workload:
    """So many sequences as servers see them: the last token's logits, a source as long where there is one.

    With `train`, the step that trains on them, with all logits.
    """
    served = Serving(name="fit", batch=1, context=1).work_for(spec).resized(batch, context)
    return replace(served, train=True, logits="all") if train else served


def fit_in(spec: ModelSpec, work: Workload, at: Setting, remedies: bool = True) -> Fit:
    """The answer in a setting. Raises SpecError."""
    found = memory_in(spec, work, at)
    return Fit(
        found,
        work.context,
        work.batch,
        max_context(spec, work, at),
        max_batch(spec, work, at),
        spec.context,
        _tokens_per_s(spec, work, at),
        tuple(_remedies(spec, work, at)) if remedies and found.fits is False else (),
    )


def max_context(spec: ModelSpec, work: Workload, at: Setting) -> Number:
    """The most tokens that each of the workload's sequences can have: exactly, one more does not fit."""
    return largest(lambda n: _fits(spec, lambda: work.resized(work.batch, n), at), MOST_CONTEXT)


def max_batch(spec: ModelSpec, work: Workload, at: Setting) -> Number:
    """The most sequences of the workload's context that fit at once."""
    return largest(lambda n: _fits(spec, lambda: work.resized(n, work.context), at), MOST_BATCH)


def largest(holds: Callable[[Number], Any], most: int) -> Number:
    """The largest n from 0 to `most` that holds, where all smaller ones do; element by element on columns."""
    low: Number = 0
    high: Number = most
    while _apart(low, high):
        middle = floor_div(low + high + 1, 2)
        good = holds(middle)
        low, high = where(good, middle, low), where(good, high, middle - 1)
    return low


def _apart(low: Number, high: Number) -> bool:
    return bool(low < high) if is_scalar(low) and is_scalar(high) else bool((low < high).any())


def _fits(spec: ModelSpec, work: Callable[[], Workload], at: Setting) -> Any:
    """Whether a workload fits; one that the engine refuses (beyond its max_model_len) does not."""
    try:
        return memory_in(spec, work(), at).fits
    except SpecError:
        return False


def _tokens_per_s(spec: ModelSpec, work: Workload, at: Setting) -> Number | None:
    if at.device is None or work.train or not spec.decodes:
        return None
    seconds = seconds_on(spec, work.decode(), at.device, at.precision, at.parallel)
    return None if seconds is None else work.batch * at.parallel.dp / seconds


def _remedies(spec: ModelSpec, work: Workload, at: Setting) -> Iterator[Remedy]:
    """Changes that make it fit, one at a time; of precisions and of ranks the first that does, the least loss first."""
    done: set[str] = set()
    for kind, words, change in _changes(spec, at):
        if kind in done:
            continue
        try:
            found = memory_in(spec, work, change())
        except ArchlabError:
            continue  # this model cannot be split so, or that engine does not run it
        if found.fits:
            yield Remedy(kind, words, found.needed)
            done |= {kind}


def _changes(spec: ModelSpec, at: Setting) -> Iterator[tuple[str, str, Callable[[], Setting]]]:
    """(kind, words, the changed setting), in the order in which they are tried."""
    for name in at.engine.kv_formats:
        if name != at.precision.kv:
            yield "kv", f"--kv {name}", partial(_changed, at, precision=partial(with_kv, at.precision, name))
    for options in at.engine.savers:
        words = " ".join(f"--engine-option {key}={value}" for key, value in options.items())
        yield "engine", words, partial(_changed, at, engine=partial(replace, at.engine, **options))
    for precision in _smaller(spec, at):
        yield "precision", f"--precision {precision.name}", partial(replace, at, precision=precision)
    for tp in (2, 4, 8, 16):
        if tp > at.parallel.tp:
            yield "parallel", f"--tp {tp}", partial(_changed, at, parallel=partial(replace, at.parallel, tp=tp))


def _changed(at: Setting, **made: Callable[[], Any]) -> Setting:
    return replace(at, **{name: make() for name, make in made.items()})


def _smaller(spec: ModelSpec, at: Setting) -> list[Precision]:
    """Precisions of the engine that store the weights in fewer bytes, the largest first, with the cache as it is."""
    known = [with_kv(load_precision(name), at.precision.kv) for name in precision_names()]
    sizes = {p.name: weight_bytes(spec, p) for p in known if at.engine.name in p.engines}
    now = weight_bytes(spec, at.precision)
    able = [p for p in known if p.name in sizes and sizes[p.name] < now]
    return sorted(able, key=lambda p: -sizes[p.name])
