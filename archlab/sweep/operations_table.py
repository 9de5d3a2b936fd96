"""Kinds of operation as a roofline shows them: a row a point, a place, a workload, a phase and a kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from archlab.analyzers.operations import Operation, operations, whole
from archlab.errors import ArchlabError
from archlab.ledger import ledger
from archlab.spec import ModelSpec
from archlab.sweep.measures import Asked
from archlab.sweep.served import Place, Served
from archlab.workload import Workload

BATCHES = tuple(2**n for n in range(9))
MOST, MOST_POINTS, REACHES = 12, 5, 2
"""Rooflines in all, points that have one, and workloads."""


def operations_table(served: Served) -> pd.DataFrame:
    """FLOPs, bytes and the bound in seconds of each kind of operation in a prefill and in the decode step after it.

    `operation` is a kind's name (archlab.analyzers.operations), or step: all of them, of decode at several batches.
    """
    places = {(p.hardware, p.precision): p for p in served.places if Asked(p.at).timed is not None}
    if not places:
        return pd.DataFrame()
    works = served.reaches(max(1, min(REACHES, MOST // len(places))))
    points = served.some(min(MOST_POINTS, max(1, MOST // (len(places) * max(1, len(works))))))
    return pd.DataFrame([
        {"point": name, "hardware": place.hardware, "precision": place.precision, "workload": work.name} | row
        for name, spec in points.items() for place in places.values() for work in works
        for row in _rows(spec, work.of(spec), place)
    ])  # fmt: skip


def _rows(spec: ModelSpec, work: Workload, place: Place) -> Iterator[dict[str, Any]]:
    try:
        spec.admit(work)
    except ArchlabError:
        return  # the rows of the run say why
    yield from _phase("prefill", spec, work, place)
    if spec.decodes:
        yield from _phase("decode", spec, work.decode(), place)


def _phase(phase: str, spec: ModelSpec, work: Workload, place: Place) -> Iterator[dict[str, Any]]:
    device, precision = Asked(place.at).timed, place.at.precision
    assert device is not None
    known = {"phase": phase, "context": work.context}
    for found in operations(ledger(spec, work), device, precision):
        yield known | {"batch": work.batch} | _numbers(found)
    batches = sorted({*BATCHES, work.batch}) if phase == "decode" else [work.batch]
    column = np.array(batches, dtype=np.float64)
    step = whole(
        ledger(spec, work.resized(column, work.context).decode() if phase == "decode" else work), device, precision
    )
    for i, batch in enumerate(batches):
        yield known | {"batch": batch} | _numbers(step, i)


def _numbers(found: Operation, i: int = 0) -> dict[str, Any]:
    """Of the i-th batch where there are several."""
    numbers = {"flops": found.flops, "bytes": found.bytes, "bound_s": found.seconds}
    at = {name: float(np.ravel(value)[min(i, np.size(value) - 1)]) for name, value in numbers.items()}
    return {"operation": found.name} | at
