"""Triton's kernels on a GPU where there is one; else in Triton's interpreter, which runs them in numpy on the CPU.

The interpreter has to be asked for before triton is imported, and torch.utils.flop_counter imports it: what has been
imported is imported again (its C part, which is the same for both, is not).
"""

import importlib.util
import os
import sys

import numpy as np
import pytest
import torch

GPU = torch.cuda.is_available()


def interpret_triton() -> None:
    """Triton and the kernels, imported (again) with TRITON_INTERPRET=1, and mended."""
    os.environ["TRITON_INTERPRET"] = "1"
    stale = ("triton", "archlab.nn.kernels.triton")
    for name in [name for name in sys.modules if name.startswith(stale) and not name.startswith("triton._C")]:
        del sys.modules[name]
    mend_interpreter()


def mend_interpreter() -> None:
    """Three faults of triton 3.6's interpreter: its scalars are arrays of one, which numpy 2.4 makes no int of; it cuts
    fp32 to bfloat16 where a GPU rounds; and in a dot it multiplies the bits of bfloat16, not the values."""
    from triton.language import bfloat16, float32
    from triton.runtime import interpreter

    builder, patch = interpreter.InterpreterBuilder, interpreter._patch_lang_tensor
    cast, dot = builder.cast_impl, builder.create_dot

    def with_index(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def rounded(self, x, dtype):
        kinds = x.dtype.scalar, dtype.scalar
        if kinds == (float32, bfloat16):
            bits = torch.from_numpy(np.ascontiguousarray(x.data)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        elif kinds == (bfloat16, float32):
            bits = (x.data.astype(np.uint32) << 16).view(np.float32)
        else:
            return cast(self, x, dtype)
        return interpreter.TensorHandle(bits, dtype.scalar)

    def of_values(self, a, b, *rest):
        a, b = (self.cast_impl(x, float32) if x.dtype.scalar == bfloat16 else x for x in (a, b))
        return dot(self, a, b, *rest)

    interpreter._patch_lang_tensor = with_index
    builder.cast_impl, builder.create_dot = rounded, of_values


if importlib.util.find_spec("triton") and not GPU:
    interpret_triton()


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if GPU else "cpu")


@pytest.fixture
def few_processors(monkeypatch):
    """few_processors(n): a GPU of n processors, so that small products have as many rows a program as large ones."""
    from archlab.nn.kernels import triton_decode, triton_linear

    def take(count: int) -> None:
        for module in (triton_decode, triton_linear):
            monkeypatch.setattr(module, "processors", lambda device: count)

    return take


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)
