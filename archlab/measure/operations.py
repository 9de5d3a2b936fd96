"""Single operations, timed by themselves: what the laws of a device are fitted to, and exact shapes beside them.

What a step finds cold is cold here: weights and caches lie in so many copies, one after another, that they are several
times the last cache, and a round runs over all of them. What the kernel before has just made (activations) is as warm
as it leaves it. All are views of one block of random numbers, so operations of any size stand side by side and take
turns: a machine that slows down slows all of them. On a GPU a round is one CUDA graph.

Which function runs an operation is in `RUNS`: those of the fast decoder (nn/kernels).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archlab.measure.blank import sentence
from archlab.measure.devices import DTYPES, available_bytes, device_name, find_device, find_dtype, release
from archlab.measure.provenance import code_version, provenance
from archlab.measure.records import append_record, read_records
from archlab.measure.rooflines import random_normal
from archlab.measure.shapes import KINDS, Attend, Elementwise, Operation, Product, Shape, name_of
from archlab.measure.stats import summarize
from archlab.measure.timing import Sampler, Step
from archlab.nn.kernels import Heads, Kernels, Norm, kernels_for
from archlab.nn.mlp import ACTIVATIONS
from archlab.units import show_bytes, show_seconds

MIB = 2**20
CACHE_FILE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
USUAL_CACHE = 32 * MIB
COLD = 4
"""Times the last cache: what the copies of a cold operand take together."""
MOST_COPIES = 512
MEMORY_SHARE = 0.25
"""Of the free memory, for the block that all operations read."""
ALIGNED = 256
"""Elements that a view starts at a multiple of."""

WARMUP_S = {"cpu": 0.03, "cuda": 0.1}
ROUND_S = 0.002
"""Seconds of a round at least: a shorter one runs over its copies again."""
SECONDS = 0.15
"""Of sampling an operation."""
TURNS = 5
AT_ONCE = 24
"""Operations that take turns; then they are written down."""

SOFTCAP = 50.0
"""Gemma 2's: what the cap is does not matter to the time."""

Say = Callable[[str], None]


# ---------------------------------------------------------------- how it runs

Run = Callable[[Any, Kernels, list[Tensor], Tensor], Step]


def _linear(op: Product, by: Kernels, warm: list[Tensor], cold: Tensor) -> Step:
    return partial(by.norm_linear, warm[0], None, cold)


def _attend(op: Attend, by: Kernels, warm: list[Tensor], cold: Tensor) -> Step:
    scale, cap = op.dim**-0.5, SOFTCAP if op.cap else None
    if op.step:
        heads = Heads(op.kv * op.group, op.kv, op.dim)
        return partial(by.step_attention, warm[0], heads, None, cold[0], cold[1], op.keys - 1, scale, cap)
    q, k, v = warm
    return partial(by.causal_attention, q, k, v, op.window, scale, cap)


def _elementwise(op: Elementwise, by: Kernels, warm: list[Tensor], cold: Tensor) -> Step:
    x, y = warm
    if op.form == "gate":
        return lambda: ACTIVATIONS["gelu_tanh"](x) * y
    with torch.inference_mode(False):  # a gain is a parameter, of which versions are kept
        gain = torch.ones(op.width, device=x.device, dtype=x.dtype)
    return partial(by.add_norm, x, y, Norm(gain, 1e-6))


RUNS: Mapping[type, Run] = {Product: _linear, Attend: _attend, Elementwise: _elementwise}
"""How an operation runs once, on warm operands and one copy of the cold one (empty where there is none)."""


class Arena:
    """One block of random numbers that the operands of all operations are views of."""

    def __init__(self, device: torch.device, dtype: str, cache_bytes: int, operations: Iterable[Operation]) -> None:
        self.device, self.itemsize = device, DTYPES[dtype].itemsize
        self.cold_elements = COLD * cache_bytes // self.itemsize
        left = available_bytes(device)
        self.room = None if left is None else int(MEMORY_SHARE * left) // self.itemsize
        taken = (self.elements(op) for op in operations if self.obstacle(op) is None)
        self.block = random_normal((max(taken, default=1),), device, DTYPES[dtype])

    def elements(self, op: Operation) -> int:
        """Elements that its operands take."""
        cold = op.cold()
        copies = 0 if cold is None else self.copies(op) * _aligned(prod(cold))
        return sum(_aligned(prod(shape)) for shape in op.warm()) + copies

    def copies(self, op: Operation) -> int:
        """Copies of its cold operand."""
        cold = op.cold()
        return 1 if cold is None else min(MOST_COPIES, max(1, ceil(self.cold_elements / prod(cold))))

    def obstacle(self, op: Operation) -> str | None:
        """Why it is not timed here; None if it can be."""
        needed = self.elements(op) * self.itemsize
        if self.room is None or needed <= self.room * self.itemsize:
            return None
        return f"its operands take {show_bytes(needed)}, and {show_bytes(self.room * self.itemsize)} may be used"

    def steps(self, op: Operation, by: Kernels) -> list[Step]:
        """The operation on each copy of its cold operand."""
        warm, at = [], 0
        for shape in op.warm():
            warm.append(self._view(at, shape))
            at += _aligned(prod(shape))
        cold = op.cold() or (0,)
        places = range(at, at + self.copies(op) * _aligned(prod(cold)), _aligned(prod(cold)) or 1)
        return [RUNS[type(op)](op, by, warm, self._view(place, cold)) for place in places or (at,)]

    def _view(self, at: int, shape: Shape) -> Tensor:
        return self.block[at : at + prod(shape)].view(shape)


def _aligned(n: int) -> int:
    return ceil(n / ALIGNED) * ALIGNED


