"""A block of a sweep: a model, a workload, a device, a precision and an engine, over the axes of its grid.

It is computed and stored part by part. A job of Hydra's is a block for each of its devices, or some of its parts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd

from archlab import __version__
from archlab.analyzers.memory import setting
from archlab.assemble import resolve
from archlab.config import Serving, load_workload, serving_from
from archlab.engines import load_engine
from archlab.engines.base import Engine
from archlab.errors import ArchlabError
from archlab.hardware import Hardware, hardware_from
from archlab.measure.provenance import code_version
from archlab.paths import data_dir
from archlab.precision import Precision, precision_from
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.sweep.axes import PLACE_KEYS, WORKLOAD_KEYS, axis_values, bare_key
from archlab.sweep.evaluate import Survey, survey
from archlab.sweep.hold import Budget, budget
from archlab.sweep.measures import Asked
from archlab.sweep.notable import Wanted, marginal_rows, notable
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import label
from archlab.sweep.rows import given_values, named_rows, plain_value, point_spec
from archlab.sweep.store import block_name, facts_of, part_name, write_config, write_part
from archlab.workload import Workload

CALCULATING_CODE = (".", "analyzers", "blocks", "columns", "engines", "sweep")
"""The sources that decide what a block's numbers are: with other code, a stored block is not the same block."""

DATA = ("runtime.yaml", "text.yaml")
"""Files of conf/ that do, too."""

ASKED = (
    "hardware", "precision", "engine", "limits", "per_character", "hold", "hold_by", "hold_workload", "hold_multiple",
)  # fmt: skip
"""Settings of a job that go into its block as they are."""

PART = 2**17
"""Points of a part, where every row of it is stored."""

LARGE_PART = 2**20
"""Points of a part of which only rows of note are stored."""


@dataclass(frozen=True)
class Block:
    """A job's configuration, read. Names carry what the command line changed in them."""

    spec: ModelSpec
    base: str
    serving: Serving
    workload: str
    device: Hardware
    precision: Precision
    engine: Engine
    engine_name: str
    limits: bool
    grid: Mapping[str, list[Any]]
    hold: str | None
    hold_by: str
    hold_at: Workload
    hold_multiple: int | None
    wanted: Wanted
    config: Mapping[str, Any]

    @property
    def work(self) -> Workload:
        """The prefill of the workload."""
        return self.serving.work_for(self.spec)

    @cached_property
    def name(self) -> str:
        """Of its files."""
        return block_name(self.config)

    @property
    def points(self) -> int:
        """How many there are."""
        return prod(len(values) for values in self.grid.values())

    @cached_property
    def budget(self) -> Budget | None:
        """What each point holds."""
        if not self.hold:
            return None
        at = setting(self.device, self.precision, self.engine) if self.hold in ("kv_cache", "memory") else None
        return budget(self.hold, self.spec, self.hold_at, self.hold_multiple, self.hold_by, at)


