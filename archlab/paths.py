"""Where the shipped data lies: beside the package in a checkout, inside it in a wheel; and the user's own."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """The shipped folder `conf` or `sweeps`."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def user_dir() -> Path:
    """The user's own conf/: $ARCHLAB_CONFIG_DIR, else ~/.config/archlab. It need not exist."""
    own = os.environ.get("ARCHLAB_CONFIG_DIR")
    return Path(own) if own else Path.home() / ".config" / "archlab"


def group_files(group: str) -> dict[str, Path]:
    """name -> file of a group (model, hardware, workload, precision); the user's files come before the shipped."""
    found: dict[str, Path] = {}
    for root in (data_dir("conf"), user_dir()):
        folder = root / group
        if folder.is_dir():
            found |= {p.stem: p for p in folder.glob("*.yaml") if not p.name.startswith("_")}
    return found
