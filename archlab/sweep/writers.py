"""Who writes: a name for this process in the names of files, by which another can tell whether it is still there."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from pathlib import Path

LONG_AGO = 3600.0
"""Seconds after which a file of another machine's process is taken to be left over."""

_WRITER = re.compile(r"\.([0-9a-f]{8})-(\d+)(?=\.|$)")
_NUMBER = re.compile(r"\.(\d+)\.part$")  # a report's


def writer() -> str:
    """This process: some digits of its machine's name, and its number."""
    return f"{_machine()}-{os.getpid()}"


def is_gone(path: Path) -> bool:
    """Whether the process that a file or folder is named after (NAME.WRITER or NAME.WRITER.REST) is there no more.

    To be asked before this process writes: what has its number by then is an earlier one's.
    """
    if found := _WRITER.search(path.name):
        machine, number = found.groups()
        if machine == _machine():
            return _ended(int(number))
    elif found := _NUMBER.search(path.name):
        return _ended(int(found[1]))
    try:
        return time.time() - path.stat().st_mtime > LONG_AGO
    except OSError:
        return False


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _ended(number: int) -> bool:
    if number == os.getpid():
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False
