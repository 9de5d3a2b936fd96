"""A design space: its structures are written down once, and computed for whatever part of its points is wanted.

A structure is what cannot vary within one run of the formulas: a layer pattern, a flag, a device. On an open mesh each
numeric axis is an array dimension of its own, so a formula that depends on two axes is computed on two, whatever the
others hold; full arrays are views, expanded on demand. One point goes through the formulas itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from archlab.analyzers.memory import setting
from archlab.assemble import resolve, rules
from archlab.columns.graph import Graph
from archlab.columns.program import Program
from archlab.columns.traced import Traced, column
from archlab.errors import ArchlabError, SpecError
from archlab.ledger import ledger
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.sweep.axes import OTHER_KEYS, PLACE_KEYS, Axis, Group, legal
from archlab.sweep.hold import Budget, hold_budget
from archlab.sweep.laid import EXACT, joined
from archlab.sweep.measures import Asked, measures
from archlab.sweep.points import Points
from archlab.workload import Workload

MOST_KEPT = 2**29
"""Bytes that programs keep between parts: those that ran longest ago let theirs go first."""

Columns = dict[str, np.ndarray]


@dataclass
class Written:
    """The formulas of one structure: a program, or of a single point its numbers; or why it cannot be.

    `large` are the columns that may have numbers of 2**53 or more.
    """

    program: Program | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None
    large: set[str] = field(default_factory=set)


@dataclass
class Survey:
    """A design space.

    structures  the groups of each axis
    reuse       the arrays of a part may be written over by the next
    """

    spec: ModelSpec
    work: Workload
    asked: Asked
    axes: tuple[Axis, ...]
    structures: list[list[Group]]
    hold: Budget | None = None
    reuse: bool = False
    written: dict[tuple[int, ...], Written] = field(default_factory=dict)
    _warm: list[Program] = field(default_factory=list)  # those that ran, the last one last

    @property
    def shape(self) -> tuple[int, ...]:
        """Positions of each axis."""
        return tuple(len(axis) for axis in self.axes)

    def parts(self, most: int) -> Iterator[tuple[slice, ...]]:
        """Parts of the points of at most so many, in order, on all axes."""
        steps = []
        for i, n in enumerate(self.shape):
            steps.append(min(n, max(1, most // int(np.prod(self.shape[i + 1 :], dtype=int)))))
        starts = itertools.product(*(range(0, n, step) for n, step in zip(self.shape, steps, strict=True)))
        for at in starts:
            yield tuple(slice(i, min(i + step, n)) for i, step, n in zip(at, steps, self.shape, strict=True))

    def points(self, part: tuple[slice, ...] | None = None) -> Points:
        """The points, or a part of them, computed."""
        part = tuple(slice(0, n) for n in self.shape) if part is None else part
        shape, start = tuple(p.stop - p.start for p in part), tuple(p.start for p in part)
        inside = [_inside(some, p) for some, p in zip(self.structures, part, strict=True)]
        found: list[tuple[list[np.ndarray], Columns]] = []
        inexact: set[str] = set()
        for combination in itertools.product(*inside):
            places = [there - first for (_, _, there), first in zip(combination, start, strict=True)]
            written = self._structure(tuple(number for number, _, _ in combination))
            own = self._computed(written, [which for _, which, _ in combination])
            inexact |= {name for name in written.large if _large(own[name])}
            found.append((places, own))
        columns = joined(found, shape)
        axes = tuple(a.part(p) for a, p in zip(self.axes, part, strict=True))
        return Points(axes, shape, columns, columns.pop("ok"), self, start, inexact)

    def reason(self, values: Mapping[str, Any]) -> str:
        """Why one point is refused."""
        try:
            spec, work, asked = self._at(values)
            for _, condition, sentence in rules(spec):
                if condition is False:
                    raise SpecError(sentence())
            ledger(spec, work)
            for condition, sentence in asked.at.engine.rules(work):
                if condition is False:
                    raise SpecError(sentence())
            asked.check()
        except ArchlabError as problem:
            return str(problem)
        return "" if self.hold is None else self.hold.refusal

    # ------------------------------------------------------------ one structure

    def _structure(self, numbers: tuple[int, ...]) -> Written:
        """The formulas of one group of each axis, written down where they are not yet."""
        if numbers not in self.written:
            self.written[numbers] = self._write([self.structures[i][n] for i, n in enumerate(numbers)])
        return self.written[numbers]

    def _computed(self, written: Written, which: Sequence[np.ndarray]) -> Columns:
        """Columns (and `ok`) of a structure, at some of its positions on each axis."""
        n_axes = len(self.axes)
        if written.refusal is not None:
            return {"ok": np.zeros((1,) * n_axes, dtype=bool)}
        if written.program is None:
            own = {name: np.asarray(v) for name, v in written.numbers.items()}
        else:
            own = self._run(written.program, which)
        own["ok"] = own["ok"].astype(bool, copy=False)
        if self.hold is not None:  # outside the program, where a quotient is rounded once
            own["hold_residual"] = own["hold_residual"] / self.hold.target - 1
        return {name: a if a.ndim == n_axes else a.reshape((1,) * n_axes) for name, a in own.items()}

    def _run(self, program: Program, which: Sequence[np.ndarray]) -> Columns:
        own = program.run({atom: _some(a, which) for atom, a in program.graph.arrays.items()})
        self._warm = [*(p for p in self._warm if p is not program), program]
        while len(self._warm) > 1 and sum(p.kept_bytes for p in self._warm) > MOST_KEPT:
            self._warm.pop(0).forget()
        return own

    def _write(self, groups: Sequence[Group]) -> Written:
        graph = Graph(len(groups))
        try:
            changes, legal = self._changes(groups, graph)
            results = self._results(changes, legal)
        except ArchlabError as problem:
            return Written(refusal=str(problem))
        large = {name for name, value in results.items() if _may_be_large(value)}
        if not any(isinstance(v, Traced) for v in results.values()):
            return Written(numbers=results, large=large)
        return Written(Program(graph, results, self.reuse), large=large)

    def _changes(self, groups: Sequence[Group], graph: Graph) -> tuple[dict[str, Any], Any]:
        """(key -> number or placeholder, which points have legal numbers, each by itself)."""
        changes: dict[str, Any] = {key: value for group in groups for key, value in group.fixed.items()}
        ok: Any = True
        for axis, group in enumerate(groups):
            for key, values in group.numbers.items():
                if len(values) == 1:
                    changes[key] = _number(self.axes[axis].values[key][group.positions[0]])
                    continue
                good = legal(self.spec, key, values)
                changes[key] = column(graph, np.where(good, values, 1.0), axis)
                if not good.all():
                    ok = (column(graph, good.astype(np.float64), axis) > 0.5) & ok
        return changes, ok

    def _results(self, changes: Mapping[str, Any], ok: Any) -> dict[str, Any]:
        """Columns of numbers or placeholders, and `ok`: whether a point keeps every rule. Raises ArchlabError."""
        spec, work, asked = self._at(changes)
        fits: Any = True
        if self.hold is not None:
            spec, fits = hold_budget(spec, self.hold)
        conditions = [(condition, sentence) for _, condition, sentence in rules(spec)]
        for condition, sentence in (*conditions, *spec.work_rules(work), *asked.at.engine.rules(work)):
            if condition is False:
                raise SpecError(sentence())
            ok = ok & condition
        if fits is False and self.hold is not None:
            raise SpecError(self.hold.refusal)
        found = measures(spec, work, asked)
        if self.hold is not None:
            found |= {self.hold.short: _entry(spec.data, self.hold.by), "hold_residual": self.hold.metric(spec)}
        return {**found, "ok": ok & fits}

    def _at(self, changes: Mapping[str, Any]) -> tuple[ModelSpec, Workload, Asked]:
        """What is asked of a point: the model, the prefill, the place. Raises ArchlabError."""
        shape = {key: value for key, value in changes.items() if key not in OTHER_KEYS}
        spec = resolve(override(dict(self.spec.data), shape)) if shape else self.spec
        asked = self.asked
        if any(key in changes for key in PLACE_KEYS):
            at = asked.at
            hardware, engine = changes.get("hardware", at.device), changes.get("engine", at.engine)
            asked = replace(asked, at=setting(hardware, changes.get("precision", at.precision), engine))
            asked.check()
        return spec, _work(self.work, changes), asked.changed(changes)


def _inside(some: Sequence[Group], part: slice) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(number of the group, which of its positions, where those are) of the groups of an axis that a part has."""
    found = []
    for number, group in enumerate(some):
        which = np.flatnonzero((group.positions >= part.start) & (group.positions < part.stop))
        if len(which):
            found.append((number, which, group.positions[which]))
    return found


