"""Who made a run's numbers, and how to make them again. Starts no torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from archlab import __version__
from archlab.measure.provenance import cpu_model, git_state

PACKAGES = ("torch", "numpy", "pandas", "hydra-core", "plotly", "pyarrow")


def hash_of(config: Any) -> str:
    """sha256 of the canonical JSON: the same keys and values, the same hash."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def provenance(command: str, started: datetime, config: Any) -> dict[str, Any]:
    """Command, versions, commit, machine, time and the hash of what was asked."""
    git = git_state()
    commit = None if git is None else git["commit"][:12] + (" with changes" if git["dirty"] else "")
    return {
        "command": command,
        "archlab": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": cpu_model(),
        "started_utc": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 2),
        "config_hash": hash_of(config),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
