"""archlab search: the Pareto front of a study's space, found by trials that learn from those before them.

A space of no more points than trials is tried whole, so its front is exact. A larger one is searched by Optuna, from
the base's own point on, NSGA-II a population at a time. Each batch is evaluated at once. What was tried is in
OUT/search.log before it is used: a search that was stopped goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from archlab.errors import SpecError
from archlab.sweep.provenance import hash_of, provenance
from archlab.sweep.results import write_table, write_text
from archlab.sweep.search_results import document, trials_table
from archlab.sweep.search_setup import Searched, prepare
from archlab.sweep.search_space import every_point, size
from archlab.sweep.search_words import Asked

if TYPE_CHECKING:
    from archlab.sweep.search_log import Log

Progress = Callable[[int, int], None]
"""Called with (trials finished, trials in all)."""

BATCH = 50  # points of a space that is tried whole, evaluated at once


@dataclass(frozen=True)
class Found:
    """A finished search: its folder, a row a trial, the numbers of the front's rows, and search.json."""

    folder: Path
    trials: pd.DataFrame
    front: list[int]
    document: Mapping[str, Any]


def search(
    asked: Asked, out: Path | None = None, command: str = "", progress: Progress = lambda done, of: None
) -> Found:
    """Runs a search, or goes on with it, until it has as many trials as the study says. Raises ArchlabError.

    out  its folder; by default runs/NAME/search-HASH, the same for the same search
    Writes OUT/trials.parquet (a row a trial) and OUT/search.json (the front, and where the numbers come from).
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    opened = _log_class()
    searched = prepare(asked)
    config = searched.config()
    name = f"{asked.name}-{hash_of(config)[:12]}"
    folder = out or Path("runs") / asked.name / f"search-{name[-12:]}"
    how = searched.how
    with opened(folder, name, searched.dims, searched.rules.objectives, how.sampler, how.seed) as log:
        _run(searched, log, progress)
        points = log.finished()
        table, best = trials_table(searched, points)
        facts = provenance(command, started, config)
        facts["packages"]["optuna"] = metadata.version("optuna")
        told = document(searched, table, best, facts, time.perf_counter() - clock)
        write_table(folder / "trials.parquet", table, facts)
        write_text(folder / "search.json", json.dumps(told, indent=1, allow_nan=False, default=str) + "\n")
    return Found(folder, table, best, told)


def _log_class() -> type[Log]:
    try:
        from archlab.sweep.search_log import Log
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "optuna":
            raise
        raise SpecError('search needs Optuna: pip install "archlab[search]"') from None
    return Log


def _run(searched: Searched, log: Log, progress: Progress) -> None:
    total = searched.how.trials
    count = size(searched.dims)
    if count is not None and count <= total:
        _every(searched, log, count, progress)
    elif all(dim.has(searched.base.get(dim.key)) for dim in searched.dims):
        log.start_at(searched.base)
    while count is None or count > total:
        done = len(log.finished())
        progress(done, total)
        if done >= total:
            return
        drawn = log.draw(total - done)
        log.tell(drawn, searched.verdicts([one.values for one in drawn]))


def _every(searched: Searched, log: Log, count: int, progress: Progress) -> None:
    """Tries the points of a space that were not tried."""
    tried = log.finished()
    seen = {repr(dict(point)) for point in tried}
    missing = [p for p in every_point(searched.dims) if repr(p) not in seen]
    room = searched.how.trials - len(tried)
    rest = iter(missing[: max(room, 0)])
    while batch := list(islice(rest, BATCH)):
        log.add(batch, searched.verdicts(batch))
        progress(min(count, len(log.finished())), count)
