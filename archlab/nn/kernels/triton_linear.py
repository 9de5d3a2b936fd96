"""Products of few rows with a weight, which are as fast as the weight is read: a norm before and a gate after are free.

The norm's sum of squares is taken along with the product, and the row divided by its rms at the end, so that no program
waits for another. A row by itself is multiplied and summed; 2 to 8 rows go through the tensor cores, beside zeros. More
than that are a matter of arithmetic: cuBLAS's.
"""

from __future__ import annotations

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from archlab.errors import ArchlabError
from archlab.nn.kernels import Norm
from archlab.nn.kernels.triton_launch import (
    OVERLAP,
    ceil_div,
    norm_arguments,
    power_of_2,
    processors,
    ready,
    require_runnable,
)  # fmt: skip
from archlab.nn.kernels.triton_norm import normed
from archlab.nn.mlp import ACTIVATIONS

FEW = 8
"""Rows that one reading of the weight serves."""


@triton.jit
def _activated(x: tl.tensor, ACT: tl.constexpr) -> tl.tensor:
    """gelu_tanh, gelu, silu or relu of x, in fp32."""
    if ACT == "gelu_tanh":
        x *= tl.sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x))  # (1 + tanh(u)) / 2 = sigmoid(2 u)
    elif ACT == "gelu":
        x *= 0.5 * (1.0 + tl.erf(0.7071067811865476 * x))
    elif ACT == "silu":
        x *= tl.sigmoid(x)
    else:
        x = tl.maximum(x, 0.0)
    return x


