"""What the device itself can do, measured in the same session as the models: the other half of every comparison.

Three rates: copy (bytes read plus bytes written a second), read (bytes read a second: a sum, and the matrix-vector
product that a decode step is made of), and matrix products (FLOP a second, a few sizes, random normal numbers: zeros
run up to 15 % faster on a GPU).

A bound uses the best read rate and the best matmul rate seen in any sample, before the models or after them, so that
it stays a bound where other programs slow the machine for a while; `cells` keeps the medians too. Buffers are many
times the last cache, so both rates are of memory. A model whose weights stay in that cache between steps (a few tens
of MB) reads them faster, and may well beat the bound.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from archlab.analyzers.latency import Latency, bound
from archlab.errors import ArchlabError
from archlab.hardware import Hardware
from archlab.ledger import ledger
from archlab.measure.devices import DTYPES, available_bytes, device_name, find_device, find_dtype, release, total_bytes
from archlab.measure.provenance import now
from archlab.measure.stats import summarize
from archlab.measure.timing import Sampler, Step
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.units import show_bytes
from archlab.workload import Workload

MIB = 2**20
BUFFERS = {"cpu": {"quick": (256,), "full": (256, 512)}, "cuda": {"quick": (1024,), "full": (256, 1024, 4096)}}
"""MiB of the buffers that are read and copied."""
MATRICES = {
    "cpu": {"quick": (1024, 2048), "full": (1024, 2048, 3072)},
    "cuda": {"quick": (4096, 8192), "full": (2048, 4096, 8192, 16384)},
}
"""Widths of the square matrix products."""
SECONDS = {"quick": 0.15, "full": 0.6}
"""Seconds a cell."""
READ_WIDTH = 4096


@dataclass(frozen=True)
class Rooflines:
    """Rates of one device in one number format: bytes per second, FLOP per second; best sample of any cell."""

    device: str
    kind: str  # cpu | gpu
    dtype: str
    memory_bytes: int
    copy_bytes_per_s: float
    read_bytes_per_s: float
    matmul_flops_per_s: float
    mode: str
    utc: str
    seconds: float
    cells: tuple[dict[str, Any], ...] = ()

    def hardware(self) -> Hardware:
        """The device for `archlab.latency`: its bound at these rates."""
        return Hardware(
            name=f"this-{self.kind}",
            title=self.device,
            kind=self.kind,
            memory_bytes=self.memory_bytes,
            bandwidth_bytes_per_s=self.read_bytes_per_s,
            peak_flops={self.dtype: self.matmul_flops_per_s},
            status="measured",
            source=f"measured by archlab ({self.mode}), {self.utc}: best read and best {self.dtype} matmul",
        )

    def bound(self, spec: ModelSpec, work: Workload) -> Latency:
        """What a pass takes at least at these rates."""
        return bound(ledger(spec, work), self.hardware(), load_precision(self.dtype))

    def best_of(self, later: Rooflines) -> Rooflines:
        """The better rate of two measurements of one device, all cells kept."""
        names = ("copy_bytes_per_s", "read_bytes_per_s", "matmul_flops_per_s")
        rates = {name: max(getattr(self, name), getattr(later, name)) for name in names}
        return dataclasses.replace(self, **rates, seconds=self.seconds + later.seconds, cells=self.cells + later.cells)

    def as_dict(self) -> dict[str, Any]:
        """Every field, as JSON takes it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def rates(self) -> dict[str, Any]:
        """The three rates and when they were taken, without the cells."""
        return {k: v for k, v in self.as_dict().items() if k.endswith("_per_s") or k in ("mode", "utc")}


