"""One job of a sweep: a model, a workload, a device and a precision, over the axes of its grid. One parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from archlab import __version__
from archlab.config import load_workload, precision_from, workload_from
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import Hardware, hardware_from
from archlab.presets import override, refuse_shadowed, resolve
from archlab.spec import ModelSpec, Precision, Workload
from archlab.sweep.evaluate import WORKLOAD_KEYS, Points, bare_key, evaluate, positions, show_values
from archlab.sweep.hold import budget
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import describe_point, label, same_value, write_table, write_text

ASKED = ("model", "workload", "hardware", "precision", "grid", "hold", "hold_workload", "hold_multiple")
"""What of a job's configuration decides its numbers."""

MOST_DESCRIBED = 4096  # points whose shape is spelled out in columns of its own


@dataclass(frozen=True)
class Block:
    """A job's configuration, read."""

    spec: ModelSpec
    work: Workload
    workload: str
    device: Hardware
    precision: Precision
    grid: Mapping[str, Sequence[Any]]
    hold: str | None
    hold_at: Workload
    hold_multiple: int
    config: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The model's name, with what the command line changed in it."""
        changed = {k: v for k, v in self.config["changed"].items() if k not in WORKLOAD_KEYS}
        return label(self.spec.name, changed)


def read_block(config: Mapping[str, Any], changed: Mapping[str, Any]) -> Block:
    """Checks a job's configuration. Raises ArchlabError: a key that is wrong is wrong for every point."""
    model_keys = [bare_key(k) for k in changed if k.startswith("model.")]
    data = dict(config["model"])
    for key in model_keys:
        override(data, {key: _at(data, key)})  # names an unknown key, and its nearest right spelling
    refuse_shadowed(data, model_keys)
    hold = config["hold"]
    if hold is not None and any(bare_key(k) == "mlp.d_ff" for k in config["grid"]):
        raise SpecError("hold rescales model.mlp.d_ff, so d_ff cannot be an axis too; drop one of them")
    return Block(
        spec=resolve(data),
        work=workload_from(config["workload"]),
        workload=config["workload"]["name"],
        device=hardware_from(config["hardware"]),
        precision=precision_from(config["precision"]),
        grid={k: list(v) for k, v in config["grid"].items()},
        hold=hold,
        hold_at=load_workload(config["hold_workload"] or workload_from(config["workload"])),
        hold_multiple=config["hold_multiple"],
        config={k: config[k] for k in ASKED} | {"changed": dict(changed), "archlab": __version__},
    )


def _at(data: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return data[section][name] if name else data[section]


def run_block(block: Block, folder: Path) -> Path:
    """Evaluates a block and writes it, unless the same block is there already. Returns its file."""
    path = folder / f"{hash_of(block.config)[:16]}.parquet"
    if not path.exists():
        write_text(path.with_suffix(".json"), json.dumps(dict(block.config)) + "\n")
        write_table(path, block_frame(block))
    return path


def block_frame(block: Block) -> pd.DataFrame:
    """A row a point: label, shape, numbers. A device that lacks the format fails each of them, and the rows say so."""
    held = budget(block.hold, block.spec, block.hold_at, block.hold_multiple) if block.hold else None
    reason = _lacking(block)
    device = block.device if reason is None else None
    points = evaluate(block.spec, block.work, device, block.precision, grid=block.grid, hold=held)
    frame = _named(block, points, points.frame())
    if reason is not None:
        good = frame["status"] == "ok"
        frame["status"] = frame["status"].mask(good, "failed")
        frame["reason"] = frame["reason"].mask(good, reason)
    return frame


def _lacking(block: Block) -> str | None:
    try:
        block.device.flops_per_s(block.precision.compute)
    except ArchlabError as problem:
        return str(problem)
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
    }
    described = list(_described(block, frame, shapes)) if len(values) <= MOST_DESCRIBED else []
    shape = pd.DataFrame(described, index=frame.index)
    return pd.concat(
        [pd.DataFrame(front | work, index=frame.index), frame.drop(columns="d_ff", errors="ignore"), shape], axis=1
    )


def _is_base(block: Block, shape: Mapping[str, Any]) -> bool:
    return not block.config["changed"] and all(same_value(block.spec, k, v) for k, v in shape.items())


def _described(block: Block, frame: pd.DataFrame, shapes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row, shape in zip(frame.to_dict("records"), shapes, strict=True):
        yield describe_point(point_spec(block.spec, shape, row.get("d_ff"))) if row["status"] == "ok" else {}


def point_spec(spec: ModelSpec, shape: Mapping[str, Any], d_ff: float | None) -> ModelSpec:
    """The model of one point, with the d_ff that holds the budget where there is one."""
    held = {} if d_ff is None or d_ff != d_ff else {"mlp.d_ff": int(d_ff)}
    return resolve(override(dict(spec.data), {**shape, **held}))


def point_specs(path: Path, most: int) -> Iterator[tuple[str, str, ModelSpec]]:
    """(label, base, spec) of the points of a written block that stand, the first `most`."""
    config = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    block = read_block(config, config["changed"])
    frame = pd.read_parquet(path)
    frame = frame[frame["status"] == "ok"]
    for row in islice(frame.to_dict("records"), most):
        shape = {bare_key(k): _original(v, row[_table_key(k)]) for k, v in block.grid.items() if k not in WORKLOAD_KEYS}
        yield row["point"], block.base, point_spec(block.spec, shape, row["d_ff"] if block.hold else None)


def _original(values: Sequence[Any], shown: Any) -> Any:
    """The value of an axis that a table shows so."""
    return next(v for v, text in zip(values, show_values(values), strict=True) if text == shown)


def _table_key(key: str) -> str:
    return f"model.{bare_key(key)}"
