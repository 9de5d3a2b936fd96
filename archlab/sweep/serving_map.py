"""Memory and the time of a decode step over contexts and batches: a row a point, a place, a context and a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from archlab.algebra import Number
from archlab.analyzers.fit import max_batch, workload
from archlab.analyzers.kernels import kernels
from archlab.analyzers.latency import bound, calibration_of, predicted
from archlab.analyzers.memory import memory_in
from archlab.errors import ArchlabError
from archlab.ledger import ledger
from archlab.spec import ModelSpec
from archlab.sweep.measures import Asked
from archlab.sweep.served import Place, Served
from archlab.workload import Workload

BATCHES = tuple(2**n for n in range(10))
SHORTEST = 1024
REACHES = 2
"""Contexts of the workloads at which a point without a map has batches."""
MOST_MAPS, MOST_MAPPED = 12, 6
MOST_CURVES, MOST_CURVED = 48, 12
"""Pictures in all, and points that have them: maps, and batches at the contexts of the workloads alone."""


def batches_table(served: Served) -> pd.DataFrame:
    """What `archlab.fit` says of each context and batch: bytes needed, the budget, whether it fits, the largest batch.

    Beside it the bound on a decode step there and, where the device is calibrated, its prediction, in seconds. A
    context has the batches of BATCHES and the largest that fits. Of a run that has more points and places, a few.
    """
    if not served.places:
        return pd.DataFrame()
    reaches = [work.context for work in served.reaches(REACHES)] or [SHORTEST]
    mapped = served.some(_each(MOST_MAPPED, MOST_MAPS, len(served.places)))
    curved = served.some(_each(MOST_CURVED, MOST_CURVES, len(served.places) * len(reaches)))
    frames = [
        _rows(name, spec, place, [*_contexts(spec, max(reaches)), *reaches] if name in mapped else reaches)
        for name, spec in (curved | mapped).items()
        for place in served.places
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _each(points: int, pictures: int, places: int) -> int:
    """So many points, or fewer where each has a picture at many places."""
    return min(points, max(1, pictures // places))


def _contexts(spec: ModelSpec, longest: int) -> list[int]:
    """Powers of two up to the trained context, or to the longest of the run."""
    top = max(spec.context, longest)
    return [2**n for n in range(24) if SHORTEST <= 2**n <= top] or [spec.context]


def _rows(name: str, spec: ModelSpec, place: Place, contexts: Sequence[int]) -> pd.DataFrame:
    at = [c for c in sorted(set(contexts)) if _admitted(spec, place, c)]
    if not at:
        return pd.DataFrame()
    most = max_batch(spec, workload(spec, 1, np.array(at, dtype=np.float64)), place.at)
    cells = [cell for context, largest in zip(at, most.tolist(), strict=True) for cell in _cells(context, int(largest))]
    context, batch, largest = (np.array(column, dtype=np.float64) for column in zip(*cells, strict=True))
    numbers = _numbers(spec, workload(spec, batch, context), place)
    known = {"point": name, "hardware": place.hardware, "precision": place.precision, "engine": place.engine}
    own = {"context": context, "batch": batch, "max_batch": largest}
    return pd.DataFrame(known | {k: np.broadcast_to(v, len(cells)) for k, v in (own | numbers).items()})


def _cells(context: int, largest: int) -> Iterator[tuple[int, int, int]]:
    """(context, batch, largest batch): the powers of two, and the largest that fits where it is within them."""
    ends = {largest} if 0 < largest < BATCHES[-1] else set()
    yield from ((context, batch, largest) for batch in sorted({*BATCHES, *ends}))


def _admitted(spec: ModelSpec, place: Place, context: int) -> bool:
    """Whether the model and the engine take so long a context at all."""
    try:
        work = workload(spec, 1, context)
        spec.admit(work)
    except ArchlabError:
        return False
    return all(condition is not False for condition, _ in place.at.engine.rules(work))


def _numbers(spec: ModelSpec, work: Workload, place: Place) -> dict[str, Any]:
    found = memory_in(spec, work, place.at)
    memory = {"memory_bytes": found.needed, "memory_budget_bytes": found.budget, "fits": found.fits}
    return memory | _seconds(spec, work.decode(), Asked(place.at))


def _seconds(spec: ModelSpec, step: Workload, asked: Asked) -> dict[str, Number]:
    """Of one decode step; none where the device has no rate for the format."""
    device, precision = asked.timed, asked.at.precision
    if device is None or not spec.decodes:
        return {}
    rows = ledger(spec, step)
    found: dict[str, Number] = {"decode_bound_s": bound(rows, device, precision).seconds}
    if (calibration := calibration_of(device, precision)) is not None:
        found["decode_predicted_s"] = sum(predicted(kernels(rows, precision), calibration).values())
    return found
