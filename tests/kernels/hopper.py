"""Compiles what a decoder of bf16 launches, for sm_90 and without a GPU, and prints what became of it: a JSON a kernel.

Run by test_triton_on_hopper in a process of its own: where the interpreter is on, nothing can be compiled.
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction, native_specialize_impl

from archlab.nn.kernels import Heads, Norm, Turn, triton_kernels, triton_launch, triton_prefill

HOPPER = GPUTarget("cuda", 90, 32)
OPTIONS = {"num_warps", "num_stages", "launch_pdl"}
WORDS = ("wgmma.mma_async", "mma.sync", "cp.async.cg", r"ld.global\S*v4", "griddepcontrol.wait")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def compiled(kernel, *args, grid, warmup, **more):
    """In the place of JITFunction.run: compiles the kernel for these arguments, as a launch on a GPU would."""
    options = {name: more.pop(name) for name in OPTIONS & more.keys()}
    given = {name: value for name, value in more.items() if name in kernel.arg_names}
    bound = inspect.signature(kernel.fn).bind(*args, **given).arguments
    types, known, aligned = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value, name = bound[parameter.name], parameter.name
        if parameter.is_constexpr:
            types[name], known[name] = "constexpr", value
        elif isinstance(value, float):
            types[name] = "fp32"
        else:
            types[name], how = native_specialize_impl(CUDABackend, value, False, not parameter.do_not_specialize, True)
            if types[name] == "constexpr":
                known[name] = value
            elif how == "D":
                aligned[(index,)] = [["tt.divisibility", 16]]
    made = triton.compile(ASTSource(kernel, types, known, aligned), target=HOPPER, options=options)
    report(kernel.fn.__name__, made, known)


def report(name, made, known):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        usage = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout).groups())
    ptx = made.asm["ptx"]
    words = {word: len(re.findall(word, ptx)) for word in WORDS}
    found = dict(kernel=name, registers=registers, stack=stack, shared=made.metadata.shared, instructions=words)
    print(json.dumps(found | {"known": {key: value for key, value in known.items() if isinstance(value, int | str)}}))


def each_tile(tuner, *args, **more):
    """In the place of Autotuner.run: all tiles that would be tried."""
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    for config in tuner.early_config_prune(tuner.configs, tuner.nargs, **more):
        tuner.fn.run(*args, **more, **config.all_kwargs())


def empty(*shape):
    return torch.empty(shape, dtype=torch.bfloat16)


def launch_all():
    """The shapes of Gemma 2 9B and 3 12B, of an odd head and of a wide one."""
    norm = Norm(empty(3584), 1e-6, 1.0)
    for rows in (1, 4):
        x = empty(rows, 1, 3584)
        for outputs in (32768, 8192, 3584, 640):
            triton_kernels.norm_linear(x, norm, empty(outputs, 3584))
        triton_kernels.norm_linear(x, None, empty(3584, 3584))
        triton_kernels.gated_linear(x, norm, empty(2 * 14336, 3584), "gelu_tanh")
    triton_kernels.add_norm(x, x, norm)
    for n, kv, width, cap in ((16, 8, 256, 50.0), (8, 1, 256, None), (8, 4, 80, None), (8, 2, 512, None)):
        gain = Norm(empty(width), 1e-6, 1.0)
        heads = Heads(n, kv, width, gain, gain)
        turn, cache = Turn((empty(1, 1, width // 2), empty(1, 1, width // 2))), empty(1, 4096, kv, width)
        qkv = empty(1, 1, (n + 2 * kv) * width)
        triton_kernels.step_attention(qkv, heads, turn, cache, cache, 5, width**-0.5, cap)
        q, k, v = triton_kernels.split_heads(qkv.expand(1, 4096, -1), heads, Turn(x.expand(4096, 1, -1) for x in turn))
        for window in (None, 1024):
            triton_prefill.tiled(q, k, v, window, width**-0.5, cap)


if __name__ == "__main__":
    JITFunction.run, Autotuner.run = compiled, each_tile
    triton_launch.INTERPRETED = True  # tensors may lie on a CPU: nothing is launched
    if "overlap" in sys.argv:
        triton_launch.OVERLAP.value = True
    launch_all()
