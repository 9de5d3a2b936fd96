"""RMSNorm over rows, alone or with the residual stream added: a program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from archlab.nn.kernels import Norm
from archlab.nn.kernels.triton_launch import OVERLAP, norm_arguments, power_of_2, ready, require_runnable


@triton.jit
def _row(
    x: tl.tensor, y: tl.tensor, out: tl.tensor, gain: tl.tensor, offset: float, eps: float, D: tl.tensor,
    NORM: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """out = norm(y), or x + norm(y): rows of D, contiguous."""
    ready()
    at = tl.program_id(0).to(tl.int64) * D
    cols = tl.arange(0, BLOCK)
    seen = cols < D
    row = tl.load(y + at + cols, mask=seen, other=0.0).to(tl.float32)
    if NORM:
        row *= tl.rsqrt(tl.sum(row * row, 0) / D + eps)
    if NORM == 2:
        row *= offset + tl.load(gain + cols, mask=seen, other=0.0).to(tl.float32)
    if ADD:
        row += tl.load(x + at + cols, mask=seen, other=0.0).to(tl.float32)
    tl.store(out + at + cols, row.to(out.dtype.element_ty), mask=seen)


def _launch(x: Tensor | None, y: Tensor, norm: Norm | None) -> Tensor:
    y = y.contiguous()
    x = None if x is None else x.contiguous()
    require_runnable(y)
    out = torch.empty_like(y)
    width = y.shape[-1]
    mode, gain, offset, eps = norm_arguments(norm, y)
    block = power_of_2(width)
    warps = min(max(block // 512, 1), 16)  # 16 elements a thread: one row is one processor's, and should not take long
    _row[(y.numel() // width,)](
        y if x is None else x, y, out, gain, offset, eps, width,
        NORM=mode, ADD=x is not None, BLOCK=block, num_warps=warps, launch_pdl=OVERLAP.value,
    )  # fmt: skip
    return out


def normed(x: Tensor, norm: Norm | None) -> Tensor:
    """x over its rms, times the gain."""
    return x if norm is None else _launch(None, x, norm)


def add_norm(x: Tensor, y: Tensor, norm: Norm | None) -> Tensor:
    """x + norm(y), both B T D."""
    return _launch(x, y, norm)
