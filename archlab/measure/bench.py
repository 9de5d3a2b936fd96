"""Times the built module: one phase, prefill or one decode step, over and over on identical work.

A repetition starts from a cache of exactly `context` slots, filled with random values, its position set back to where
the phase begins (0, or context - 1), so that each repetition does the same arithmetic on the same memory. Weights are
random too: at the values of a checkpoint the same kernels run. The passes run eagerly, in inference mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch

from archlab.analyzers.latency import latency
from archlab.errors import ArchlabError, SpecError
from archlab.measure.capacity import refuse_unless_fits
from archlab.measure.devices import DTYPES, device_name, find_device, find_dtype, release
from archlab.measure.provenance import config_hash, gpu_state, provenance
from archlab.measure.records import Record
from archlab.measure.rooflines import Rooflines, measure_again, measure_rooflines
from archlab.measure.stats import summarize
from archlab.measure.timing import Sampler
from archlab.nn.build import build
from archlab.nn.cache import Cache
from archlab.nn.inputs import inputs_of
from archlab.spec import ModelSpec, Workload

BACKEND = "eager"
WARMUP_S = {"cpu": 0.3, "cuda": 1.0}
AT_LEAST = {"cpu": 5, "cuda": 20}
"""Samples without which a median says little."""

P = ParamSpec("P")


def run(
    spec: ModelSpec,
    work: Workload,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    rooflines: Rooflines | None = None,
) -> Record:
    """Builds the model and times one phase for about `seconds`: prefill (work.new == work.context) or decode (new 1).

    The device is the GPU if there is one, the format bf16 there and fp32 on a CPU, unless told. The device's rates are
    measured first and last (about 2 s each) unless given. Raises ArchlabError for another kind of workload and for
    what would not fit in memory; what runs out of memory all the same is a record with status "failed".
    """
    return run_all(spec, [work], device, dtype, seconds, seed, rooflines)[0]


def run_all(
    spec: ModelSpec,
    works: Sequence[Workload],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    rooflines: Rooflines | None = None,
) -> list[Record]:
    """As `run`, several workloads on one built model, `seconds` each."""
    where = find_device(device)
    kind = find_dtype(dtype, where)
    for work in works:
        phase_of(work)
        refuse_unless_fits(spec, work, kind, where)
    rates = rooflines or measure_rooflines(where, kind)
    try:
        bench = Bench(spec, where, kind, seed, rates)
    except (MemoryError, torch.OutOfMemoryError) as problem:
        reason = sentence(problem)
        return [untimed(spec, work, where, kind, seed, rates, "failed", reason) for work in works]
    with bench:
        trials = [bench.timed(work, seconds) for work in works]
        if rooflines is None:
            bench.rooflines = measure_again(rates, where)
        return [trial.record() for trial in trials]


class Bench:
    """A model with random weights on a device: built once, timed on many workloads, freed when the `with` ends."""

    def __init__(
        self,
        spec: ModelSpec,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        seed: int = 0,
        rooflines: Rooflines | None = None,
    ) -> None:
        self.spec, self.seed, self.rooflines = spec, seed, rooflines
        self.device = find_device(device)
        self.dtype = find_dtype(dtype, self.device)
        refuse_unless_fits(spec, Workload(new=1), self.dtype, self.device)
        self.model: Any = build(spec, device=self.device, dtype=DTYPES[self.dtype], seed=seed)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.model = None
        release(self.device)

    def trial(self, work: Workload) -> Trial:
        """One phase, to be warmed up and sampled in turns with others. Raises ArchlabError where it would not fit."""
        phase_of(work)
        refuse_unless_fits(self.spec, work, self.dtype, self.device, built=True)
        return Trial(self, work)

    def run(self, work: Workload, seconds: float = 2.0) -> Record:
        """Times one phase for about `seconds`. Raises ArchlabError as `trial` does."""
        return self.timed(work, seconds).record()

    def timed(self, work: Workload, seconds: float) -> Trial:
        """A trial that has been warmed up and sampled, its cache freed."""
        trial = self.trial(work)
        trial.warm_up(WARMUP_S[self.device.type])
        trial.sample(seconds, AT_LEAST[self.device.type])
        trial.free()
        return trial


def _experiment(method: Callable[Concatenate[Trial, P], None]) -> Callable[Concatenate[Trial, P], None]:
    """In inference mode; what breaks becomes the trial's result, and a broken trial does nothing more."""

    @wraps(method)
    def guarded(self: Trial, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.problem:
            return
        try:
            with torch.inference_mode():
                method(self, *args, **kwargs)
        except Exception as problem:
            self.problem = sentence(problem)
        if self.problem:
            self.free()
            release(self.bench.device)

    return guarded


class Trial:
    """One phase of one built model. Its cache and token ids are made at the first warm-up and live until `free`."""

    def __init__(self, bench: Bench, work: Workload) -> None:
        self.bench, self.work = bench, work
        self.problem = ""
        self.cache: Cache | None = None
        self.inputs: dict[str, torch.Tensor] = {}
        self.cache_bytes: int | None = None
        self.gpu_state: dict[str, str] | None = None
        self.sampler = Sampler(self.step, bench.device)

    def step(self) -> torch.Tensor:
        """One repetition: `new` tokens that end at `context`. Returns the logits."""
        if self.cache is not None:
            self.cache.position = self.work.context - self.work.new
        return self.bench.model(**{"ids": None, **self.inputs}, cache=self.cache, logits=self.work.logits)

    @_experiment
    def warm_up(self, seconds: float) -> None:
        """Allocates, repeats by the clock, and checks logits the first time: every repetition is the same."""
        if not self.inputs:
            self._prepare()
        self.sampler.warm_up(seconds, self._checked_step)
        self.gpu_state = gpu_state(self.bench.device)

    def _checked_step(self) -> None:
        if not torch.isfinite(self.step()).all():
            raise ArchlabError("logits are not finite, so the timing would not be of a working model")

    @_experiment
    def sample(self, seconds: float, at_least: int = 1) -> None:
        """Adds samples for `seconds`, and `at_least` so many."""
        self.sampler.sample(seconds, at_least)

    def record(self) -> Record:
        """What was measured, or what went wrong; frees the cache."""
        bench = self.bench
        record = untimed(bench.spec, self.work, bench.device, bench.dtype, bench.seed, bench.rooflines)
        if not self.problem and not self.sampler.samples:
            self.problem = "no sample was taken"
        self.free()
        if self.problem:
            return dataclasses.replace(record, status="failed", reason=self.problem)
        record = dataclasses.replace(record, provenance={**record.provenance, "gpu_state": self.gpu_state})
        return dataclasses.replace(
            record,
            **dataclasses.asdict(summarize(self.sampler.samples, bench.seed)),
            samples=tuple(self.sampler.samples),
            repetitions=self.sampler.repetitions,
            warmup_s=self.sampler.warmup_s,
            cache_bytes=self.cache_bytes,
        )

    def free(self) -> None:
        """Drops the cache."""
        self.cache, self.inputs = None, {}

    def _prepare(self) -> None:
        work, bench = self.work, self.bench
        generator = torch.Generator().manual_seed(bench.seed)
        self.inputs = inputs_of(bench.model, work, generator)
        if bench.spec.decodes:
            self.cache = bench.model.init_cache(work.batch, work.context, source=work.source)
            self.cache_bytes = int(self.cache.nbytes)
            fill_cache(self.cache, bench.seed)


def fill_cache(cache: Cache, seed: int) -> None:
    """Normal random numbers in every slot, as QK-normed keys have: never zeros, never what was in memory before."""
    for index, state in enumerate(cache.states.values()):
        generator = torch.Generator(state.buffer.device).manual_seed(seed + index)
        state.buffer.normal_(generator=generator)


def phase_of(work: Workload) -> str:
    """prefill | decode. Raises SpecError for a workload that is neither, or that has a backward pass."""
    if work.train:
        raise SpecError("train=True cannot be timed yet; measure times prefill and decode")
    if work.new == work.context:
        return "prefill"
    if work.new == 1:
        return "decode"
    raise SpecError(f"new={work.new} must be 1 (a decode step) or context={work.context} (a prefill) to be timed")


def untimed(
    spec: ModelSpec,
    work: Workload,
    device: torch.device,
    dtype: str,
    seed: int,
    rooflines: Rooflines | None = None,
    status: str = "ok",
    reason: str = "",
) -> Record:
    """A record of everything but the times: what would be measured, where, and the bound if the rates are known."""
    limit = latency(spec, work, rooflines.hardware(), dtype) if rooflines else None
    return Record(
        model=spec.name,
        config_hash=config_hash(spec),
        phase=phase_of(work),
        batch=work.batch,
        new=work.new,
        context=work.context,
        logits=work.logits,
        device=device_name(device),
        dtype=dtype,
        seed=seed,
        backend=BACKEND,
        status=status,
        reason=reason,
        bound_s=limit.seconds if limit else None,
        bound=limit.bound if limit else None,
        rooflines=rooflines.rates() if rooflines else None,
        provenance=provenance(device),
    )


def sentence(problem: BaseException) -> str:
    """The first line of what went wrong, with its kind where that is not archlab's own."""
    line = (str(problem).splitlines() or [""])[0]
    return line if isinstance(problem, ArchlabError) else f"{type(problem).__name__}: {line}"
