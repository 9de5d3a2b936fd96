"""What really ran: the kernels of one pass by torch's profiler, the attention among them, what was compiled meanwhile.

A timing is of what its record says only if nothing else ran: attention by a matrix of scores instead of a fused kernel,
Python instead of a graph, a graph compiled anew. `problem` says so, and the record is then no measurement.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from archlab import blocks
from archlab.spec import ModelSpec

MOST = 8
"""Kernels that a record names."""
LONGEST = 120
"""Characters of a name: templates of C++ go on for lines."""

Step = Callable[[], Any]

FUSED = {
    r"flash_attention_for_cpu": "SDPA flash",
    r"cudnn.*(sdpa|fmha|attention)": "cuDNN attention",
    r"fmha|efficient_attention": "memory-efficient attention",
    r"flash": "FlashAttention",
    r"^_read": "Triton step attention",
    r"^_causal": "Triton causal attention",
}
"""Pattern of a kernel's or operator's name -> the attention that it is, which keeps scores on the chip.

The last two are functions of nn/kernels/triton_decode.py and triton_prefill.py.
"""
SDPA_MATH = r"scaled_dot_product_attention_math"
SOFTMAX = r"softmax"
SCORES = "matrix products and a softmax"


@dataclass(frozen=True)
class Kernel:
    """A kernel, or an operator where a CPU ran it: how often in one pass, and seconds of its own in all."""

    name: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Ran:
    """What one pass ran, the longest first."""

    kernels: tuple[Kernel, ...]
    on_gpu: bool = False  # kernels of a GPU as CUPTI saw them; else operators as the host ran them

    def largest(self) -> list[dict[str, Any]]:
        """Name and share of the time of the kernels that took most of it."""
        total = sum(kernel.seconds for kernel in self.kernels) or 1.0
        return [{"name": k.name[:LONGEST], "share": round(k.seconds / total, 4)} for k in self.kernels[:MOST]]

    @property
    def fused(self) -> int:
        """Attention kernels that ran."""
        return sum(kernel.count for kernel in self.kernels if _fused_name(kernel.name))

    @property
    def attention(self) -> str:
        """What attention ran as, in words; '' where there was none."""
        found = dict.fromkeys(filter(None, (_fused_name(kernel.name) for kernel in self.kernels)))
        if self._has(SDPA_MATH):
            found["SDPA math"] = None
        elif self._has(SOFTMAX) and not (found and self.on_gpu):
            found[SCORES] = None
        return ", ".join(found)

    def problem(self, spec: ModelSpec, device: torch.device) -> str:
        """Why this is not the fast way of a model, in a sentence; '' where it is.

        Soft-capped attention has no fused kernel on a CPU. Where a GPU's kernels were not seen nothing is known.
        """
        if self._has(SDPA_MATH):
            return "attention ran SDPA's math kernel, a matrix of scores, where a fused kernel was to run"
        if device.type == "cuda" and not self.on_gpu:
            return ""
        needed = attention_layers(spec, capped_too=device.type == "cuda")
        if self.fused >= needed:
            return ""
        return (
            f"attention ran as {self.attention or 'nothing that is known as attention'}: {needed} layers were to run "
            f"a fused kernel, and {self.fused} did"
        )

    def _has(self, pattern: str) -> bool:
        return any(re.search(pattern, kernel.name, re.IGNORECASE) for kernel in self.kernels)


def _fused_name(name: str) -> str:
    """The fused attention that a name is of; '' for anything else, the sum over a split one's parts among it."""
    if re.search(f"{SDPA_MATH}|combine", name):
        return ""
    return next((said for pattern, said in FUSED.items() if re.search(pattern, name, re.IGNORECASE)), "")


def attention_layers(spec: ModelSpec, capped_too: bool) -> int:
    """Layers of the decoder that attend to tokens; those whose scores are capped are left out unless asked for."""
    return sum(
        layer.count
        for layer in spec.decoder.layers
        for _, block in layer.blocks()
        if isinstance(block, blocks.Attention) and (capped_too or block.softcap is None)
    )


def ran(step: Step, eager: Step, device: torch.device) -> Ran:
    """Profiles one run of a step: on a GPU the step as it is timed, a CUDA graph too, on a CPU its eager pass.

    A recording's operators have no names on a CPU. Without CUPTI a GPU's kernels are not seen: the eager pass's are.
    """
    if device.type == "cuda":
        kernels = _sorted(_kernels_of(step))
        if kernels:
            return Ran(kernels, on_gpu=True)
    return Ran(_sorted(_operators_of(eager)))


def _kernels_of(step: Step) -> Iterable[Kernel]:
    for event in _profiled(step, [ProfilerActivity.CPU, ProfilerActivity.CUDA]):
        if event.device_type == DeviceType.CUDA and event.self_device_time_total > 0:
            yield Kernel(event.key.removeprefix("void "), event.count, event.self_device_time_total * 1e-6)


def _operators_of(step: Step) -> Iterable[Kernel]:
    for event in _profiled(step, [ProfilerActivity.CPU]):
        yield Kernel(event.key, event.count, event.self_cpu_time_total * 1e-6)


def _profiled(step: Step, activities: Sequence[ProfilerActivity]) -> Iterable[Any]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would say on stderr that it starts and stops
    with torch.inference_mode(), profile(activities=activities) as seen:
        step()
        if ProfilerActivity.CUDA in activities:
            torch.cuda.synchronize()
    return seen.key_averages()


def _sorted(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    return tuple(sorted(kernels, key=lambda kernel: -kernel.seconds))


# ---------------------------------------------------------------- torch.compile


def compiled() -> int:
    """Functions that torch.compile has compiled so far in this process, recompilations included.

    From now on it raises where it would give up compiling and run eagerly without a word (recompile_limit, 8).
    """
    dynamo: Any = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return 0
    dynamo.config.fail_on_recompile_limit_hit = True
    return int(dynamo.utils.counters["stats"]["unique_graphs"])
