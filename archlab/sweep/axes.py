"""The axes of a design space: keys, their values, and which of them decide what the model is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archlab.algebra import is_scalar, plain
from archlab.errors import SpecError, nearest
from archlab.fields import fields_of
from archlab.hardware import FORMATS, Hardware
from archlab.schema import field_type, known_keys
from archlab.spec import ModelSpec
from archlab.units import memory, tokens

WORKLOAD_KEYS = ("workload.context", "workload.batch", "workload.source", "workload.images", "workload.prefix")
PLACE_KEYS = ("hardware", "precision", "engine")
"""Names of files: where and how the points run."""

HARDWARE_KEYS = (
    "hardware.memory_bytes", "hardware.bandwidth_bytes_per_s", *(f"hardware.peak_flops.{name}" for name in FORMATS),
)  # fmt: skip
"""Numbers of a device that may be axes: a device that there is not, beside the ones that there are."""

OTHER_KEYS = (*WORKLOAD_KEYS, *PLACE_KEYS, *HARDWARE_KEYS)


@dataclass(frozen=True)
class Axis:
    """Keys that vary together: one key of a grid, or all linked columns. `values[key]` has one entry a position."""

    values: Mapping[str, Sequence[Any] | np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def at(self, position: int) -> dict[str, Any]:
        """Key -> value of a position, as it was given."""
        return {key: plain(entries[position]) for key, entries in self.values.items()}

    def part(self, piece: slice) -> Axis:
        """Some of its positions."""
        return Axis({key: entries[piece] for key, entries in self.values.items()})


@dataclass(frozen=True)
class Group:
    """Positions of an axis that share a structure: the values that they share, and the numbers that vary among them."""

    positions: np.ndarray
    fixed: Mapping[str, Any]
    numbers: Mapping[str, np.ndarray]


def groups(axis: Axis, structural: Iterable[str]) -> list[Group]:
    """The positions of an axis by the values of its structural keys, in the order in which those first appear."""
    named = [key for key in axis.values if key in set(structural)]
    numeric = {key: np.asarray(v, dtype=np.float64) for key, v in axis.values.items() if key not in named}
    if not named:
        return [Group(np.arange(len(axis)), {}, numeric)]
    found: dict[str, list[int]] = {}
    for i in range(len(axis)):
        found.setdefault(repr([axis.values[key][i] for key in named]), []).append(i)
    return [_group(axis, named, numeric, np.array(same)) for same in found.values()]


def _group(axis: Axis, named: Sequence[str], numeric: Mapping[str, np.ndarray], at: np.ndarray) -> Group:
    fixed = {key: plain(axis.values[key][at[0]]) for key in named}
    return Group(at, fixed, {key: values[at] for key, values in numeric.items()})


def axes_of(
    spec: ModelSpec, grid: Mapping[str, Sequence[Any]], columns: Mapping[str, Sequence[Any]]
) -> tuple[Axis, ...]:
    """The axes of a grid, and one of linked columns. Raises SpecError for unknown keys and for values that are none."""
    axes = [Axis({bare_key(key): axis_values(key, values)}) for key, values in grid.items()]
    if columns:
        axes.append(Axis({bare_key(key): axis_values(key, values, linked=True) for key, values in columns.items()}))
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise SpecError(f"linked columns must have one length, not {lengths}")
    known = [*known_keys(spec.data), *OTHER_KEYS]
    keys = [bare_key(k) for k in (*grid, *columns)]
    for key in keys:
        if key not in known:
            raise SpecError(f"unknown key {key}{nearest(key, known)}")
        if keys.count(key) > 1:
            raise SpecError(f"{key} is given as two axes")
    return tuple(axes)


def bare_key(key: str) -> str:
    """'model.attention.n_kv_heads' -> 'attention.n_kv_heads'; the other groups keep their names."""
    return key.removeprefix("model.")


def axis_values(key: str, values: Any, linked: bool = False) -> Any:
    """An axis's values: an array as it is, else a list; tokens and bytes read (8k is 8192). Raises SpecError."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iuf":
        found: Any = values
    elif isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise SpecError(f"{key}={values!r} must be a list of values")
    else:
        found = [_read(key, plain(v)) for v in values]
    if not len(found):
        raise SpecError(f"{key} has no values")
    if not linked and _repeats(found):
        twice = next(v for i, v in enumerate(found) if v in [*found[:i]])
        raise SpecError(f"{key} has the value {twice!r} twice")
    return found


def _read(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if key == "workload.context":
        return tokens(value, key)
    return memory(value, key) if key == "hardware.memory_bytes" else value


def _repeats(found: Any) -> bool:
    if isinstance(found, np.ndarray):
        return len(np.unique(found)) < len(found)
    return len(set(map(repr, found))) < len(found)


def structural_keys(spec: ModelSpec, axis: Axis, by_position: bool) -> list[str]:
    """The keys of an axis that are taken one value after another.

    Those that are no numbers; and n_layers, where spans name layers by their position, or (`by_position`) a precision
    gives them formats by position.
    """
    return [key for key, values in axis.values.items() if not numeric(values) or _places(spec, key, by_position)]


def numeric(values: Sequence[Any] | np.ndarray) -> bool:
    """Whether all are plain numbers."""
    if isinstance(values, np.ndarray):
        return True
    return all(is_scalar(v) and not isinstance(v, bool) for v in values)


def _places(spec: ModelSpec, key: str, by_position: bool) -> bool:
    """Whether a key is a number of layers that are told apart by their positions."""
    if not key.endswith("n_layers") or key in OTHER_KEYS:
        return False
    encoder = spec.data.get("encoder") or {}
    return by_position or bool(spec.data.get("spans")) or (key.startswith("encoder.") and bool(encoder.get("spans")))


def legal(spec: ModelSpec, key: str, values: np.ndarray) -> np.ndarray:
    """Which numbers a key may have, by itself."""
    if key in WORKLOAD_KEYS:
        return (values % 1 == 0) & (values >= (1 if key in WORKLOAD_KEYS[:2] else 0))
    if key.startswith("hardware.peak_flops."):
        return (values > 0) & np.isfinite(values)
    if key in HARDWARE_KEYS:
        kind = fields_of(Hardware)[key.removeprefix("hardware.")].metadata["type"]
    else:
        kind = field_type(spec.data, key)
    return kind.mask(values)


def show_value(value: Any) -> Any:
    """A pattern as text, anything else as it is: parquet columns hold one type."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def show_values(values: Sequence[Any]) -> list[Any]:
    """A column of axis values: of one type, as text where they are of several."""
    shown = [show_value(v) for v in values]
    kinds = {type(v) for v in shown if v is not None}
    return shown if len(kinds) <= 1 or kinds == {int, float} else [None if v is None else str(v) for v in shown]
