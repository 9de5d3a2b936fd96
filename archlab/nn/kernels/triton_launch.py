"""What every Triton kernel's launch needs: the processors there are, a norm as arguments, and what cannot run."""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from archlab.errors import ArchlabError
from archlab.nn.kernels import Norm

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST_HEAD = 512
INTERPRETED: bool = triton.knobs.runtime.interpret
"""TRITON_INTERPRET=1: the kernels run on CPU tensors, in numpy, to be tested."""

OVERLAP = tl.constexpr(False)
"""Whether a kernel may start while the one before it runs out (programmatic dependent launch, Hopper). Not measured."""


@triton.jit
def ready() -> None:
    """Called before a kernel reads what another made, or writes anything: waits for all before it."""
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors; in the interpreter an H100's."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_2(x: int) -> int:
    """The least power of 2 that is x or more."""
    return 1 << (x - 1).bit_length()


def norm_arguments(norm: Norm | None, unused: Tensor) -> tuple[int, Tensor, float, float]:
    """NORM (0 none, 1 without a gain, 2 with one), the gain or a tensor that is not read, its offset, eps."""
    if norm is None:
        return 0, unused, 0.0, 0.0
    if norm.gain is None:
        return 1, unused, 0.0, norm.eps
    return 2, norm.gain, norm.offset, norm.eps


def require_runnable(*tensors: Tensor) -> None:
    """Raises ArchlabError for a tensor that no kernel here reads: its device, its dtype, its last stride."""
    for x in tensors:
        if x.device.type != "cuda" and not INTERPRETED:
            raise ArchlabError(f"Triton kernels run on a GPU, and a tensor is on {x.device}")
        if x.dtype not in DTYPES:
            raise ArchlabError(f"Triton kernels read float32, bfloat16 and float16, not {x.dtype}")
        if x.stride(-1) != 1 and x.shape[-1] > 1:
            raise ArchlabError(
                f"Triton kernels read rows in one piece: the last stride of {tuple(x.shape)} is {x.stride(-1)}, not 1"
            )


def require_head(head_dim: int) -> None:
    """Raises ArchlabError for a head that is wider than attention's tiles."""
    if head_dim > WIDEST_HEAD:
        raise ArchlabError(f"Triton attention takes heads of at most {WIDEST_HEAD} dimensions, not {head_dim}")
