"""What a search goes through: a dimension is a key of a study's space, with its choices or its range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from archlab.algebra import is_scalar
from archlab.errors import SpecError
from archlab.presets import read
from archlab.sweep.axes import OTHER_KEYS, axis_values, bare_key
from archlab.sweep.results import show_axis
from archlab.sweep.study import Study, value_type
from archlab.sweep.study_fields import SPACE_KEYS, range_from, search_from

Values = Mapping[str, Any]
"""Dimension's key -> value of one point."""


@dataclass(frozen=True)
class Choices:
    """A dimension that takes one of some values, in no order."""

    key: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> list[Any]:
        """The values as a log can hold them: a pattern is text there."""
        return [v if v is None or isinstance(v, str | bool) or is_scalar(v) else show_axis(v) for v in self.values]

    def value(self, label: Any) -> Any:
        """The value of a label."""
        return self.values[self.labels.index(label)]

    def label(self, value: Any) -> Any:
        """The label of a value."""
        return self.labels[self.values.index(value)]

    def has(self, value: Any) -> bool:
        """Whether a value is among them."""
        return value in self.values

    def every(self) -> tuple[Any, ...]:
        """All values."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A dimension of numbers from low to high, whole ones where `whole`."""

    key: str
    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def value(self, label: Any) -> Any:
        """A number is its own label."""
        return label

    def label(self, value: Any) -> Any:
        """A number is its own label."""
        return value

    def has(self, value: Any) -> bool:
        """Whether a value is in the range."""
        if not is_scalar(value) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose((value - self.low) / self.step % 1, 0, abs_tol=1e-9)

    def every(self) -> tuple[Any, ...] | None:
        """All values; None where there is no end of them."""
        if self.step is None:
            return (self.low,) if self.low == self.high else None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(self.low + i * self.step for i in range(count)) if count <= MOST_LISTED else None


Dimension = Choices | Range

MOST_LISTED = 100_000
"""Values of a range that are written out, so that all points can be tried; beyond, a search draws from it."""


def dimensions(study: Study) -> tuple[Dimension, ...]:
    """The dimensions of a study that was checked: its search.space, else its grid. Raises SpecError for none."""
    space = search_from(study.search).space or study.grid
    if not space:
        raise SpecError("there is nothing to search: neither search.space nor grid has a key that is not given")
    bases = [read(base) for base in study.base]
    return tuple(_dimension(key, given, value_type(bare_key(key), bases)) for key, given in space.items())


def _dimension(key: str, given: Any, kind: Any) -> Dimension:
    if isinstance(given, list):
        return Choices(shown_key(key), tuple(axis_values(key, given)))
    asked = range_from(key, given, kind)
    low, high, log = asked["low"], asked["high"], asked.get("log", False)
    whole = isinstance(low, int) and isinstance(high, int)
    step = asked.get("step") or (1 if whole else None)
    if step is not None:
        high = low + (high - low) // step * step  # the last one that a step reaches
    return Range(shown_key(key), low, high, step, log, whole)


def shown_key(key: str) -> str:
    """A key as tables name its column: with `model.` before a model's own."""
    return key if key in OTHER_KEYS or key in SPACE_KEYS else f"model.{bare_key(key)}"


def size(dims: tuple[Dimension, ...]) -> int | None:
    """How many points there are; None where there is no end of them."""
    counts = [dim.every() for dim in dims]
    return None if any(c is None for c in counts) else math.prod(len(c) for c in counts if c is not None)


def every_point(dims: tuple[Dimension, ...]) -> Iterator[Values]:
    """All points of a space that has an end, the last dimension's values the fastest."""
    for combination in product(*(dim.every() or () for dim in dims)):
        yield dict(zip((dim.key for dim in dims), combination, strict=True))
