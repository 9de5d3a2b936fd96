"""What was written down, run: numpy passes over as many points as there are, into memory that is used again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archlab.columns.graph import Graph
from archlab.columns.mesh import SMALL, Mesh, cut
from archlab.columns.plan import Plan, Search, Slots
from archlab.columns.traced import Traced
from archlab.columns.writer import Ref, Writer, binary, is_line

MOST_LAYOUTS = 16
"""Shapes of points whose plans are remembered."""

Arrays = Mapping[int, np.ndarray]


class Program:
    """Computes named results: arrays on an open mesh, each of the axes that it depends on (float64, or bool)."""

    def __init__(self, graph: Graph, results: Mapping[str, Any], reuse: bool = False) -> None:
        writer = Writer(graph)
        self.graph, self.reuse = graph, reuse
        polys = {n: v.poly for n, v in results.items() if isinstance(v, Traced)}
        refs: dict[str, Ref] = {}
        for name in sorted(polys, key=lambda n: (not binary(polys[n]), len(polys[n]))):  # parts before their sums
            refs[name] = writer.total(polys[name])
        self.lines = writer.lines
        self.results = {n: int(refs[n]) for n in results if n in refs and is_line(refs[n])}
        self.constants = {n: _constant(refs.get(n, v)) for n, v in results.items() if n not in self.results}
        self.names = [*results]
        probing = {i for i, line in enumerate(self.lines) if line.axes >> graph.n_axes}
        live = self._live(self.results.values())
        self.order = sorted(live - probing)
        self.inner = {i: self._inner(i, probing) for i in self.order if self.lines[i].op == "largest"}
        self.searches = {i: Search(self.lines, i, inner, graph.n_axes) for i, inner in self.inner.items()}
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._memory: dict[int, np.ndarray] = {}

    def _live(self, refs: Any, among: set[int] | None = None) -> set[int]:
        """The lines that these depend on, themselves too."""
        found: set[int] = set()
        todo = [*refs]
        while todo:
            i = todo.pop()
            if i not in found and (among is None or i in among):
                found.add(i)
                todo += self.lines[i].reads
        return found

    def _inner(self, number: int, probing: set[int]) -> list[int]:
        """The lines of a search that depend on its probe, in order."""
        found = self._live(self.lines[number].reads, among=probing)
        return sorted(i for i in found if self.lines[i].op != "probe")

    @property
    def passes(self) -> int:
        """Passes of a run over linked columns; of a search those of one look."""
        return len(self.order) + sum(len(search.steps) for search in self.searches.values())

    @property
    def kept_bytes(self) -> int:
        """Memory that is kept for the next run."""
        return sum(a.nbytes for a in self._memory.values()) + sum(layout.bytes for layout in self._layouts.values())

    def forget(self) -> None:
        """Lets that memory go."""
        self._memory.clear()
        self._layouts.clear()

    # ------------------------------------------------------------ running

    def run(self, inputs: Arrays | None = None) -> dict[str, np.ndarray]:
        """All results, of all inputs or of parts of them (atom -> values, on the open mesh).

        With `reuse` the results of the run before are overwritten.
        """
        found = self._whole(self.graph.arrays if inputs is None else inputs)
        named = {name: found[i] for name, i in self.results.items()}
        return {name: named[name] if name in named else self.constants[name] for name in self.names}

    def _whole(self, inputs: Arrays) -> dict[int, np.ndarray]:
        """Of linked columns a search takes a few looks at first; points that need more are computed again, together."""
        wanted = {*self.results.values()}
        if not self.searches or self.graph.n_axes != 1 or max(a.size for a in inputs.values()) <= SMALL:
            return self._run(inputs, wanted, self._memory if self.reuse else {})
        found = self._run(inputs, wanted | {*self.searches}, self._memory if self.reuse else {}, brief=True)
        left = np.flatnonzero(np.logical_or.reduce([np.isnan(found[i]) for i in self.searches]))
        if len(left):
            some = {n: a if a.size == 1 else a[left] for n, a in inputs.items()}
            again = self._run(some, wanted, {})
            for i in (i for i in wanted if found[i].size > 1 and self.lines[i].op != "input"):
                found[i][left] = again[i]
        return found

    def _run(
        self, inputs: Arrays, wanted: set[int], memory: dict[int, np.ndarray], brief: bool = False
    ) -> dict[int, np.ndarray]:
        lengths = tuple(max(a.shape[i] for a in inputs.values()) for i in range(self.graph.n_axes))
        if len(self._layouts) > MOST_LAYOUTS:
            self._layouts.clear()
        if lengths not in self._layouts:
            self._layouts[lengths] = Layout(self, Mesh.of(lengths))
        layout = self._layouts[lengths]
        for search in self.searches.values():
            search.brief = brief
        with np.errstate(all="ignore"):
            found = layout.run({n: a.transpose(layout.mesh.order) for n, a in inputs.items()}, wanted, memory)
        back = np.argsort(layout.mesh.order)
        return {i: a.transpose(back) for i, a in found.items()}


class Layout:
    """A program on a mesh: lines of few numbers are computed once, the others part by part."""

    def __init__(self, program: Program, mesh: Mesh) -> None:
        self.lines, self.mesh, self.searches = program.lines, mesh, program.searches
        self.many = [i for i in program.order if mesh.points(self.lines[i]) > SMALL]
        few = {*program.order}.difference(self.many)
        self.few = sorted(few)
        self.reads = {a for i in self.many for a in self._reads(i) if a in few}
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def _reads(self, i: int) -> Sequence[int]:
        return self.searches[i].reads if i in self.searches else [*self.lines[i].reads]

    def run(self, inputs: Arrays, wanted: set[int], memory: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The wanted lines, laid out as the mesh is; into `memory` where it has arrays of their shapes."""
        slots = self._compute_few(inputs)
        found = {i: slots.values[i] for i in wanted.difference(self.many)}
        large = {i: self._blank(i, memory) for i in wanted.intersection(self.many) if self.lines[i].op != "input"}
        given = {i: slots.values[i] for i in self.reads}
        given |= {i: inputs[self.lines[i].atom] for i in self.many if self.lines[i].op == "input"}
        self._in_parts(given, large)
        return found | large | {i: given[i] for i in wanted.difference(found, large)}

    def _compute_few(self, inputs: Arrays) -> Slots:
        slots = Slots(self.lines)
        for i in self.few:
            line = self.lines[i]
            if line.op == "input":
                slots.values[i] = inputs[line.atom]
            elif i in self.searches:
                slots.values[i] = self.searches[i].answers(slots.values)
            else:
                slots.run([slots.step(i, line)])
                if not line.axes:
                    slots.values[i] = np.reshape(slots.values[i], (1,) * len(self.mesh.lengths))
        return slots

    def _in_parts(self, given: Arrays, large: Arrays) -> None:
        """The lines of many numbers, in parts for which their results stay in the caches."""
        for piece in self.mesh.pieces() if large else ():
            part = self.mesh.part(piece)
            known = part.lengths, frozenset(large)
            if known not in self._plans:
                self._plans[known] = Plan(self.lines, self.many, part.shape, {*large}, self.searches)
            own = [{i: cut(a, piece) for i, a in arrays.items()} for arrays in (given, large)]
            self._plans[known].run(*own)

    @property
    def bytes(self) -> int:
        """Memory of its plans."""
        return sum(plan.bytes for plan in self._plans.values())

    def _blank(self, i: int, memory: dict[int, np.ndarray]) -> np.ndarray:
        shape = self.mesh.shape(self.lines[i])
        if i not in memory or memory[i].shape != shape:
            memory[i] = np.empty(shape, dtype=self.lines[i].dtype)
        return memory[i]


def _constant(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=bool if isinstance(value, bool) else np.float64)