def measure_rooflines(
    device: str | torch.device | None = None, dtype: str | torch.dtype | None = None, quick: bool = True
) -> Rooflines:
    """Measures the rates: about 2 s if quick, 10 s if not. Raises ArchlabError for a device that is not there."""
    where = find_device(device)
    kind, mode = find_dtype(dtype, where), "quick" if quick else "full"
    start = time.perf_counter()
    with torch.inference_mode():
        cells = tuple(probe.measure(where, DTYPES[kind], SECONDS[mode]) for probe in probes(where, mode))
    release(where)
    best = {what: max(c["best_per_s"] for c in cells if c["rate"] == what) for what in ("copy", "read", "matmul")}
    return Rooflines(
        device=device_name(where),
        kind="gpu" if where.type == "cuda" else "cpu",
        dtype=kind,
        memory_bytes=total_bytes(where),
        copy_bytes_per_s=best["copy"],
        read_bytes_per_s=best["read"],
        matmul_flops_per_s=best["matmul"],
        mode=mode,
        utc=now(),
        seconds=time.perf_counter() - start,
        cells=cells,
    )


def measure_again(rates: Rooflines, device: torch.device) -> Rooflines:
    """The better of these rates and of a second, quick measurement; these alone where models leave no room for one."""
    try:
        return rates.best_of(measure_rooflines(device, rates.dtype))
    except (ArchlabError, MemoryError, torch.OutOfMemoryError):
        return rates


@dataclass(frozen=True)
class Probe:
    """Something that is timed for a rate: `work` is the bytes or FLOPs of a step, `make` allocates and returns it."""

    rate: str  # copy | read | matmul
    how: str
    size: int
    work: int
    make: Callable[[int, torch.device, torch.dtype], Step]

    def measure(self, device: torch.device, dtype: torch.dtype, seconds: float) -> dict[str, Any]:
        """Median and best rate."""
        sampler = Sampler(self.make(self.size, device, dtype), device)
        sampler.warm_up(seconds / 3)
        sampler.sample(seconds, at_least=3)
        times = summarize(sampler.samples)
        return {
            "rate": self.rate, "how": self.how, "size": self.size, "median_s": times.median_s, "n": times.n,
            "drift": times.drift, "median_per_s": self.work / times.median_s,
            "best_per_s": self.work / min(sampler.samples),
        }  # fmt: skip


def probes(device: torch.device, mode: str) -> Iterator[Probe]:
    """What is timed on a device; buffers of more than a quarter of the free memory are left out."""
    left = available_bytes(device)
    sizes = [n * MIB for n in BUFFERS[device.type][mode]]
    if left is not None and left < 4 * sizes[0]:
        needed = show_bytes(4 * sizes[0])
        raise ArchlabError(f"{device_name(device)} has {show_bytes(left)} left, and measuring its rates takes {needed}")
    for n in (n for n in sizes if left is None or 4 * n <= left):
        yield Probe("copy", "copy", n, 2 * n, _copy)
        yield Probe("read", "sum", n, n, _sum)
        yield Probe("read", "matvec", n, n, _matvec)
    for n in MATRICES[device.type][mode]:
        yield Probe("matmul", "matmul", n, 2 * n**3, _matmul)


def _copy(n_bytes: int, device: torch.device, dtype: torch.dtype) -> Step:
    source = random_normal((n_bytes // 4,), device, torch.float32)
    target = torch.empty_like(source)
    return partial(target.copy_, source)


def _sum(n_bytes: int, device: torch.device, dtype: torch.dtype) -> Step:
    return random_normal((n_bytes // 4,), device, torch.float32).sum


def _matvec(n_bytes: int, device: torch.device, dtype: torch.dtype) -> Step:
    matrix = random_normal((n_bytes // dtype.itemsize // READ_WIDTH, READ_WIDTH), device, dtype)
    return partial(torch.nn.functional.linear, random_normal((1, READ_WIDTH), device, dtype), matrix)


def _matmul(n: int, device: torch.device, dtype: torch.dtype) -> Step:
    a, b = (random_normal((n, n), device, dtype, seed) for seed in (0, 1))
    return partial(torch.mm, a, b, out=torch.empty_like(a))


def random_normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Normal numbers, a block of a million of them repeated: fast to make, no zeros, every page written."""
    numel = 1
    for n in shape:
        numel *= n
    generator = torch.Generator(device).manual_seed(seed)
    block = torch.randn(min(numel, MIB), generator=generator, device=device).to(dtype)
    return block.repeat(-(-numel // len(block)))[:numel].view(shape).contiguous()
