"""A block of a sweep: a model, a workload, a device, a precision and an engine, over the axes of its grid.

One parquet file. A job of Hydra's is a block for each of its devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
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
from archlab.spec import ModelSpec, Workload
from archlab.sweep.evaluate import WORKLOAD_KEYS, Points, axis_values, bare_key, evaluate, positions
from archlab.sweep.hold import budget
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import describe_point, label, same_value, write_table, write_text

CALCULATING_CODE = (".", "analyzers", "blocks", "engines", "sweep")
"""The sources that decide what a block's numbers are: with other code, a stored block is not the same block."""

MOST_DESCRIBED = 4096  # points whose shape is spelled out in columns of its own


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
    hold_at: Workload
    hold_multiple: int
    config: Mapping[str, Any]

    @property
    def work(self) -> Workload:
        """The prefill of the workload."""
        return self.serving.work_for(self.spec)


def block_config(plain: Mapping[str, Any], model: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job decides its numbers: the model's keys with the command line's laid over them, the rest as read.

    Raises ArchlabError: a key that is wrong is wrong for every point.
    """
    own = {bare_key(k): v for k, v in changed.items() if k.startswith("model.")}
    asked = {
        k: plain[k] for k in ("hardware", "precision", "engine", "limits", "hold", "hold_workload", "hold_multiple")
    }
    return {
        **asked,
        "model": override(model, own),
        "workload": asdict(serving_from(plain["workload"])),
        "grid": {k: axis_values(k, v) for k, v in plain["grid"].items()},
        "changed": dict(changed),
        "archlab": __version__,
        "code": code_version(CALCULATING_CODE),
        "runtime": hash_of((data_dir("conf") / "runtime.yaml").read_text(encoding="utf-8")),
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
        hold_at=load_workload(config["hold_workload"] or serving.work_for(spec), spec),
        hold_multiple=config["hold_multiple"],
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


def run_block(block: Block, folder: Path) -> Path:
    """Evaluates a block and writes it, unless the same block is there already. Returns its file."""
    path = folder / f"{hash_of(block.config)[:16]}.parquet"
    if not path.exists():
        write_text(path.with_suffix(".json"), json.dumps(dict(block.config)) + "\n")
        write_table(path, block_frame(block))
    return path


def block_frame(block: Block) -> pd.DataFrame:
    """A row a point: label, shape, numbers; where the block cannot run, each row says why."""
    held = budget(block.hold, block.spec, block.hold_at, block.hold_multiple) if block.hold else None
    wrong = _unable(block)
    place: dict[str, Any] = {"hardware": block.device, "engine": block.engine, "memory": True, "limits": block.limits}
    points = evaluate(
        block.spec, block.work, precision=block.precision, grid=block.grid, hold=held, **({} if wrong else place)
    )
    frame = _named(block, points, points.frame())
    if wrong:
        good = frame["status"] == "ok"
        for column, said in zip(("status", "reason"), wrong, strict=True):
            frame[column] = frame[column].mask(good, said)
    return frame


def _unable(block: Block) -> tuple[str, str] | None:
    """(status, sentence) where no point can run: refused by the engine, or failed for want of a rate."""
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


def _named(block: Block, points: Points, frame: pd.DataFrame) -> pd.DataFrame:
    order = list(positions(points))
    values = [points.at(p) for p in order]
    shapes = [{k: v for k, v in at.items() if k not in WORKLOAD_KEYS} for at in values]
    front = {
        "point": [label(block.base, at) for at in shapes],
        "base": block.base,
        "is_base": [_is_base(block, at) for at in shapes],
    }
    frame = frame.rename(columns={k: k if k in WORKLOAD_KEYS else f"model.{k}" for k in (values[0] if values else {})})
    work = {
        "workload": [label(block.workload, {k: v for k, v in at.items() if k in WORKLOAD_KEYS}) for at in values],
        "batch": [at.get("workload.batch", block.work.batch) for at in values],
        "context": [at.get("workload.context", block.work.context) for at in values],
        "hardware": block.device.name,
        "precision": block.precision.name,
        "engine": block.engine_name,
    }
    front_frame = pd.DataFrame(front | work, index=frame.index)
    if len(values) > MOST_DESCRIBED:
        return pd.concat([front_frame, frame], axis=1)
    shape = pd.DataFrame(list(_described(block, frame, shapes)), index=frame.index)  # d_ff among it
    return pd.concat([front_frame, frame.drop(columns="d_ff", errors="ignore"), shape], axis=1)


def _is_base(block: Block, shape: Mapping[str, Any]) -> bool:
    return not block.config["changed"] and all(same_value(block.spec, k, v) for k, v in shape.items())


def _described(block: Block, frame: pd.DataFrame, shapes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row, shape in zip(frame.to_dict("records"), shapes, strict=True):
        yield describe_point(point_spec(block.spec, shape, row.get("d_ff"))) if row["status"] == "ok" else {}


def point_spec(spec: ModelSpec, shape: Mapping[str, Any], d_ff: float | None) -> ModelSpec:
    """The model of one point, with the d_ff that holds the budget where there is one."""
    held = {} if d_ff is None or d_ff != d_ff else {"mlp.d_ff": int(d_ff)}
    return resolve(override(dict(spec.data), {**shape, **held}))


@dataclass(frozen=True)
class Point:
    """A point that stands: its model, and the values of the axes that made it."""

    base: str
    spec: ModelSpec
    axes: Mapping[str, Any]


def standing_points(block: Block, frame: pd.DataFrame, most: int) -> Iterator[tuple[str, Point]]:
    """(label, point) of a block's frame, the first `most`; rows are in the grid's order."""
    combinations = product(*block.grid.values())
    standing = (
        (row, at) for row, at in zip(frame.to_dict("records"), combinations, strict=True) if row["status"] == "ok"
    )
    for row, at in islice(standing, most):
        axes = {k: v for k, v in zip(block.grid, at, strict=True) if k not in WORKLOAD_KEYS}
        shape = {bare_key(k): v for k, v in axes.items()}
        yield row["point"], Point(block.base, point_spec(block.spec, shape, row["d_ff"] if block.hold else None), axes)


def workloads_of(block: Block, frame: pd.DataFrame) -> Iterator[tuple[str, Workload]]:
    """(name, prefill) of each workload of a block's frame, those of its axes among them."""
    for name, batch, context in (
        frame[["workload", "batch", "context"]].drop_duplicates().itertuples(index=False, name=None)
    ):
        yield name, block.work.resized(int(batch), int(context))
