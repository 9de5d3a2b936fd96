"""Files written whole or not at all: each under a temporary name, and all renamed once every one is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from archlab.errors import SpecError


def path_of(path: Any, what: str) -> Path:
    """A path that a caller gave. Raises SpecError for what is none."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise SpecError(f"{what} must be a path, not {_short(path)}")
    return Path(path)


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"a value of type {type(value).__name__}"


def write_whole(files: Mapping[Path, Callable[[Path], Any]]) -> None:
    """Writes each file by its function. Raises SpecError where one cannot be written, and then none is changed."""
    new = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    at = next(iter(files))
    try:
        for at, write in files.items():
            if at.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))  # before any is renamed
            new[at].touch()  # the system's own reason, before a library wraps it in one of its own
            write(new[at])
        for at, temporary in new.items():
            temporary.replace(at)
    except OSError as problem:
        raise SpecError(f"{at} cannot be written: {reason(problem)}") from None
    finally:
        for temporary in new.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> list[Path]:
    """Makes a folder and those above it, and says which are new, innermost first. Raises SpecError."""
    fresh = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SpecError(f"{path} cannot be written: it is a file, and a folder is needed") from None
    except OSError as problem:
        raise SpecError(f"{path} cannot be written: {reason(problem)}") from None
    return fresh


def drop_folders(folders: list[Path]) -> None:
    """Takes away folders that are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def reason(problem: OSError) -> str:
    """What the system says, in lower case."""
    return (problem.strerror or str(problem) or "unknown error").lower()
