"""One phase of a built model, timed: warm up, sample as often as wanted, see what ran, say what was found.

A repetition starts from a cache of exactly `context` slots, filled with random values, at the position where the phase
begins (0, or context - 1), so that each repetition does the same arithmetic on the same memory. The fast decoder's pass
is recorded and replayed (a CUDA graph, or a TorchScript trace on a CPU); the reference's runs in Python. After the
samples one pass is profiled, and what was not to be timed makes the trial fail: see `ran`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from archlab.errors import ArchlabError
from archlab.measure import state as device_state
from archlab.measure.backends import Backend, backend_for
from archlab.measure.blank import sentence, untimed
from archlab.measure.checks import TOLERANCE
from archlab.measure.devices import release
from archlab.measure.ran import Ran, compiled, ran
from archlab.measure.records import Record
from archlab.measure.state import Facts
from archlab.measure.stats import summarize
from archlab.measure.timing import Sampler
from archlab.nn.cache import Cache, Whole
from archlab.nn.fast.replay import Replay
from archlab.nn.inputs import inputs_of
from archlab.workload import Workload

if TYPE_CHECKING:
    from archlab.measure.bench import Bench

P = ParamSpec("P")


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
    """One phase of one built model: warm_up, sample as often as wanted, finish, record.

    Its cache, token ids and recording are made at the first warm-up and live until `free`.
    """

    def __init__(self, bench: Bench, work: Workload) -> None:
        self.bench, self.work = bench, work
        self.problem = ""
        self.runs = "Python"
        self.cache: Cache | None = None
        self.inputs: dict[str, Tensor] = {}
        self.cache_bytes: int | None = None
        self.ran: Ran | None = None
        self.compiled = 0
        self.sampler = Sampler(self.step, bench.device)
        self._replay: Replay | None = None
        self._row: Tensor | None = None  # B V: the last row of logits, as the first repetition gave it
        self._carried: list[tuple[Tensor, Tensor]] = []  # what a recurrence carries on, and what it was at first
        self._before: Facts | None = None
        self._after: Facts | None = None
        self._span = [0.0, 0.0]  # from the first sample to the last, on the clock of time.perf_counter

    def step(self) -> Tensor:
        """One repetition: `new` tokens that end at `context`. Returns the logits."""
        return self.eager() if self._replay is None else self._replay()

    def eager(self) -> Tensor:
        """The same in Python, operation by operation."""
        self._rewind()
        return self.bench.model(**{"ids": None, **self.inputs}, cache=self.cache, logits=self.work.logits)

    def _rewind(self) -> None:
        if self.cache is not None:
            self.cache.position = self.work.context - self.work.new

    @_experiment
    def warm_up(self, seconds: float) -> None:
        """Allocates, records, repeats by the clock, and checks logits the first time: every repetition is the same."""
        if not self.inputs:
            self._prepare()
        self.sampler.warm_up(seconds, self._checked_step)

    def _restart(self) -> None:
        """Sets a recurrence back, which each repetition takes further: for comparisons, not for timings."""
        for buffer, first in self._carried:
            buffer.copy_(first)

    def _checked_step(self) -> None:
        self._restart()
        logits = self.step()
        if not torch.isfinite(logits).all():
            raise ArchlabError("logits are not finite, so the timing would not be of a working model")
        self._row = logits[:, -1].float().clone()

    @_experiment
    def sample(self, seconds: float, at_least: int = 1) -> None:
        """Adds samples for `seconds`, and `at_least` so many."""
        if not self.sampler.samples:
            self._before, self._span[0] = self.bench.watch.latest(), time.perf_counter()
        before = compiled()
        self.sampler.sample(seconds, at_least)
        self.compiled += compiled() - before
        self._span[1] = time.perf_counter()

    @_experiment
    def finish(self) -> None:
        """After the samples: profiles one pass, and fails where it is not what was to be timed."""
        if not self.sampler.samples or self.ran is not None:
            return
        self._after = self.bench.watch.latest()
        rows: list[Tensor] = []
        eager = lambda: rows.append(self.eager()[:, -1].float())  # noqa: E731
        self._restart()
        self.ran = ran(self.step, eager, self.bench.device)
        if self.compiled:
            raise ArchlabError(f"torch.compile compiled {self.compiled} functions while samples were taken")
        if self.bench.backend == "fast":
            if not rows:
                self._restart()
                eager()
            self._refuse_another(rows[-1])

    def _refuse_another(self, row: Tensor) -> None:
        """Raises ArchlabError unless what ran is the fast way, recorded, and gives the logits of the pass itself."""
        device = self.bench.device
        if device.type == "cuda" and self.runs != "CUDA graph":
            raise ArchlabError(f"no CUDA graph was captured: it ran as {self.runs}")
        why = self.ran.problem(self.bench.spec, device) if self.ran is not None else ""
        if why:
            raise ArchlabError(why)
        if self._row is not None:
            off, most = (row - self._row).abs().max().item(), TOLERANCE[self.bench.dtype] * row.abs().max().item()
            if off > most:
                raise ArchlabError(f"the {self.runs} gives logits that differ from the pass's by {off:.3g}")

    def record(self) -> Record:
        """What was measured, or what went wrong; frees the cache."""
        bench = self.bench
        backend = Backend("reference")
        if bench.backend == "fast":
            backend = backend_for(bench.spec, self.work)
        record = untimed(bench.spec, self.work, bench.device, bench.dtype, bench.seed, bench.rooflines, backend)
        if not self.problem and not self.sampler.samples:
            self.problem = "no sample was taken"
        self.free()
        if self.problem:
            return dataclasses.replace(record, status="failed", reason=self.problem)
        state = self.state()
        return dataclasses.replace(
            record,
            **dataclasses.asdict(summarize(self.sampler.samples, bench.seed)),
            samples=tuple(self.sampler.samples),
            repetitions=self.sampler.repetitions,
            warmup_s=self.sampler.warmup_s,
            cache_bytes=self.cache_bytes,
            state=state,
            warnings=tuple(self.warnings(state)),
            provenance={**record.provenance, "gpu_state": self._before if bench.device.type == "cuda" else None},
            **self.what_ran(),
        )

    def what_ran(self) -> dict[str, Any]:
        """The fields of a record that say so."""
        kernels = () if self.ran is None else tuple(self.ran.largest())
        attention = "" if self.ran is None else self.ran.attention
        return {"runs": self.runs, "attention": attention, "kernels": kernels, "compiled": self.compiled}

    def state(self) -> Facts:
        """Of the device: before, after, and the extremes while samples were taken."""
        return device_state.summary(self._before, self.bench.watch.during(*self._span), self._after)

    def warnings(self, state: Facts) -> list[str]:
        """What a reader of the numbers should know."""
        found = device_state.warnings(state)
        if self.bench.device.type == "cuda" and self.ran is not None and not self.ran.on_gpu:
            found.append("which kernels ran is not known: CUPTI is not there, and operators are named instead")
        return found

    def free(self) -> None:
        """Drops the cache and the recording."""
        self.cache, self.inputs, self._replay, self._row, self._carried = None, {}, None, None, []

    def _prepare(self) -> None:
        work, bench = self.work, self.bench
        generator = torch.Generator().manual_seed(bench.seed)
        self.inputs = inputs_of(bench.model, work, generator)
        if bench.spec.decodes:
            self.cache = bench.model.init_cache(work.batch, work.context, source=work.source)
            self.cache_bytes = int(self.cache.nbytes)
            fill_cache(self.cache, bench.seed)
            states = self.cache.states.values()
            self._carried = [(s.buffer, s.buffer.clone()) for s in states if isinstance(s, Whole)]
        if bench.backend == "fast":
            self._rewind()
            self._replay = Replay(bench.model, self.inputs, self.cache, work.logits)
            self.runs = self._replay.how


def fill_cache(cache: Cache, seed: int) -> None:
    """Normal random numbers in every slot, as QK-normed keys have: never zeros, never what was in memory before."""
    for index, state in enumerate(cache.states.values()):
        generator = torch.Generator(state.buffer.device).manual_seed(seed + index)
        state.buffer.normal_(generator=generator)