def cache_bytes(device: torch.device) -> int:
    """The last cache: what must be passed for a read to come from memory."""
    if device.type == "cuda":
        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", USUAL_CACHE))
    try:
        text = CACHE_FILE.read_text().strip()
        return int(text.rstrip("KM")) * {"K": 2**10, "M": MIB}.get(text[-1], 1)
    except (OSError, ValueError):
        return USUAL_CACHE


class Trial:
    """One operation, warmed up and sampled in turns with others."""

    def __init__(self, op: Operation, arena: Arena, by: Kernels) -> None:
        self.op, self.arena, self.by = op, arena, by
        self.problem = ""
        self.runs = 0  # of the operation in one round
        self.sampler: Sampler | None = None

    def warm_up(self, seconds: float) -> None:
        """Settles how often a round runs over the copies, and repeats it by the clock."""
        self._guarded(lambda: self._warm_up(seconds))

    def sample(self, seconds: float) -> None:
        """Adds samples for `seconds`, and one at least."""
        if self.sampler is not None:
            self._guarded(lambda: self.sampler.sample(seconds))  # type: ignore[union-attr]

    def _warm_up(self, seconds: float) -> None:
        device, steps = self.arena.device, self.arena.steps(self.op, self.by)
        once = Sampler(_in_a_row(steps), device)
        once.warm_up(0.0)  # what is compiled or set up at first
        once.repetitions = 1
        once.sample(0.0)
        laps = max(1, ceil(ROUND_S / once.samples[0]))
        self.runs = laps * len(steps)
        step = _in_a_row(steps * laps)
        sampler = Sampler(captured(step, device) if device.type == "cuda" else step, device)
        sampler.warm_up(seconds)
        self.sampler = sampler

    def _guarded(self, action: Callable[[], None]) -> None:
        if self.problem:
            return
        try:
            with torch.inference_mode():
                action()
        except Exception as problem:
            self.problem, self.sampler = sentence(problem), None

    def record(self, dtype: str) -> dict[str, Any]:
        """Seconds of one run: the median, and all samples; or what went wrong."""
        kind = next(kind for kind, cls in KINDS.items() if isinstance(self.op, cls))
        found: dict[str, Any] = {
            "operation": {"kind": kind, **asdict(self.op)}, "shape": name_of(self.op), "dtype": dtype,
            "device": device_name(self.arena.device), "status": "ok", "reason": "",
        }  # fmt: skip
        samples = [s / self.runs for s in self.sampler.samples] if self.sampler is not None else []
        if self.problem or not samples:
            return found | {"status": "failed", "reason": self.problem or "no sample was taken"}
        times = summarize(samples)
        return found | asdict(times) | {
            "copies": self.arena.copies(self.op), "runs": self.runs,
            "samples": [float(f"{s:.5g}") for s in samples], "provenance": provenance(self.arena.device),
        }  # fmt: skip


def _in_a_row(steps: Sequence[Step]) -> Step:
    def run() -> None:
        for step in steps:
            step()

    return run


def captured(step: Step, device: torch.device) -> Step:
    """The step as a CUDA graph, whose kernels follow each other without waiting for Python."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


# ---------------------------------------------------------------- a run


def measure_operations(
    path: Path | str,
    operations: Sequence[Operation],
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    seconds: float = SECONDS,
    budget_seconds: float = float("inf"),
    say: Say = lambda _: None,
) -> dict[str, str]:
    """Times what the file of JSON lines does not hold yet, and appends it; returns what was not timed -> why.

    A result is found by its shape, format and device and by the version of code and torch. Operations take turns
    `AT_ONCE` at a time, in their order: a run that is cut short leaves whole records. Raises ArchlabError.
    """
    start, where = time.perf_counter(), find_device(device)
    kind = find_dtype(dtype, where)
    done = {record.get("key") for record in read_records(path) if record.get("status") == "ok"}
    pending = {key: op for op in operations if (key := key_of(op, where, kind)) not in done}
    arena, by = Arena(where, kind, cache_bytes(where), pending.values()), kernels_for(where)
    left_out = {name_of(op): why for op in pending.values() if (why := arena.obstacle(op)) is not None}
    todo = [(key, op) for key, op in pending.items() if name_of(op) not in left_out]
    for at in range(0, len(todo), AT_ONCE):
        group = todo[at : at + AT_ONCE]
        if time.perf_counter() - start > budget_seconds:
            left_out |= {name_of(op): "the time budget was spent before its turn" for _, op in todo[at:]}
            break
        for (key, op), record in zip(group, _in_turns([op for _, op in group], arena, by, kind, seconds), strict=True):
            append_record(path, {"key": key, **record})
            if record["status"] != "ok":
                left_out[name_of(op)] = record["reason"]
            say(f"{name_of(op)}: {show_seconds(record['median_s']) if record['status'] == 'ok' else record['reason']}")
    del arena
    release(where)
    return left_out


def key_of(op: Operation, device: torch.device, dtype: str) -> str:
    """What a result is found again by."""
    versions = (f"code {code_version()}", f"torch {torch.__version__}")
    return " | ".join([name_of(op), dtype, device_name(device), *versions])


def _in_turns(
    operations: Sequence[Operation], arena: Arena, by: Kernels, dtype: str, seconds: float
) -> Iterator[dict[str, Any]]:
    trials = [Trial(op, arena, by) for op in operations]
    for trial in trials:
        trial.warm_up(WARMUP_S[arena.device.type])
    for _ in range(TURNS):
        for trial in trials:
            trial.sample(seconds / TURNS)
    return (trial.record(dtype) for trial in trials)
