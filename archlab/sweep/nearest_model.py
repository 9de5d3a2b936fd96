"""Which released model a shape is nearest to.

The distance of two shapes is the root mean square of log2(a / b) over SHAPE. Logs, since sizes are made of factors:
twice and half as wide are equally far, 4 heads of 8 count as 128 columns of 256 do, and a distance of 1 is a factor of
2 in everything. A field that one side lacks (a window, where all layers are global) counts one octave; one that both
lack counts nothing. So it is symmetric, and 0 of a shape to itself. It is a way to name a point, not a claim that near
models behave alike: eight times fewer KV heads weigh like eight times fewer layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from archlab.analyzers.params import params
from archlab.errors import SpecError
from archlab.paths import data_dir, group_files
from archlab.presets import load, models
from archlab.spec import ModelSpec
from archlab.sweep.results import describe_point

SHAPE = ("d_model", "n_layers", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "window", "params")
"""What is compared, named as columns of described points; params is the total, towers included."""

MISSING = 1.0  # octaves that a field counts which one side lacks
_BLOCK = 4096  # rows that are compared with all models at once


@dataclass(frozen=True)
class Neighbour:
    """A released model and how far a shape is from it.

    same         other released models of this very shape: fine-tunes
    differences  field -> (the shape's, the model's), where they differ; None for a field that a side lacks
    """

    name: str
    family: str
    distance: float
    differences: Mapping[str, tuple[Any, Any]]
    same: tuple[str, ...] = ()


def nearest_model(spec: ModelSpec, k: int = 3) -> list[Neighbour]:
    """The k released models nearest to a spec, one of each shape, nearest first. Raises SpecError for k below 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise SpecError(f"k={k!r} must be a whole number of 1 or more")
    shape, released = shape_of(spec), _released()
    away = _distances(_logs([shape]), released.logs)[0]
    return [
        Neighbour(
            released.names[i][0],
            released.families[i],
            float(away[i]),
            {f: (shape[f], released.shapes[i][f]) for f in SHAPE if shape[f] != released.shapes[i][f]},
            released.names[i][1:],
        )
        for i in np.argsort(away, kind="stable")[:k]
    ]


def nearest_models(frame: pd.DataFrame) -> pd.Series:
    """The name of the nearest released model of each row; columns of SHAPE say its shape (null: it has none).

    Raises SpecError for a column that is not there, and for a size that is no number above 0.
    """
    absent = [name for name in SHAPE if name not in frame]
    if absent:
        raise SpecError(f"the nearest model needs the columns {', '.join(SHAPE)}; {', '.join(absent)} is not there")
    released = _released()
    logs = _checked_logs(np.column_stack([_numbers(frame[name]) for name in SHAPE]))
    blocks = [logs[start : start + _BLOCK] for start in range(0, len(logs), _BLOCK)]
    chosen = [i for block in blocks for i in _distances(block, released.logs).argmin(axis=1)]
    return pd.Series([released.names[i][0] for i in chosen], index=frame.index, name="nearest_model", dtype=object)


def _numbers(column: pd.Series) -> np.ndarray:
    try:
        return np.asarray(pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan))
    except (ValueError, TypeError):
        raise SpecError(f"{column.name} must be numbers above 0, or empty where a shape has none") from None


def distance(a: ModelSpec, b: ModelSpec) -> float:
    """The distance of two specs, in octaves."""
    return float(_distances(_logs([shape_of(a)]), _logs([shape_of(b)]))[0, 0])


def shape_of(spec: ModelSpec) -> dict[str, Any]:
    """The fields of SHAPE of a spec; None for one that it lacks."""
    told = describe_point(spec)
    return {name: params(spec).total if name == "params" else told[name] for name in SHAPE}


# ---------------------------------------------------------------- the released models


@dataclass(frozen=True)
class _Released:
    """An entry a distinct shape: the names that have it (the shortest first: the base, then its fine-tunes)."""

    names: tuple[tuple[str, ...], ...]
    families: tuple[str, ...]
    shapes: tuple[dict[str, Any], ...]
    logs: np.ndarray  # (shapes, fields)


def _released() -> _Released:
    """The table of shipped presets, read once; a user's own models are not released ones."""
    shipped = data_dir("conf") / "model"
    files = group_files("model")
    return _table(tuple(name for name in models() if files[name].parent == shipped))


@lru_cache(maxsize=4)
def _table(names: tuple[str, ...]) -> _Released:
    found: dict[tuple[Any, ...], list[ModelSpec]] = {}
    for spec in map(load, sorted(names, key=lambda name: (len(name), name))):
        found.setdefault(tuple(shape_of(spec).values()), []).append(spec)
    shapes = tuple(dict(zip(SHAPE, key, strict=True)) for key in found)
    called = tuple(tuple(spec.name for spec in specs) for specs in found.values())
    return _Released(called, tuple(specs[0].family for specs in found.values()), shapes, _logs(shapes))


# ---------------------------------------------------------------- distances


def _logs(shapes: Any) -> np.ndarray:
    return _checked_logs(np.array([[s[f] for f in SHAPE] for s in shapes], dtype=np.float64))


def _checked_logs(sizes: np.ndarray) -> np.ndarray:
    if (wrong := (sizes <= 0) | np.isinf(sizes)).any():
        row, field = np.argwhere(wrong)[0]
        raise SpecError(f"{SHAPE[field]}={sizes[row, field]:g} must be above 0; leave it empty where a shape has none")
    return np.asarray(np.log2(sizes))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, fields) and (m, fields) of logs, NaN where missing -> (n, m) octaves."""
    total = np.zeros((len(a), len(b)))
    for one, other in zip(a.T, b.T, strict=True):
        apart = np.square(one[:, None] - other)
        lacking = np.isnan(one)[:, None] ^ np.isnan(other)
        total += np.where(lacking, MISSING**2, np.nan_to_num(apart, nan=0.0))
    return np.sqrt(total / len(SHAPE))
