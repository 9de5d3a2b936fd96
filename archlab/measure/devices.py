"""The local device: which, how much memory it has left, and in which format it is timed."""

from __future__ import annotations

from pathlib import Path

import torch

from archlab.errors import ArchlabError, nearest
from archlab.measure.provenance import cpu_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Name of a precision -> the format that the module is built in."""

CGROUP = Path("/sys/fs/cgroup")


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device named, or the GPU if there is one, else the CPU. Raises ArchlabError."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        hint = nearest(str(device), ("cpu", "cuda"))
        raise ArchlabError(f"device={str(device)!r} must be cpu, cuda or cuda:N{hint}") from None
    if found.type not in ("cpu", "cuda"):
        raise ArchlabError(f"device={str(device)!r} must be cpu or cuda: others cannot be timed yet")
    if found.type == "cuda":
        return _cuda(found)
    return found


def _cuda(device: torch.device) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        raise ArchlabError(f"device={str(device)!r} is not there: torch {torch.__version__} sees {count} CUDA devices")
    return torch.device("cuda", index)


def find_dtype(dtype: str | torch.dtype | None, device: torch.device) -> str:
    """The name of a format: the one asked for, else bf16 on a GPU and fp32 on a CPU. Raises ArchlabError."""
    if dtype is None:
        return "bf16" if device.type == "cuda" else "fp32"
    for name, known in DTYPES.items():
        if dtype in (name, known):
            if name == "fp16" and device.type == "cpu":
                raise ArchlabError("dtype=fp16 is not timed on a CPU, which emulates it; use fp32 or bf16")
            return name
    raise ArchlabError(f"dtype={str(dtype)!r} must be one of {', '.join(DTYPES)}{nearest(str(dtype), DTYPES)}")


def device_name(device: torch.device) -> str:
    """'NVIDIA H200', or 'AMD EPYC, 2 threads': what a result is filed under."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} threads"


def total_bytes(device: torch.device) -> int:
    """Memory that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return _meminfo("MemTotal") or 1


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be allocated; None where the system does not say."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    known = [n for n in (_meminfo("MemAvailable"), _cgroup_left()) if n is not None]
    return min(known) if known else None


def release(device: torch.device) -> None:
    """Gives memory that torch's allocator keeps back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _meminfo(key: str) -> int | None:
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)


def _cgroup_left() -> int | None:
    """What a container's limit (cgroup v2) leaves, page cache that can be dropped taken as free."""
    try:
        limit, used = (CGROUP / "memory.max").read_text().strip(), int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