def block_config(plain: Mapping[str, Any], model: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job decides its numbers: the model's keys with the command line's laid over them, the rest as read.

    Raises ArchlabError: a key that is wrong is wrong for every point.
    """
    own = {bare_key(k): v for k, v in changed.items() if k.startswith("model.")}
    asked = {k: plain[k] for k in ASKED}
    return {
        **asked,
        "model": override(model, own),
        "workload": asdict(serving_from(plain["workload"])),
        "grid": {k: axis_values(k, v) for k, v in plain["grid"].items()},
        "changed": dict(changed),
        "archlab": __version__,
        "code": code_version(CALCULATING_CODE),
        "wanted": asdict(Wanted(**{k: plain[k] for k in ("rows", "sample", "where", "objectives", "epsilon")})),
        "data": hash_of([(data_dir("conf") / name).read_text(encoding="utf-8") for name in DATA]),
    }


def read_block(config: Mapping[str, Any]) -> Block:
    """A block from its configuration. Raises ArchlabError."""
    spec, serving = resolve(config["model"]), Serving(**config["workload"])
    device, precision = hardware_from(config["hardware"]), precision_from(config["precision"])
    engine = engine_from(config["engine"])
    return Block(
        spec=spec,
        base=_label(spec.name, "model", config),
        serving=serving,
        workload=_label(serving.name, "workload", config),
        device=replace(device, name=_label(device.name, "hardware", config)),
        precision=replace(precision, name=_label(precision.name, "precision", config)),
        engine=engine,
        engine_name=_label(engine.name, "engine", config),
        limits=config["limits"],
        grid=config["grid"],
        hold=config["hold"],
        hold_by=config["hold_by"],
        hold_at=load_workload(config["hold_workload"] or serving.work_for(spec), spec),
        hold_multiple=config["hold_multiple"],
        wanted=Wanted(**config["wanted"]),
        config=config,
    )


def engine_from(data: Mapping[str, Any]) -> Engine:
    """An engine from the keys of a file of conf/engine: its name, and its options by their own names."""
    return load_engine(data["name"], {k: v for k, v in data.items() if k != "name"})


def _label(name: str, group: str, config: Mapping[str, Any]) -> str:
    """A group's name and what the command line changed in it, as it was read."""
    changed = [k for k in config["changed"] if k.startswith(f"{group}.")]
    return label(name, {k.removeprefix(f"{group}."): _at(config[group], k.removeprefix(f"{group}.")) for k in changed})


def _at(data: Mapping[str, Any], key: str) -> Any:
    found: Any = data
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None  # null took the section away
    return found


def run_block(
    block: Block, folder: Path, part: int = 0, of: int = 1, made: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Computes and stores the parts of a block that are not there yet, or every `of`-th of them from `part` on.

    made  what a part's metadata says of how it came about: the command
    Yields of each part its name, its number, its points, and whether it was there. Raises ArchlabError.
    """
    write_config(folder, block.config)
    wrong = _unable(block)
    space = _survey(block, placed=wrong is None)
    for number, piece in enumerate(space.parts(PART if block.wanted.rows == "all" else LARGE_PART)):
        if number % of != part:
            continue
        name, started = part_name(block.name, piece), time.perf_counter()
        facts = facts_of(folder, name)
        if facts is None:
            rows, facts, more = _part(block, space, piece, wrong)
            seconds = round(time.perf_counter() - started, 3)
            facts |= {"seconds": seconds, "code": block.config["code"], **(made or {})}
            write_part(folder, name, rows, facts, more, block.grid)
            facts["fresh"] = True
        done = {k: facts[k] for k in ("points", "ok", "excluded")} | {"fresh": facts.get("fresh", False)}
        yield {"block": block.name, "part": name, "number": number, **done}


def _survey(block: Block, placed: bool) -> Survey:
    if placed:
        at = setting(block.device, block.precision, block.engine)
        asked = Asked(at, memory=True, limits=block.limits, per_character=block.config["per_character"])
    else:  # it cannot run there: the shapes, without memory and times
        asked = Asked(setting(None, block.precision, "ideal"))
    grid = block.grid if placed else {k: v for k, v in block.grid.items() if not k.startswith(("hardware", "engine"))}
    found = survey(block.spec, block.work, asked, grid, hold=block.budget if placed else None)
    found.reuse = block.wanted.rows != "all"
    return found


def _part(
    block: Block, space: Survey, piece: tuple[slice, ...], wrong: tuple[str, str] | None
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame | None]:
    """(rows, facts, marginals) of a part of a block."""
    points = space.points(piece)
    chosen = notable(points, block.wanted if wrong is None else replace(block.wanted, where=()))
    rows = named_rows(block, points, chosen)
    if wrong is not None:
        good = rows["status"] == "ok"
        for column, said in zip(("status", "reason"), wrong, strict=True):
            rows[column] = rows[column].mask(good, said)
    counts = {"points": len(points), "ok": chosen.n_ok, "excluded": chosen.n_excluded}
    facts = {**counts, "inexact": sorted(points.inexact), "block": block.name}
    return rows, facts, marginal_rows(points, piece, block.wanted)


def _unable(block: Block) -> tuple[str, str] | None:
    """(status, sentence) where no point can run: refused by the engine, or failed for want of a rate."""
    if any(key in block.grid for key in PLACE_KEYS):
        return None
    try:
        setting(block.device, block.precision, block.engine)
    except ArchlabError as problem:
        return "refused", str(problem)
    if block.limits:
        return None
    try:
        block.device.flops_per_s(block.precision.compute)
    except ArchlabError as problem:
        return "failed", str(problem)
    return None


@dataclass(frozen=True)
class Point:
    """A point that stands: its model, and the values of the axes that made it."""

    base: str
    spec: ModelSpec
    axes: Mapping[str, Any]


def standing_points(block: Block, frame: pd.DataFrame, most: int) -> Iterator[tuple[str, Point]]:
    """(label, point) of a block's rows, the first `most` that stand; values are the grid's own."""
    standing = (row for row in frame.to_dict("records") if row["status"] == "ok")
    own = {key: given_values(values) for key, values in block.grid.items()}
    for row in islice(standing, most):
        axes = {
            k: own[k].get(repr(plain_value(row[k])), plain_value(row[k]))
            for k in block.grid
            if k not in WORKLOAD_KEYS and not k.startswith(("hardware", "precision", "engine"))
        }
        shape = {bare_key(k): v for k, v in axes.items()}
        yield row["point"], Point(block.base, point_spec(block.spec, shape, block.budget, row), axes)


def workloads_of(block: Block, frame: pd.DataFrame) -> Iterator[tuple[str, Workload]]:
    """(name, prefill) of each workload of a block's rows, those of its axes among them."""
    for name, batch, context in (
        frame[["workload", "batch", "context"]].drop_duplicates().itertuples(index=False, name=None)
    ):
        yield name, block.work.resized(int(batch), int(context))
