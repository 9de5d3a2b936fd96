"""Lines as calls of numpy, with memory for their results that is used again once a result is read no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from archlab.columns.mesh import picked
from archlab.columns.search import Places, search
from archlab.columns.writer import Line, is_line

FAR = 4096
"""Numbers over which the slope at the far end is taken: rounding to blocks of 16 or 256 hardly shows in it."""

Step = tuple[Callable[..., Any], tuple[int, ...], int]
"""A function, where its arguments are among the slots, and where its result is."""


class Slots:
    """Results by line, and behind them the numbers that lines take."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.values: list[Any] = [None] * len(lines)

    def place(self, ref: Any) -> int:
        """Where a line's result is, or a number."""
        if is_line(ref):
            return int(ref)
        self.values.append(ref)
        return len(self.values) - 1

    def step(self, number: int, line: Line, function: Callable[..., Any] | None = None) -> Step:
        """What computes a line."""
        found = function or (_where if line.op == "where" else getattr(np, line.op))
        return found, tuple(map(self.place, line.args)), number

    def run(self, steps: Sequence[Step]) -> None:
        """Computes lines, each into the array that stands in its place, or into a new one where none does."""
        values = self.values
        for function, args, out in steps:
            if len(args) == 2:
                values[out] = function(values[args[0]], values[args[1]], out=values[out])
            elif len(args) == 1:
                values[out] = function(values[args[0]], out=values[out])
            else:
                values[out] = function(*(values[a] for a in args), out=values[out])


def _where(condition: Any, yes: Any, no: Any, out: Any) -> Any:
    if out is None:
        out = np.empty(np.broadcast_shapes(*map(np.shape, (condition, yes, no))))
    np.copyto(out, no)
    np.copyto(out, yes, where=np.asarray(condition, dtype=bool))
    return out


class Search:
    """The lines of one search: computed for one guess after another."""

    def __init__(self, lines: Sequence[Line], number: int, inner: Sequence[int], n_axes: int) -> None:
        self.probe, self.least, self.most, self.far, self.bends, *margins = lines[number].args
        self.n_axes, self.slots = n_axes, Slots(lines)
        self.steps = [self.slots.step(i, lines[i]) for i in inner]
        self.margins = [self.slots.place(m) for m in margins]
        inside = {*inner, self.probe}
        self.reads = sorted({a for i in (number, *inner) for a in lines[i].reads} - inside)
        self.brief = False  # whether to end after a few looks, with NaN

    def answers(self, values: Sequence[Any]) -> np.ndarray:
        """The largest number at every point, of what the search reads."""
        known = {a: values[a] for a in self.reads}
        shape = np.broadcast_shapes(*(np.shape(v) for v in known.values()), (1,) * self.n_axes)
        ends = (known[int(ref)] if is_line(ref) else ref for ref in (self.least, self.far, self.bends))
        least, far, bends = (np.broadcast_to(end, shape) for end in ends)
        answer = np.where(far >= bends, np.minimum(far, self.most), np.nan)
        left = np.isnan(answer)
        if left.all():
            return self._looked_for(known, least, bends, shape)
        if left.any() and not self.brief:
            some = np.nonzero(left)
            mine = {a: picked(v, some) for a, v in known.items()}
            answer[some] = self._looked_for(mine, least[some], bends[some], (len(some[0]),))
        return answer

    def _looked_for(self, known: Mapping[int, Any], least: Any, bends: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Where the far end is straight, the search is of what is before the bends; else from the far end on."""
        first = np.clip(np.ceil(np.where(np.isnan(bends), self.most, bends)), least, self.most)
        second = np.where(np.isnan(bends), np.maximum(first - FAR, least), least)

        def margin(at: np.ndarray, places: Places | None) -> Any:
            return self._margin(known, at, places)

        return search(margin, least, float(self.most), (first, second), self.brief)

    def _margin(self, known: Mapping[int, Any], at: np.ndarray, places: Places | None) -> Any:
        slots = self.slots.values
        for a, v in known.items():
            slots[a] = v if places is None else picked(v, places)
        for _, _, out in self.steps:
            slots[out] = None
        slots[int(self.probe)] = at
        self.slots.run(self.steps)
        found = [slots[m] for m in self.margins]
        return found[0] if len(found) == 1 else np.minimum.reduce(np.broadcast_arrays(*found))


class Plan:
    """Lines of one part of the points, all of one shape, with memory for their results.

    `kept` are lines whose results are wanted: they go where the caller says.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        order: Sequence[int],
        shape: Callable[[Line], tuple[int, ...]],
        kept: set[int],
        searches: Mapping[int, Search],
    ) -> None:
        slots = Slots(lines)
        computed = [i for i in order if lines[i].op != "input"]
        ends = _last_reads(lines, computed, searches)
        spare: dict[Any, list[np.ndarray]] = {}
        self.bytes = 0
        for step, i in enumerate(computed):
            done = [slots.values[a] for a in ends.get(step, ()) if slots.values[a] is not None]
            kind = shape(lines[i]), lines[i].dtype
            if lines[i].op not in ("where", "largest"):  # these read on after they have begun to write
                _free(spare, done)
            if i not in kept:
                if not spare.get(kind):
                    spare[kind] = [np.empty(*kind)]
                    self.bytes += spare[kind][0].nbytes
                slots.values[i] = spare[kind].pop()
            if lines[i].op in ("where", "largest"):
                _free(spare, done)
        self.slots = slots
        self.steps = [slots.step(i, lines[i], self._searched(searches[i]) if i in searches else None) for i in computed]

    def _searched(self, search: Search) -> Callable[..., Any]:
        def run(*_: Any, out: np.ndarray) -> np.ndarray:
            np.copyto(out, search.answers(self.slots.values))
            return out

        return run

    def run(self, given: Mapping[int, np.ndarray], out: Mapping[int, np.ndarray]) -> None:
        """Computes the lines of a part: from the results of others, into arrays for those that are kept."""
        slots = self.slots.values
        for i, array in (*given.items(), *out.items()):
            slots[i] = array
        self.slots.run(self.steps)


def _last_reads(lines: Sequence[Line], order: Sequence[int], searches: Mapping[int, Search]) -> dict[int, list[int]]:
    """Step -> the lines that are read there for the last time."""
    last: dict[int, int] = {}
    for step, i in enumerate(order):
        for a in searches[i].reads if i in searches else lines[i].reads:
            last[a] = step
    ends: dict[int, list[int]] = {}
    for a, step in last.items():
        ends.setdefault(step, []).append(a)
    return ends


def _free(spare: dict[Any, list[np.ndarray]], done: Sequence[np.ndarray]) -> None:
    for array in done:
        spare.setdefault((array.shape, bool if array.dtype == bool else np.float64), []).append(array)
