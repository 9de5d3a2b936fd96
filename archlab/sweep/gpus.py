"""The points of a run that are timed, spread over this machine's GPUs: a process for each, which sees that one alone.

The processes wait for their GPU more than they compute: they do not disturb each other where each has a core.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Timed = Callable[[Path, Mapping[str, Any]], Rows]
"""(file of raw records, points) -> rows."""

START = "spawn"
"""How the processes start: with nothing of the parent's, whose torch may hold a GPU already."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus() -> list[str]:
    """What names each GPU that this process may use, for CUDA_VISIBLE_DEVICES; none where there is one or none."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return [] if count < 2 else named[:count] if len(named) >= count else [str(n) for n in range(count)]


def timed_on_each(places: list[str], points: Mapping[str, Any], raw: Path, timed: Timed) -> Rows:
    """What `timed` finds for the points, each GPU taking every n-th: rows in the order of the points."""
    names = [[*points][n :: len(places)] for n in range(len(places))]
    shares = [(place, own) for place, own in zip(places, names, strict=True) if own]
    files = [raw.with_name(f"{raw.stem}.{n}{raw.suffix}") for n in range(len(shares))]
    pools = [
        ProcessPoolExecutor(1, multiprocessing.get_context(START), _only, (place,)) for place, _ in shares
    ]  # one for each GPU: what a process sees is settled before it starts torch
    try:
        waiting = [
            pool.submit(timed, file, {name: points[name] for name in own})
            for pool, file, (_, own) in zip(pools, files, shares, strict=True)
        ]
        found = [row for future in waiting for row in future.result()]
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
        _join(files, raw)
    order = {name: n for n, name in enumerate(points)}
    return sorted(found, key=lambda row: order[row["point"]])


def _only(place: str) -> None:
    os.environ[VISIBLE] = place


def _join(files: list[Path], raw: Path) -> None:
    """The raw records of all in one file."""
    for file in files:
        if file.is_file():
            with raw.open("ab") as whole:
                whole.write(file.read_bytes())
            file.unlink()