@triton.jit
def _prefetch(lines: tl.tensor) -> None:
    """Asks the second cache for what will be read: weights need not wait for the kernel before."""
    asm: tl.constexpr = "prefetch.global.L2 [$1]; mov.u32 $0, 0;"
    tl.inline_asm_elementwise(asm, "=r,l", [lines], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _partial(tile: tl.tensor, row: tl.tensor, ROWS: tl.constexpr, BLOCK: tl.constexpr, VEC: tl.constexpr) -> tl.tensor:
    """tile ROWS BLOCK times row BLOCK, summed as far as a thread can by itself: ROWS BLOCK/VEC."""
    product = tile.to(tl.float32) * row[None, :]
    return tl.sum(tl.reshape(product, (ROWS, BLOCK // VEC, VEC)), 2)


@triton.jit(do_not_specialize=["OUT"])
def _one(
    x: tl.tensor, gain: tl.tensor, offset: float, eps: float, w: tl.tensor, y: tl.tensor, D: tl.tensor, OUT: tl.tensor,
    w_row: tl.tensor,
    NORM: tl.constexpr, ACT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, VEC: tl.constexpr,
) -> None:  # fmt: skip
    """y[o] = norm(x) . w[o], of ROWS o a program; with ACT act(norm(x) . w[o]) * (norm(x) . w[o + OUT])."""
    rows = tl.minimum(tl.program_id(0) * ROWS + tl.arange(0, ROWS), OUT - 1)  # past the end: the last one once more
    cols = tl.arange(0, BLOCK)
    w_at = w + rows.to(tl.int64)[:, None] * w_row + cols[None, :]
    up_at = w + (rows + OUT).to(tl.int64)[:, None] * w_row + cols[None, :]
    total = tl.zeros((ROWS, BLOCK // VEC), tl.float32)
    up = tl.zeros((ROWS, BLOCK // VEC), tl.float32)
    squares = tl.zeros((BLOCK // VEC,), tl.float32)
    if OVERLAP:  # a line of 128 bytes each
        lines = tl.minimum(tl.arange(0, BLOCK // (8 * VEC)) * 8 * VEC, D - 1)
        _prefetch(w + rows.to(tl.int64)[:, None] * w_row + lines[None, :])
    ready()
    for start in range(0, D, BLOCK):
        seen = start + cols < D
        tile = tl.load(w_at + start, mask=seen[None, :], other=0.0, eviction_policy="evict_first")
        if ACT != "":
            up_tile = tl.load(up_at + start, mask=seen[None, :], other=0.0, eviction_policy="evict_first")
        row = tl.load(x + start + cols, mask=seen, other=0.0).to(tl.float32)
        if NORM:
            squares += tl.sum(tl.reshape(row * row, (BLOCK // VEC, VEC)), 1)
        if NORM == 2:
            row *= offset + tl.load(gain + start + cols, mask=seen, other=0.0).to(tl.float32)
        total += _partial(tile, row, ROWS, BLOCK, VEC)
        if ACT != "":
            up += _partial(up_tile, row, ROWS, BLOCK, VEC)
    scale = 1.0
    if NORM:
        scale = tl.rsqrt(tl.sum(squares, 0) / D + eps)
    made = tl.sum(total, 1) * scale
    if ACT != "":
        made = _activated(made, ACT) * (tl.sum(up, 1) * scale)
    tl.store(y + rows, made.to(y.dtype.element_ty))


@triton.jit(do_not_specialize=["M", "OUT"])
def _few(
    x: tl.tensor, gain: tl.tensor, offset: float, eps: float, w: tl.tensor, y: tl.tensor, M: tl.tensor, D: tl.tensor,
    OUT: tl.tensor,
    x_row: tl.tensor, w_row: tl.tensor,
    NORM: tl.constexpr, ACT: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """As _one, of M <= TOKENS rows of x."""
    rows = tl.minimum(tl.program_id(0) * ROWS + tl.arange(0, ROWS), OUT - 1)
    cols = tl.arange(0, BLOCK)
    tokens = tl.arange(0, TOKENS)
    w_at = w + rows.to(tl.int64)[:, None] * w_row + cols[None, :]
    up_at = w + (rows + OUT).to(tl.int64)[:, None] * w_row + cols[None, :]
    x_at = x + tokens[:, None] * x_row + cols[None, :]
    total = tl.zeros((ROWS, TOKENS), tl.float32)
    up = tl.zeros((ROWS, TOKENS), tl.float32)
    squares = tl.zeros((TOKENS, BLOCK), tl.float32)
    ready()
    for start in range(0, D, BLOCK):
        seen = start + cols < D
        tile = tl.load(w_at + start, mask=seen[None, :], other=0.0)
        some = tl.load(x_at + start, mask=seen[None, :] & (tokens < M)[:, None], other=0.0)
        if NORM:
            squares += some.to(tl.float32) * some.to(tl.float32)
        if NORM == 2:
            scaled = offset + tl.load(gain + start + cols, mask=seen, other=0.0).to(tl.float32)
            some = (some.to(tl.float32) * scaled[None, :]).to(some.dtype)
        total = tl.dot(tile, tl.trans(some), total, input_precision="tf32x3")
        if ACT != "":
            up_tile = tl.load(up_at + start, mask=seen[None, :], other=0.0)
            up = tl.dot(up_tile, tl.trans(some), up, input_precision="tf32x3")
    if NORM:
        scale = tl.rsqrt(tl.sum(squares, 1) / D + eps)
        total *= scale[None, :]
        up *= scale[None, :]
    if ACT != "":
        total = _activated(total, ACT) * up
    y_at = y + tokens[None, :] * OUT + rows[:, None]
    tl.store(y_at, total.to(y.dtype.element_ty), mask=(tokens < M)[None, :])


@triton.jit
def _gate(h: tl.tensor, y: tl.tensor, WIDE: tl.tensor, ACT: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """act(gate) * up of a row of h, 2F -> F."""
    ready()
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    seen = cols < WIDE
    gate = tl.load(h + row * 2 * WIDE + cols, mask=seen, other=0.0).to(tl.float32)
    up = tl.load(h + row * 2 * WIDE + WIDE + cols, mask=seen, other=0.0).to(tl.float32)
    tl.store(y + row * WIDE + cols, (_activated(gate, ACT) * up).to(y.dtype.element_ty), mask=seen)


def rows_a_program(outputs: int, widest: int, least: int, programs: int) -> int:
    """As many rows of the weight, `widest` halved down to `least`, as leave work for so many programs."""
    while widest > least and ceil_div(outputs, widest) < programs:
        widest //= 2
    return widest


def _product(x: Tensor, norm: Norm | None, weight: Tensor, outputs: int, activation: str) -> Tensor:
    """x B T D with B T <= FEW -> B T O."""
    flat = x.reshape(-1, x.shape[-1])
    require_runnable(flat, weight)
    y = x.new_empty(*x.shape[:-1], outputs)
    mode, gain, offset, eps = norm_arguments(norm, x)
    tokens, width = flat.shape
    launch = _launch_one if tokens == 1 else _launch_few
    launch(flat, gain, offset, eps, weight, y, width, outputs, NORM=mode, ACT=activation)
    return y


def _launch_one(
    x: Tensor, gain: Tensor, offset: float, eps: float, weight: Tensor, y: Tensor, width: int, outputs: int,
    **kind: int | str,
) -> None:  # fmt: skip
    """16 KB at a time, 16 bytes a load, in 8 programs a processor or more: memory stays busy, and the last end soon."""
    vec = 16 // weight.element_size()
    tiles = 2 if kind["ACT"] else 1
    rows = rows_a_program(outputs, 8 // tiles, 1, 8 * processors(x.device))
    block = min(min(8 // (rows * tiles), 4) * 128 * vec, max(power_of_2(width), 16))
    _one[(ceil_div(outputs, rows),)](
        x, gain, offset, eps, weight, y, width, outputs, weight.stride(0),
        ROWS=rows, BLOCK=block, VEC=vec,
        num_warps=4 if rows * tiles >= 4 else 8, num_stages=1, launch_pdl=OVERLAP.value, **kind,
    )  # fmt: skip


def _launch_few(
    x: Tensor, gain: Tensor, offset: float, eps: float, weight: Tensor, y: Tensor, width: int, outputs: int,
    **kind: int | str,
) -> None:  # fmt: skip
    """Loads are kept in flight by stages here, not by programs: 4 of 8 to 16 KB, 2 programs a processor or more."""
    rows = rows_a_program(outputs, 32 if kind["ACT"] else 64, 16, 2 * processors(x.device))
    block = (512 if rows == 16 else 256) // weight.element_size()
    _few[(ceil_div(outputs, rows),)](
        x, gain, offset, eps, weight, y, len(x), width, outputs, x.stride(0), weight.stride(0),
        TOKENS=FEW, ROWS=rows, BLOCK=block, num_warps=4, num_stages=4, launch_pdl=OVERLAP.value, **kind,
    )  # fmt: skip


def norm_linear(x: Tensor, norm: Norm | None, weight: Tensor) -> Tensor:
    """norm(x) @ weight^T: x B T D, weight O D -> B T O."""
    if x.shape[:-1].numel() > FEW:
        return F.linear(normed(x, norm), weight)
    return _product(x, norm, weight, len(weight), "")


def gated_linear(x: Tensor, norm: Norm | None, weight: Tensor, activation: str) -> Tensor:
    """act(gate) * up of norm(x): x B T D, weight 2F D -> B T F."""
    if activation not in ACTIVATIONS:
        raise ArchlabError(f"Triton kernels know the activations {', '.join(ACTIVATIONS)}, not {activation!r}")
    wide = len(weight) // 2
    if x.shape[:-1].numel() <= FEW:
        return _product(x, norm, weight, wide, activation)
    h = F.linear(normed(x, norm), weight)  # B T 2F
    y = h.new_empty(*h.shape[:-1], wide)
    _gate[(x.shape[:-1].numel(), ceil_div(wide, 1024))](
        h, y, wide, ACT=activation, BLOCK=1024, num_warps=4, launch_pdl=OVERLAP.value
    )
    return y
