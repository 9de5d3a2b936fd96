"""Times a step: warm up by the clock, then sample until the time is up.

A CPU sample is one repetition. A GPU sample is the mean of a batch of at least 20 ms between two CUDA events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

Step = Callable[[], Any]

GPU_BATCH_S = 0.02
MOST_SAMPLES = 5_000


def cpu_seconds(step: Step, repetitions: int = 1) -> float:
    """Seconds of one step, averaged over the repetitions."""
    start = time.perf_counter_ns()
    for _ in range(repetitions):
        step()
    return (time.perf_counter_ns() - start) * 1e-9 / repetitions


def cuda_seconds(step: Step, repetitions: int = 1, stream: torch.cuda.Stream | None = None) -> float:
    """Seconds of one step between two events on a stream, averaged over the repetitions."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record(stream)
    for _ in range(repetitions):
        step()
    end.record(stream)
    end.synchronize()
    return start.elapsed_time(end) * 1e-3 / repetitions


class Sampler:
    """The timings of one step, taken in as many bursts as the caller likes: several samplers can take turns."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self.step = step
        self.samples: list[float] = []
        self.repetitions = 1
        self.warmup_s = 0.0
        self.spent_s = 0.0
        self._batch_s = 0.0
        self._clock: Callable[[Step, int], float] = cpu_seconds
        if device.type == "cuda":
            self._batch_s, self._clock = GPU_BATCH_S, partial(cuda_seconds, stream=torch.cuda.current_stream(device))

    @property
    def full(self) -> bool:
        """So many samples that more would only cost memory."""
        return len(self.samples) >= MOST_SAMPLES

    def warm_up(self, seconds: float, first: Step | None = None) -> None:
        """Repeats for `seconds`, at least once, and settles how many repetitions make a sample.

        `first` stands in for the step once: a step that also checks what it gives.
        """
        start = time.perf_counter()
        last = self._clock(first or self.step, 1)
        while time.perf_counter() - start < seconds:
            last = self._clock(self.step, 1)
        self.warmup_s += time.perf_counter() - start
        self.repetitions = max(1, math.ceil(self._batch_s / max(last, 1e-9)))

    def sample(self, seconds: float, at_least: int = 1) -> None:
        """Takes samples for `seconds`, and `at_least` so many."""
        start, taken = time.perf_counter(), 0
        while (taken < at_least or time.perf_counter() - start < seconds) and not self.full:
            self.samples.append(self._clock(self.step, self.repetitions))
            taken += 1
        self.spent_s += time.perf_counter() - start