def _some(array: np.ndarray, which: Sequence[np.ndarray]) -> np.ndarray:
    """Positions of each axis of an input, where it has more than one."""
    for axis, at in enumerate(which):
        if array.shape[axis] > 1 and len(at) < array.shape[axis]:
            array = np.take(array, at, axis=axis)
    return array


def _entry(data: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key."""
    found: Any = data
    for name in key.split("."):
        found = found[name]
    return found


def _number(value: Any) -> Any:
    """A single value of an axis, as a Python number: an int where it is one."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _work(work: Workload, changes: Mapping[str, Any]) -> Workload:
    """The prefill with the changed workload keys."""
    resized = work.resized(changes.get("workload.batch", work.batch), changes.get("workload.context", work.context))
    given = {
        name: changes[f"workload.{name}"] for name in ("source", "images", "prefix") if f"workload.{name}" in changes
    }
    return replace(resized, **given, **{f"new_{name}": value for name, value in given.items()})


def _may_be_large(value: Any) -> bool:
    """Whether it may have numbers that float64 does not hold exactly."""
    if isinstance(value, Traced):
        return bool(value.graph.range(value.poly)[1] >= EXACT)
    return bool(value >= EXACT)


def _large(values: np.ndarray) -> bool:
    """Whether it has such numbers."""
    most = values.max(initial=0.0)
    if not np.isfinite(most):
        most = np.nanmax(values, initial=0.0, where=np.isfinite(values))
    return bool(most >= EXACT)
