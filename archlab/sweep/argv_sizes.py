"""How many points and jobs a sweep has, into how many shares a grid is cut, and which rows are stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from typing import Any

from archlab.sweep.argv_words import GROUPS, LAUNCHER, text_of
from archlab.sweep.block import LARGE_PART, PART

MOST_ROWS = 2**20
"""Points of a run of which every row is stored, where `rows` does not say."""

MOST_TABLE = 20_000
"""Rows of a run's own table, which the report is made of: of more points, the fronts and a sample."""

MOST_PARTS = 64
"""Jobs that share the grid of one model on a cluster, where `parts` does not say."""

LOCAL = ("joblib", "slurm_local", "submitit_local")
JOBS_A_CORE = 3
"""Such jobs for each core of this machine, for the launchers that use those: some end later than others."""


def sizes(given: dict[str, str], axes: Mapping[str, Any]) -> tuple[int, int]:
    """(jobs, points). Says in `given` how many jobs share a grid, and which rows are stored."""
    blocks = prod(len(text_of(given.get(group, "")).split(",")) for group in GROUPS)
    devices = len(text_of(given.get("hardware", "")).split(","))
    each = prod(len(values) for values in axes.values())
    points = each * blocks
    rows = text_of(given.get("rows", "rows=auto"))
    if rows == "auto":
        rows = "all" if points <= MOST_ROWS else "kept"
    pieces = -(-each // (PART if rows == "all" else LARGE_PART))
    parts = int(text_of(given["parts"])) if "parts" in given else min(pieces, _shares(given))
    sample = 0 if points <= MOST_TABLE else max(64, MOST_TABLE // (blocks * pieces))
    given |= {"rows": f"rows={rows}", "sample": f"sample={sample}", "parts": f"parts={parts}"}
    if parts > 1:
        given["part"] = "part=" + ",".join(map(str, range(parts)))
    return blocks // devices * parts, points


def _shares(given: Mapping[str, str]) -> int:
    """Jobs among which a launcher spreads a grid: a job costs it half a second, beside what it computes."""
    launcher = text_of(given.get(LAUNCHER, "=basic"))
    if launcher == "basic":
        return 1
    return JOBS_A_CORE * (os.cpu_count() or 1) if launcher in LOCAL else MOST_PARTS
