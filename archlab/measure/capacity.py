"""Whether a model and a workload fit the memory that is left: asked before anything is allocated.

Weights and cache are counted on every device. On a CPU the activations are added, attention scores among them: where a
GPU's allocator raises, a CPU's system ends the process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from archlab.analyzers.activations import activations
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import weight_bytes
from archlab.errors import ArchlabError
from archlab.measure.devices import available_bytes, device_name
from archlab.precision import load_precision
from archlab.spec import ModelSpec, Workload
from archlab.units import show_bytes

SAFE = 0.95
"""Of what the system says is available: other programs allocate too."""


@dataclass(frozen=True)
class Need:
    """Bytes that a timed phase holds at once."""

    weights: int
    cache: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.workspace


def need(spec: ModelSpec, work: Workload, dtype: str, device: torch.device) -> Need:
    """Bytes for one workload on a device, in the number format named."""
    precision = load_precision(dtype)
    cache = kv_cache(spec, work.context, work.batch, precision, source=work.source).total
    stored = activations(spec, work, precision, attention="eager").total if device.type == "cpu" else 0
    return Need(int(weight_bytes(spec, precision)), int(cache), int(stored))


def refuse_unless_fits(spec: ModelSpec, work: Workload, dtype: str, device: torch.device, built: bool = False) -> None:
    """Raises ArchlabError, with the numbers, where the phase would not fit; `built`: the weights are there already."""
    needed, left = need(spec, work, dtype, device), available_bytes(device)
    total = needed.total - (needed.weights if built else 0)
    if left is None or total <= SAFE * left:
        return
    parts = {"weights": 0 if built else needed.weights, "cache": needed.cache, "activations": needed.workspace}
    listed = ", ".join(f"{name} {show_bytes(n)}" for name, n in parts.items() if n)
    raise ArchlabError(
        f"{spec.name} at context={work.context}, batch={work.batch} in {dtype} needs {show_bytes(total)} ({listed}), "
        f"and {device_name(device)} has {show_bytes(left)} left"
    )
