"""A model built to be timed: random weights, on a device, fast or the reference, for as many workloads as are wanted.

At the values of a checkpoint the same kernels run, so random weights tell the time; the draw keeps activations near 1.
"""

from __future__ import annotations

from typing import Any

import torch

from archlab.measure.backends import backend_for, check_backend
from archlab.measure.blank import phase_of
from archlab.measure.capacity import refuse_unless_fits
from archlab.measure.devices import DTYPES, find_device, find_dtype, release
from archlab.measure.records import Record
from archlab.measure.rooflines import Rooflines
from archlab.measure.state import Watch
from archlab.measure.trial import Trial
from archlab.nn.build import build
from archlab.spec import ModelSpec
from archlab.workload import Workload

WARMUP_S = {"cpu": 0.3, "cuda": 1.0}
AT_LEAST = {"cpu": 5, "cuda": 30}
"""Samples without which a median says little."""


class Bench:
    """A model with random weights on a device: built once, timed on many workloads, freed when the `with` ends.

    backend   fast | reference
    watch     what reads the device's state; shared by models that take turns
    """

    def __init__(
        self,
        spec: ModelSpec,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        seed: int = 0,
        rooflines: Rooflines | None = None,
        backend: str = "fast",
        watch: Watch | None = None,
    ) -> None:
        self.spec, self.seed, self.rooflines = spec, seed, rooflines
        self.device = find_device(device)
        self.dtype = find_dtype(dtype, self.device)
        self.backend = check_backend(backend)
        self.watch = watch or Watch(self.device)
        refuse_unless_fits(spec, Workload(new=1), self.dtype, self.device)
        fast = self.backend == "fast"
        self.model: Any = build(spec, device=self.device, dtype=DTYPES[self.dtype], seed=seed, fast=fast)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.model = None
        release(self.device)

    def trial(self, work: Workload) -> Trial:
        """One phase, to be warmed up and sampled in turns with others. Raises ArchlabError where it would not fit, or
        would leave the fast way.
        """
        phase_of(work)
        backend_for(self.spec, work, self.backend)
        refuse_unless_fits(self.spec, work, self.dtype, self.device, built=True)
        return Trial(self, work)

    def run(self, work: Workload, seconds: float = 2.0) -> Record:
        """Times one phase for about `seconds`. Raises ArchlabError as `trial` does."""
        trial = self.trial(work)
        trial.warm_up(WARMUP_S[self.device.type])
        trial.sample(seconds, AT_LEAST[self.device.type])
        trial.finish()
        return trial.record()
