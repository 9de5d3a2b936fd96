"""Where the shipped data lies: beside the package in a checkout, inside it in a wheel; and the user's own."""

from __future__ import annotations

import os
from pathlib import Path

from archlab.errors import SpecError

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
    """name -> file of a group (model, hardware, workload, precision), shipped and the user's own.

    Raises SpecError for a file of the user's that has a shipped one's name: a silent change of a published model.
    """
    shipped, own = shipped_files(group), _files(user_dir() / group)
    for name in own:
        if name in shipped:
            raise SpecError(f"{own[name]} has the name of a shipped {group}; rename it")
    return shipped | own


def shipped_files(group: str) -> dict[str, Path]:
    """The same of those that archlab brings."""
    return _files(data_dir("conf") / group)


def _files(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in folder.glob("*.yaml") if not p.name.startswith("_")} if folder.is_dir() else {}
