"""What a process takes of a GPU besides its tensors: context, cuBLAS workspaces, CUDA graphs.

The first two are measured in a process of their own, since they come once in a process and stay: a child takes a
context, says so, and goes on as it is told. What it takes of the device is read here, from the driver's free memory,
before and after; so nothing else may run on the device meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from archlab.measure.devices import device_name, release
from archlab.measure.provenance import gpu_state, provenance

CHILD = """
import json, sys, torch
device = torch.device("cuda", int(sys.argv[1]))
def say(**found):
    torch.cuda.synchronize(device)
    found |= {"allocated": torch.cuda.memory_allocated(device), "reserved": torch.cuda.memory_reserved(device)}
    print(json.dumps(found), flush=True)
    sys.stdin.readline()
a = torch.ones(1, device=device)
say(what="context")
a = torch.ones(256, 256, device=device, dtype=torch.bfloat16)
before = torch.cuda.memory_allocated(device)
b = a @ a
say(what="cublas_workspace", bytes=torch.cuda.memory_allocated(device) - before - b.nbytes)
before = torch.cuda.memory_allocated(device)
c = torch.nn.functional.linear(a, a, a[0])
say(what="cublaslt_workspace", bytes=torch.cuda.memory_allocated(device) - before - c.nbytes)
"""
"""A process that takes a context, then a product, then one with a bias; waits for a line after each."""

Step = Callable[[], Any]


class Child:
    """The process: each answer is a line of JSON, and a line lets it go on."""

    def __init__(self, device: torch.device) -> None:
        command = [sys.executable, "-c", CHILD, str(device.index or 0)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> dict[str, Any]:
        """What it says next. Raises RuntimeError where it ended instead."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise RuntimeError("the process that was to take a CUDA context ended without a word")
        return json.loads(line)

    def go_on(self) -> None:
        """Lets it take the next step."""
        if self.process.stdin:
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


def measure_runtime(device: torch.device, child: Callable[[torch.device], Child] = Child) -> dict[str, Any]:
    """The record: bytes of a CUDA context (kernels of torch included, loaded as they are needed), of the workspaces of
    a matrix product and of one with a bias (allocated by torch, kept), and what the context has grown to by then.
    """
    before = free_bytes(device)
    process = child(device)
    try:
        found: dict[str, Any] = {}
        said = process.answer()
        found["context_bytes"] = before - free_bytes(device) - said["reserved"]
        for name in ("cublas_workspace", "cublaslt_workspace"):
            process.go_on()
            said = process.answer()
            found[f"{name}_bytes"] = said["bytes"]
        found["context_after_products_bytes"] = before - free_bytes(device) - said["reserved"]
    finally:
        process.end()
    origin = provenance(device) | {"gpu_state": gpu_state(device)}
    return {"device": device_name(device), "status": "ok", "reason": "", **found, "provenance": origin}


def measure_graph(step: Step, device: torch.device) -> dict[str, int]:
    """Bytes of a CUDA graph of a step: taken of the device, and in the pool that it keeps to itself.

    The step must be one that can be captured; it runs three times first.
    """
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize(device)
    release(device)
    free, reserved = free_bytes(device), torch.cuda.memory_reserved(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    graph.replay()
    torch.cuda.synchronize(device)
    pool = torch.cuda.memory_reserved(device) - reserved
    found = {"graph_bytes": free - free_bytes(device), "graph_pool_bytes": pool}
    del graph
    release(device)
    return found


def free_bytes(device: torch.device) -> int:
    """Bytes that the driver has free."""
    torch.cuda.synchronize(device)
    return torch.cuda.mem_get_info(device)[0]
