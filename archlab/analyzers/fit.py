"""Does it fit, and how much more would: the longest context, the largest batch, and what would make it fit.

All of it asks `memory`, so that the longest context is its exact inverse: one token more does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from archlab.algebra import Number, is_placeholder, is_scalar, maximum, placeholder_in, where
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
from archlab.shown import Shown
from archlab.spec import ModelSpec
from archlab.workload import Workload

MOST_CONTEXT = 2**27
MOST_BATCH = 2**20
"""Where the search ends: a model whose memory does not grow fits any context."""


ASKED = 512
"""Candidates of a search that are asked at once."""

MOST_TRIED = 16
"""Ranks that are tried, of each sort."""

SAVERS: tuple[Mapping[str, Any], ...] = (
    {"checkpointing": "full"}, {"loss": "fused"}, {"checkpointing": "full", "loss": "fused"},
    {"optimizer": "adamw_8bit"}, {"lora_rank": 16},
)  # fmt: skip
"""Changes of a training that take less."""


@dataclass(frozen=True)
class Remedy:
    """One change that makes it fit."""

    kind: str  # precision | kv | engine | tp | pp | training | zero
    words: str
    needed: Number


@dataclass(frozen=True)
class Fit(Shown):
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
    if not isinstance(spec, ModelSpec):
        raise SpecError("fit takes a model (archlab.load)")
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
    follows = work.prefix is work.context or (is_scalar(work.context) and work.prefix == work.context)
    least = 1 if follows else maximum(1, work.prefix)
    if spec.vision is not None and spec.encoder is None and not spec.vision.counted:
        least = maximum(least, work.images * spec.vision.tokens)
    like = placeholder_in((spec.data, work, at.capacity, least))
    return largest(lambda n: _fits(spec, lambda: work.resized(work.batch, n), at), MOST_CONTEXT, least, like)


def max_batch(spec: ModelSpec, work: Workload, at: Setting) -> Number:
    """The most sequences of the workload's context that fit at once."""
    like = placeholder_in((spec.data, work, at.capacity))
    return largest(lambda n: _fits(spec, lambda: work.resized(n, work.context), at), MOST_BATCH, 1, like)


def largest(holds: Callable[[Number], Any], most: int, least: Number = 1, like: Number = None) -> Number:
    """The largest n from `least` to `most` that holds, where all smaller ones do, else 0; in each place of a column.

    Many candidates are asked at once, along an axis of their own: a column costs little more than a number. While
    formulas are written down (`like` is a placeholder) the search is, too.
    """
    if is_placeholder(like):
        from archlab.columns.traced import largest as written

        return written(holds, like.graph, least, most)
    import numpy

    low = numpy.asarray(where(holds(least), least, 0), dtype=numpy.float64)
    high = numpy.where(low > 0, float(most), 0.0)
    parts = max(2, ASKED // low.size)
    shares = numpy.arange(1, parts + 1).reshape(-1, *(1,) * low.ndim) / parts
    while (low < high).any():
        tried = numpy.maximum(low + numpy.ceil((high - low) * shares), least)
        good = numpy.broadcast_to(holds(tried), tried.shape).sum(axis=0, keepdims=True)
        last = numpy.take_along_axis(tried, numpy.maximum(good - 1, 0), axis=0)[0]
        after = numpy.take_along_axis(tried, numpy.minimum(good, parts - 1), axis=0)[0]
        low, high = numpy.where(good[0] > 0, last, low), numpy.where(good[0] < parts, after - 1, high)
    return low if low.ndim else int(low)


def _fits(spec: ModelSpec, work: Callable[[], Workload], at: Setting) -> Any:
    """Whether a workload fits; one that the engine refuses (beyond its max_model_len) does not."""
    try:
        asked = work()
        good = memory_in(spec, asked, at).fits
    except SpecError:
        return False
    for condition, _ in (*spec.work_rules(asked), *at.engine.rules(asked)):
        good = good & condition  # of a column, some
    return good


def _tokens_per_s(spec: ModelSpec, work: Workload, at: Setting) -> Number | None:
    if at.device is None or work.train or not spec.decodes:
        return None
    seconds = seconds_on(spec, work.decode(), at.device, at.precision, at.parallel)
    return None if seconds is None else work.batch * at.parallel.dp / seconds


def _remedies(spec: ModelSpec, work: Workload, at: Setting) -> Iterator[Remedy]:
    """Changes that make it fit, one at a time; of precisions and of ranks the first that does, the least loss first."""
    done: set[str] = set()
    for kind, words, change in (*_changes(spec, at), *_of_training(at)):
        if kind in done:
            continue
        try:
            found = memory_in(spec, work, change())
        except ArchlabError:
            continue  # this model cannot be split so, or that engine does not run it
        if found.fits:
            yield Remedy(kind, words, found.needed)
            done |= {kind} - {"training", "engine"}


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
    for way in ("tp", "pp"):
        for ways in range(getattr(at.parallel, way) + 1, MOST_TRIED + 1) if way in at.engine.splits else ():
            yield way, f"--{way} {ways}", partial(_changed, at, parallel=partial(replace, at.parallel, **{way: ways}))


def _of_training(at: Setting) -> Iterator[tuple[str, str, Callable[[], Setting]]]:
    if at.training is None:
        return
    for options in SAVERS:
        words = " ".join(f"--training-option {key}={value}" for key, value in options.items())
        yield "training", words, partial(_changed, at, training=partial(replace, at.training, **options))
    for dp in (2, 4, 8, 16):
        if dp > at.parallel.dp and "dp" in at.engine.splits:
            zero, ranks = partial(replace, at.training, zero=3), partial(replace, at.parallel, dp=dp)
            words = f"--training-option zero=3 --dp {dp}"
            yield "zero", words, partial(_changed, at, training=zero, parallel=ranks)


def _changed(at: Setting, **made: Callable[[], Any]) -> Setting:
    return replace(at, **{name: make() for name, make in made.items()})


def _smaller(spec: ModelSpec, at: Setting) -> list[Precision]:
    """Precisions of the engine that store the weights in fewer bytes, the largest first, with the cache as it is."""
    known = [with_kv(load_precision(name), at.precision.kv) for name in precision_names()]
    sizes = {p.name: weight_bytes(spec, p) for p in known if at.engine.name in p.engines}
    now = weight_bytes(spec, at.precision)
    able = [p for p in known if p.name in sizes and sizes[p.name] < now]
    return sorted(able, key=lambda p: -sizes[p.name])
