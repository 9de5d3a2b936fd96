"""What a condition compares: a column, of whatever type a table holds it in, as numbers, text or yes and no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archlab.errors import SpecError


@dataclass(frozen=True)
class Value:
    """A column or a literal as it is compared: its kind (a number, text, yes or no, nothing), and where it is there."""

    kind: str
    data: Any
    present: Any = True


def unrepeated(array: np.ndarray) -> np.ndarray:
    """The array with a size of 1 wherever it only repeats itself (a stride of 0), as a broadcast view does."""
    repeats = (n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True))
    return array[tuple(slice(0, 1) if again else slice(None) for again in repeats)]


def array_of(raw: Any) -> np.ndarray:
    """An array of whatever a lookup returned. pandas' own types come as numbers with NaN, or as objects with None."""
    if not hasattr(raw, "to_numpy"):
        return np.asarray(raw)
    if isinstance(raw.dtype, np.dtype):
        return np.asarray(raw.to_numpy())
    numeric = getattr(raw.dtype, "kind", "O") in "iuf"
    return np.asarray(raw.to_numpy(dtype=float, na_value=np.nan) if numeric else raw.to_numpy(dtype=object))


def value_of(name: str, array: np.ndarray) -> Value:
    """A column's value. Raises SpecError for one that holds neither numbers, text nor yes and no, or a mixture."""
    kind = {"b": "yes or no", "i": "a number", "u": "a number", "f": "a number", "U": "text", "T": "text"}
    if array.dtype.kind in kind:
        return Value(kind[array.dtype.kind], array)
    present = np.array([not _missing(x) for x in array.flat], dtype=bool).reshape(array.shape)
    inside = array[present]
    if not inside.size:
        return Value("nothing", np.full(array.shape, np.nan), present)
    for words, types, dtype, blank in (
        ("yes or no", bool | np.bool_, bool, False),
        ("a number", int | float | np.number, float, np.nan),
        ("text", str, str, ""),
    ):
        if all(isinstance(x, types) for x in inside):
            return Value(words, np.where(present, array, blank).astype(dtype), present)
    raise SpecError(f"{name} cannot be compared: it holds values of several kinds, or neither numbers nor text")


def _missing(x: Any) -> bool:
    return x is None or type(x).__name__ in ("NAType", "NaTType") or (isinstance(x, float) and x != x)
