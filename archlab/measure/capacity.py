"""Whether a model and a workload fit the memory that is left: asked before anything is allocated.

Weights and cache are counted on every device. On a CPU the activations are added, attention scores among them: where a
GPU's allocator raises, a CPU's system ends the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from archlab.analyzers.activations import activations
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import weight_bytes
from archlab.errors import ArchlabError, SpecError
from archlab.measure.devices import available_bytes, device_name
from archlab.measure.periods import period_of, with_layers
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.units import show_bytes
from archlab.workload import Workload

SAFE = 0.95
"""Of what the system says is available: other programs allocate too."""

CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL_CACHE = 32 * 2**20
"""Of a CPU that does not say."""
USUAL_L2 = 50 * 2**20
"""Of a GPU that does not: H100 and H200 have so much."""


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
    over = show_bytes(int(total - SAFE * left))
    raise ArchlabError(
        f"{spec.name} at context={work.context}, batch={work.batch} in {dtype} needs {show_bytes(total)} ({listed}), "
        f"and {device_name(device)} has {show_bytes(left)} left, of which {SAFE:.0%} may be used: {over} too much"
        f"{_instead(spec, work, dtype, device, SAFE * left)}"
    )


def _instead(spec: ModelSpec, work: Workload, dtype: str, device: torch.device, room: float) -> str:
    """What would fit: a model of fewer layers, from which the whole is composed; '' where that does not fit either."""
    try:
        period = period_of(spec)
    except SpecError:
        return ""
    layers = [n * period + spec.n_layers % period for n in (1, 2)]
    if layers[1] >= spec.n_layers:
        return ""
    if sum(need(with_layers(spec, n), work, dtype, device).total for n in layers) > room:
        return ""
    return f"; --sampled times {layers[0]} and {layers[1]} of its {spec.n_layers} layers, which fit"


def last_cache_bytes(device: torch.device) -> int:
    """Bytes of the last cache before memory: what a timing must exceed by far not to be of the cache."""
    if device.type == "cuda":
        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or USUAL_L2
    sizes = [_kib(path.read_text()) for path in CPU_CACHES.glob("index*/size")]
    return max(sizes, default=0) or USUAL_CACHE


def _kib(text: str) -> int:
    """'32768K' -> 33554432."""
    number, unit = text.strip()[:-1], text.strip()[-1:]
    return int(number) * {"K": 2**10, "M": 2**20}[unit] if number.isdigit() and unit in "KM" else 0
