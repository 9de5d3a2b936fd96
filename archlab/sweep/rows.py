"""Rows that a report can be made of: what a point is called, where it runs, and, of a small run, its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from archlab.assemble import resolve
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.sweep.axes import OTHER_KEYS, PLACE_KEYS, WORKLOAD_KEYS, show_value
from archlab.sweep.evaluate import Points
from archlab.sweep.hold import Budget
from archlab.sweep.notable import Chosen
from archlab.sweep.provenance import hash_of
from archlab.sweep.results import describe_point, label, same_value

if TYPE_CHECKING:
    from archlab.sweep.block import Block


MOST_DESCRIBED = 4096
"""Rows whose shape is spelled out in columns of their own."""


def unmet(conditions: Sequence[str], absent: Sequence[str] = ()) -> str:
    """Why a point is excluded: 'does not meet `params < 1B`', and which columns it lacks."""
    said = "does not meet " + " and ".join(f"`{text}`" for text in conditions)
    return f"{said}; {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} absent here" if absent else said


def _unmet(conditions: Sequence[str], named: Sequence[str], frame: pd.DataFrame) -> list[str]:
    """Why each row of a frame is excluded, if it is."""
    lacks = [frame[name].isna().tolist() if name in frame else [True] * len(frame) for name in named]
    absent = zip(*lacks, strict=True) if lacks else [()] * len(frame)
    return [unmet(conditions, [name for name, out in zip(named, row, strict=True) if out]) for row in absent]


def named_rows(block: Block, points: Points, chosen: Chosen) -> pd.DataFrame:
    """The chosen rows of a part: label, place, status, axis values, columns, and shape where they are few."""
    frame = points.frame(chosen.places)
    at = np.unravel_index(chosen.places, points.shape) if points.shape else ()
    front = _identity(block, points, at, len(frame))
    own = set(front)
    frame = frame.rename(
        columns={k: k if k in OTHER_KEYS else f"model.{k}" for axis in points.axes for k in axis.values}
    )
    outside = (frame["status"] == "ok") & ~chosen.within
    frame["status"] = frame["status"].mask(outside, "excluded")
    if outside.any():
        said = _unmet(block.wanted.where, chosen.named, frame[outside])
        frame.loc[outside, "reason"] = pd.Series(said, frame.index[outside], dtype=object)
    frame.insert(0, "kept", chosen.why)
    rest = frame.drop(columns=[c for c in frame.columns if c in own])
    found = pd.concat([pd.DataFrame(front, index=frame.index), rest], axis=1)
    if block.wanted.sample or len(found) > MOST_DESCRIBED:
        return found
    shape = pd.DataFrame(list(_described(block, points, at, found)), index=found.index)
    held = [] if block.budget is None else [block.budget.short]
    return pd.concat([found.drop(columns=held, errors="ignore"), shape], axis=1)  # what is held is among the shape


def _identity(block: Block, points: Points, at: Sequence[np.ndarray], n: int) -> dict[str, Any]:
    """Label, base, place and workload of each row."""
    shape = _Labels(block.base, points, [k for k in _keys(points) if k not in OTHER_KEYS])
    work = _Labels(block.workload, points, [k for k in _keys(points) if k in WORKLOAD_KEYS])
    base = np.full(n, not block.config["changed"]) & _is_base(block, points, at, n)
    place = {"hardware": block.device.name, "precision": block.precision.name, "engine": block.engine_name}
    place |= {key: _values(points, key, at) for key in PLACE_KEYS if key in _keys(points)}
    return {
        "point": shape.of(at, n),
        "base": block.base,
        "is_base": base,
        "workload": work.of(at, n),
        "batch": _values(points, "workload.batch", at, block.work.batch),
        "context": _values(points, "workload.context", at, block.work.context),
        **place,
    }


def _keys(points: Points) -> list[str]:
    return [key for axis in points.axes for key in axis.values]


def _values(points: Points, key: str, at: Sequence[np.ndarray], otherwise: Any = None) -> Any:
    """The values of a key at each row; what it is without an axis of it."""
    for axis, places in zip(points.axes, at, strict=True):
        if key in axis.values:
            return np.asarray(axis.values[key])[places]
    return otherwise


class _Labels:
    """The text of a row: a name, and what its axes change in it. Each distinct one is made once."""

    def __init__(self, name: str, points: Points, keys: list[str]) -> None:
        self.name, self.keys = name, keys
        self.axes = [(i, axis) for i, axis in enumerate(points.axes) if any(k in keys for k in axis.values)]

    def of(self, at: Sequence[np.ndarray], n: int) -> Any:
        """The labels of rows at places along each axis."""
        if not self.axes:
            return self.name
        columns = np.stack([at[i] for i, _ in self.axes], axis=1)
        distinct, which = np.unique(columns, axis=0, return_inverse=True)
        made = [self._one(places) for places in distinct.tolist()]
        return np.asarray(made, dtype=object)[which.ravel()]

    def _one(self, places: list[int]) -> str:
        values: dict[str, Any] = {}
        for (_, axis), place in zip(self.axes, places, strict=True):
            values |= {k: v for k, v in axis.at(place).items() if k in self.keys}
        return label(self.name, values)


def _is_base(block: Block, points: Points, at: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Whether every model key of a row has the base's own value."""
    found = np.ones(n, dtype=bool)
    for axis, places in zip(points.axes, at, strict=True):
        keys = [k for k in axis.values if k not in OTHER_KEYS]
        if keys:
            same = np.array([all(same_value(block.spec, k, axis.at(i)[k]) for k in keys) for i in range(len(axis))])
            found &= same[places]
    return found


def _described(block: Block, points: Points, at: Sequence[np.ndarray], frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The shape of each row that stands, and the hash of its configuration, by which a table of losses may name it."""
    known: dict[str, dict[str, Any]] = {}
    for n, row in enumerate(frame.to_dict("records")):
        if row["status"] not in ("ok", "excluded"):
            yield {}
            continue
        values = points.at(tuple(int(i[n]) for i in at))
        shape = {key: value for key, value in values.items() if key not in OTHER_KEYS}
        same = repr((shape, None if block.budget is None else row.get(block.budget.short)))
        if same not in known:
            spec = point_spec(block.spec, shape, block.budget, row)
            known[same] = describe_point(spec) | {"config_hash": hash_of(dict(spec.data))[:16]}
        yield known[same]


def given_values(values: Sequence[Any]) -> dict[str, Any]:
    """What a table shows of an axis's values -> those values: patterns are text there, and so are mixed ones."""
    return {repr(shown): v for v in values for shown in (str(show_value(v)), show_value(v))}


def plain_value(value: Any) -> Any:
    """A frame's value as the grid has it: ints are ints again."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def point_spec(spec: ModelSpec, shape: Mapping[str, Any], held: Budget | None, row: Mapping[str, Any]) -> ModelSpec:
    """The model of one point, with what holds the budget where there is one."""
    changes = dict(shape)
    if held is not None and (value := row.get(held.short)) is not None and value == value:
        changes[held.by] = int(value)
    return resolve(override(dict(spec.data), changes)) if changes else spec
