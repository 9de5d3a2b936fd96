"""Linears and norms in Triton against torch: fp32 to 1e-5 of the largest, bf16 to one of its steps from torch's fp32."""

import inspect
from dataclasses import replace

import pytest
import torch

from archlab.errors import ArchlabError
from archlab.nn.kernels import Kernels, Norm, torch_kernels
from archlab.nn.mlp import ACTIVATIONS

pytest.importorskip("triton", reason="triton is not installed: pip install --no-deps triton, beside torch for the CPU")
from archlab.nn.kernels import triton_kernels, triton_linear

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("name", [name for name in vars(Kernels) if not name.startswith("_")])
def test_the_functions_are_those_of_the_protocol(name):
    wanted = list(inspect.signature(getattr(Kernels, name)).parameters)[1:]
    for kernels in (triton_kernels, torch_kernels):
        assert list(inspect.signature(getattr(kernels, name)).parameters) == wanted


def step(x):
    """How far apart two results may be that are the same: 1e-5 of the largest, or a bf16 step there."""
    largest = x.float().abs().max()
    return 1e-5 * largest if x.dtype == torch.float32 else 2.0**-7 * 2 ** largest.log2().floor()


def wide(x):
    """The same numbers in fp32; of a norm, its gain's."""
    if isinstance(x, Norm):
        return x if x.gain is None else replace(x, gain=x.gain.float())
    return x.float() if isinstance(x, torch.Tensor) else x


def check(name, *inputs, dtype):
    """The Triton function of that name against torch's in fp32."""
    made, wanted = getattr(triton_kernels, name)(*inputs), getattr(torch_kernels, name)(*map(wide, inputs))
    assert made.shape == wanted.shape and made.dtype == dtype
    assert (made.float() - wanted).abs().max() <= step(wanted.to(dtype))


def a_norm(width, device, dtype, kind="gain"):
    """None, or a norm that adds 1 to its gain, or one without a gain."""
    if kind == "none":
        return None
    return Norm(torch.randn(width, device=device).to(dtype) * 0.3 if kind == "gain" else None, 1e-6, 1.0)


def drawn(*shape, device, dtype, scale=1.0):
    return (torch.randn(shape, device=device) * scale).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [(1, 1), (2, 1), (5, 1), (2, 4)])
@pytest.mark.parametrize(
    ("outputs", "width", "processors"),
    [(13, 640, 132), (15, 4608, 1), (35, 2304, 1), (60, 2304, 1), (9, 100, 2), (130, 160, 1)],
)
def test_a_product_after_a_norm(rows, outputs, width, processors, dtype, device, few_processors):
    """Outputs that no block divides, widths that no power of 2 is; by processors 1 to 8 rows a program, 16 or 64."""
    few_processors(processors)
    x = drawn(*rows, width, device=device, dtype=dtype, scale=3.0)
    weight = drawn(outputs, width, device=device, dtype=dtype, scale=width**-0.5)
    check("norm_linear", x, a_norm(width, device, dtype), weight, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["none", "no gain"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_product_without_a_norm_or_a_gain(rows, kind, dtype, device):
    x, weight = (drawn(n, 1, 96, device=device, dtype=dtype) for n in (rows, 24))
    check("norm_linear", x, a_norm(96, device, dtype, kind), weight[:, 0], dtype=dtype)


def a_gated_product(rows, activation, outputs, dtype, device):
    x = drawn(rows, 1, 160, device=device, dtype=dtype)
    weight = drawn(2 * outputs, 160, device=device, dtype=dtype, scale=0.2)
    return x, a_norm(160, device, dtype), weight, activation


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_a_gated_product(rows, activation, device):
    check("gated_linear", *a_gated_product(rows, activation, 7, torch.float32, device), dtype=torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "outputs"), [(1, 30), (3, 70)])
def test_a_gated_product_in_blocks(rows, outputs, dtype, device, few_processors):
    few_processors(1)
    check("gated_linear", *a_gated_product(rows, "gelu_tanh", outputs, dtype, device), dtype=dtype)


def test_a_gated_product_of_many_rows_is_rounded_before_the_gate(device):
    """As cuBLAS leaves it: the gate itself is exact."""
    x, norm, weight, activation = a_gated_product(9, "silu", 1100, torch.bfloat16, device)
    h = torch.nn.functional.linear(triton_kernels.normed(x, norm), weight).float()
    made = triton_kernels.gated_linear(x, norm, weight, activation)
    assert torch.equal(made, (torch.nn.functional.silu(h[..., :1100]) * h[..., 1100:]).bfloat16())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["none", "no gain", "gain"])
@pytest.mark.parametrize("width", [64, 100, 2304])
def test_the_stream_and_a_norm(width, kind, dtype, device):
    x, y = (drawn(2, 3, width, device=device, dtype=dtype) for _ in range(2))
    check("add_norm", x, y, a_norm(width, device, dtype, kind), dtype=dtype)
    check("normed", x, a_norm(width, device, dtype, kind), dtype=dtype)


def test_rows_that_stand_apart(device):
    """Tokens of a longer row, and a weight that is a part of another."""
    x = torch.randn(3, 1, 200, device=device)[..., :160]
    weight = torch.randn(30, 200, device=device)[:21, :160]
    check("norm_linear", x, None, weight, dtype=torch.float32)
    check("norm_linear", x[:1], None, weight, dtype=torch.float32)


@pytest.mark.parametrize(
    ("outputs", "processors", "rows"),
    [(262144, 132, 8), (8192, 132, 4), (3584, 132, 2), (2304, 132, 2), (1152, 132, 1), (640, 132, 1)],
)
def test_a_product_leaves_eight_programs_a_processor(outputs, processors, rows):
    assert triton_linear.rows_a_program(outputs, 8, 1, 8 * processors) == rows


def test_what_cannot_run_is_a_sentence(device):
    x = torch.randn(1, 1, 8, device=device)
    with pytest.raises(ArchlabError, match="last stride"):
        triton_kernels.norm_linear(x, None, torch.randn(8, 6, device=device).T)
    with pytest.raises(ArchlabError, match=r"not torch\.float64"):
        triton_kernels.norm_linear(x.double(), None, torch.randn(6, 8, device=device).double())
    with pytest.raises(ArchlabError, match="not 'tanh'"):
        triton_kernels.gated_linear(x, None, torch.randn(6, 8, device=device), "tanh")
