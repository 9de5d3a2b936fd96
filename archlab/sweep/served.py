"""Which points of a run, where and at which work, have maps of batches and rooflines: a few, as each is a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from archlab.analyzers.memory import Setting, setting
from archlab.config import Serving, load_serving
from archlab.errors import ArchlabError
from archlab.report.thin import evenly
from archlab.spec import ModelSpec
from archlab.sweep.axes import HARDWARE_KEYS, PLACE_KEYS
from archlab.sweep.block import Block, workloads_of
from archlab.workload import Workload

MOST_DEVICES = 3
MOST_PLACES = 12
"""Places are devices, each in every precision and by every engine of the run."""


@dataclass(frozen=True)
class Place:
    """Where points run, by the names that the rows have."""

    hardware: str
    precision: str
    engine: str
    at: Setting


@dataclass(frozen=True)
class Work:
    """What points are given, by the name that the rows have."""

    name: str
    serving: Serving
    batch: int
    context: int

    def of(self, spec: ModelSpec) -> Workload:
        """The prefill of a model."""
        return self.serving.work_for(spec).resized(self.batch, self.context)


@dataclass(frozen=True)
class Served:
    """Points at some places and works: the released, those on a front, and the others."""

    ranks: Sequence[Mapping[str, ModelSpec]]
    places: Sequence[Place]
    works: Sequence[Work]

    def some(self, most: int) -> dict[str, ModelSpec]:
        """So many of the points, the released first; of those that are alike an even choice, or the middle one."""
        chosen: dict[str, ModelSpec] = {}
        for points in self.ranks:
            room, names = most - len(chosen), list(points)
            even = evenly(names, room) if room > 1 or len(names) < 2 else names[len(names) // 2 :][:room]
            chosen |= {name: points[name] for name in even}
        return chosen

    def reaches(self, most: int) -> list[Work]:
        """So many of the works, the shortest and the longest among them."""
        return evenly(sorted(self.works, key=lambda work: (work.context, work.batch)), most)


def of_blocks(specs: Mapping[str, ModelSpec], blocks: Iterable[Block], rows: pd.DataFrame) -> Served:
    """What a sweep ran; nothing where no point stands.

    Where an axis of its grid says where, no place is known by its name, and there is none.
    """
    if not specs:
        return Served([], [], [])
    able = [b for b in blocks if not any(key in b.grid for key in (*PLACE_KEYS, *HARDWARE_KEYS))]
    places = {(b.device.name, b.precision.name, b.engine_name): b for b in able}
    found = [Place(*names, at) for names, b in places.items() if (at := _setting(b)) is not None]
    return Served(_ranks(specs, rows), _few(found), _works(able, rows))


def of_models(specs: Iterable[ModelSpec], workloads: Sequence[str], hardware: Sequence[str], precision: str) -> Served:
    """What a comparison computes."""
    places = [Place(device, precision, "ideal", setting(device, precision, "ideal")) for device in hardware]
    servings = [(name, load_serving(name)) for name in workloads]
    works = [Work(name, serving, serving.batch, serving.context) for name, serving in servings]
    return Served([{spec.name: spec for spec in specs}], _few(places), works)


def _setting(block: Block) -> Setting | None:
    try:
        return setting(block.device, block.precision, block.engine)
    except ArchlabError:
        return None  # its rows say why


def _few(places: Sequence[Place]) -> list[Place]:
    devices = evenly(dict.fromkeys(place.hardware for place in places), MOST_DEVICES)
    return evenly([place for place in places if place.hardware in devices], MOST_PLACES)


def _works(blocks: Iterable[Block], rows: pd.DataFrame) -> list[Work]:
    found: dict[str, Work] = {}
    for block in blocks:
        mine = rows[(rows["base"] == block.base) & rows["workload"].notna() & rows["context"].notna()]
        for name, prefill in workloads_of(block, mine):
            if name == block.workload or name.startswith(f"{block.workload} "):
                found.setdefault(name, Work(name, block.serving, prefill.batch, prefill.context))
    return list(found.values())


def _ranks(specs: Mapping[str, ModelSpec], rows: pd.DataFrame) -> list[dict[str, ModelSpec]]:
    """The released shapes, then those on a front, then the others."""
    rank = dict.fromkeys(specs, 2)
    for n, column in ((1, "front"), (0, "is_base")):
        if column in rows.columns:
            on = set(rows.loc[rows[column].fillna(False).astype(bool), "point"])
            rank |= {name: n for name in specs if name in on}
    return [{name: specs[name] for name in specs if rank[name] == n} for n in range(3)]
