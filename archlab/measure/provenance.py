"""Where a number comes from: code, versions, device and its state. No host names, paths or users.

torch is imported only where its version or its device is asked for: hashing a configuration does not start it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlab import __version__
from archlab.paths import PACKAGE
from archlab.spec import ModelSpec

if TYPE_CHECKING:
    import torch

TIMED_CODE = ("blocks", "nn", "measure")
"""The folders whose code decides what a timed pass does."""

GPU_STATE = (
    "power.limit", "power.draw", "clocks.sm", "clocks.mem", "clocks.max.sm", "temperature.gpu", "ecc.mode.current",
    "mig.mode.current",
)  # fmt: skip
THROTTLE = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # the name since driver 535, and before


def config_hash(spec: ModelSpec) -> str:
    """sha256 of the canonical JSON of the resolved model file: the same keys and values, the same hash."""
    return hashlib.sha256(json.dumps(spec.data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=4)
def code_version(folders: tuple[str, ...] = TIMED_CODE) -> str:
    """16 hex digits over the sources in some folders of the package ("." is its top level alone).

    By default those that decide what a timed pass does. Known without git, and of a dirty tree too.
    """
    digest = hashlib.sha256()
    found = {p for f in folders for p in (PACKAGE.glob("*.py") if f == "." else (PACKAGE / f).rglob("*.py"))}
    for path in sorted(found):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(device: torch.device) -> dict[str, Any]:
    """Code, versions and device. What `gpu_state` says belongs to a moment, and is added by who times.

    `load_1min` is the system's load average: well above the threads used, other programs took part in the timing.
    """
    return {"utc": now(), "load_1min": load_average(), **_constant(device)}


def load_average() -> float | None:
    """Processes that ran or waited to, over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


@lru_cache(maxsize=8)
def _constant(device: torch.device) -> dict[str, Any]:
    code = {"archlab": __version__, "code_version": code_version(), "git": git_state()}
    return code | versions() | hardware(device)


def git_state() -> dict[str, Any] | None:
    """Commit and whether tracked files but the answers (reports/) differ from it; None outside a checkout."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    commit = _output("git", "rev-parse", "HEAD", at=root)
    changes = _output("git", "status", "--porcelain", "-uno", "--", ".", ":(exclude)reports", at=root)
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def versions() -> dict[str, Any]:
    """Of Python, torch, numpy and what torch was built with."""
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "triton": _installed("triton"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """What runs the passes: the CPU and its threads, or the GPU and its size."""
    import torch

    facts: dict[str, Any] = {"cpu": cpu_model(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "gpu_multiprocessors": properties.multi_processor_count,
            "gpu_l2_bytes": getattr(properties, "L2_cache_size", None),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return facts


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def gpu_state(device: torch.device) -> dict[str, str] | None:
    """Driver, power limit, clocks and throttle reasons, as nvidia-smi reads them; None on a CPU or without it.

    To be read while clocks are up: between the warm-up and the samples.
    """
    if device.type != "cuda":
        return None
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    identity = f"--id={device.index or 0}" if uuid is None else f"--id=GPU-{uuid}"
    for throttle in THROTTLE:
        names = ("driver_version", *GPU_STATE, throttle)
        line = _output("nvidia-smi", identity, f"--query-gpu={','.join(names)}", "--format=csv,noheader")
        if line:
            return dict(zip((*names[:-1], "throttle_reasons"), (v.strip() for v in line.split(",")), strict=True))
    return None


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str, at: Path | None = None) -> str | None:
    """What a command prints, None where it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
