"""How numbers move between two places of a run, at its shortest and its longest workload, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from archlab.report import beyond, metrics, words
from archlab.report.columns import quantity
from archlab.report.load import Run
from archlab.report.points import Point
from archlab.report.spreads import CLEAR

STILL = 1.0005
"""What changes by less stays as it is."""

Where = tuple[Point, dict[str, str | None]]
"""A point, and the device and the precision that it is looked at in."""

NOUNS = {
    "memory_bytes": "memory", "decode_bound_s": "bound on a decode step", "prefill_bound_s": "bound on a prefill",
}  # fmt: skip
"""Column -> its name inside a sentence, where that is not its quantity's."""


@dataclass(frozen=True)
class Step:
    """A number before and after, at a workload: 'at 8k tokens'; '' where it has none."""

    where: str
    before: float
    after: float

    @property
    def share(self) -> float:
        """After over before."""
        return self.after / self.before

    @property
    def ratio(self) -> float:
        """The larger over the smaller."""
        return max(self.share, 1 / self.share)


@dataclass(frozen=True)
class Move:
    """The steps of one number: at the shortest workload and at the longest."""

    column: str
    steps: tuple[Step, ...]

    @property
    def noun(self) -> str:
        """'KV cache', inside a sentence."""
        return NOUNS.get(self.column) or quantity(self.column).noun

    @property
    def works(self) -> list[str]:
        """Where its steps stand; none of a number that no workload changes."""
        return [s.where for s in self.steps if s.where]

    @property
    def most(self) -> Step:
        """Where it moves most."""
        return max(self.steps, key=lambda s: s.ratio)

    @property
    def falls(self) -> bool:
        """It gets less there."""
        return self.most.share < 1

    @property
    def is_clear(self) -> bool:
        """It is worth a heading."""
        return self.most.ratio >= CLEAR

    def amounts(self) -> list[tuple[str, str]]:
        """(verb, how far) at each workload, one of all where they are the same, or all one way and small."""
        found = [self._becomes(s) for s in self.steps]
        if len(set(found)) == 1 or (not self.is_clear and len({verb for verb, _ in found}) == 1):
            verb, far = self._becomes(self.most)
            return [(verb, far if len(set(found)) == 1 else far.replace("by ", "by at most ", 1))]
        return found

    def _becomes(self, step: Step) -> tuple[str, str]:
        verb, far = ("stays", "as it is") if step.ratio < STILL else words.becomes(step.share)
        return _number(verb, self.column), far

    def from_to(self) -> tuple[str, str]:
        """('falls', 'from 21.66 to 2.71 GiB'), at the longest workload."""
        step = self.steps[-1]
        verb = "stays" if step.ratio < STILL else "falls" if step.share < 1 else "rises"
        verb = _number(verb, self.column)
        before, after = words.alike((step.before, step.after), quantity(self.column).scale)
        return verb, f"at {after}" if step.ratio < STILL else f"from {words.split(before)[0]} to {after}"


def _number(verb: str, column: str) -> str:
    return verb.removesuffix("s") if column == "params" else verb


def moved(run: Run, columns: Iterable[str], before: Where, after: Where) -> list[Move]:
    """Those of the columns that both places have numbers of."""
    found = (_move(run, c, before, after) for c in dict.fromkeys(columns))
    return [m for m in found if m is not None]


def _move(run: Run, column: str, before: Where, after: Where) -> Move | None:
    works = metrics.by_reach(run)
    both = [w for w in works if all(_value(run, column, w, end) for end in (before, after))]
    ends = dict.fromkeys([*both[:1], *both[-1:]][: 1 if column == "params" else 2])
    return Move(column, tuple(_step(run, column, w, before, after) for w in ends)) if ends else None


def _step(run: Run, column: str, workload: str, before: Where, after: Where) -> Step:
    said = f"at {metrics.work_words(run, workload)}{beyond.note(run, workload, (before[0], after[0]))}"
    values = [_value(run, column, workload, end) for end in (before, after)]
    return Step("" if column == "params" else said, *values)


def _value(run: Run, column: str, workload: str, end: Where) -> Any:
    point, at = end
    return run.value(point.name, column, **at, workload=workload, status="ok")


# ---------------------------------------------------------------- in words


def together(found: Sequence[Move], whose: str) -> str:
    """'the KV cache of A falls to 1/8 and the bound on a decode step by 8.9 % at 8k tokens and 49 % at 128k tokens'.

    The workloads are named with the first number that moves differently at them; where the run has one, with the first.
    """
    said: list[str] = []
    verb, named = "", False
    alone = max(len(m.steps) for m in found) == 1
    works = next((m.works for m in found if m.works), [])
    for m in found:
        known = m.amounts()
        at = not named and (len(known) > 1 or (alone and bool(m.works)))
        named, at = named or at, at or (bool(m.works) and m.works != works)
        said.append(f"the {m.noun}{whose * (not said)} {_listed(m, known, at, verb)}")
        verb = known[-1][0].removesuffix("s") if len({v for v, _ in known}) == 1 else ""
    return words.listing(said) if len(said) != 2 or len(found[0].amounts()) == 1 else ", and ".join(said)


def _listed(m: Move, known: Sequence[tuple[str, str]], at: bool, verb: str) -> str:
    """'falls by 8.9 % at 8k tokens and 49 % at 128k tokens'; a verb and a 'by' that stood before are not said again."""
    said, last = [], ""
    for (v, far), step in zip(known, m.steps, strict=False):
        again = v.removesuffix("s") == verb
        short = far.removeprefix("by ") if again and last.startswith("by ") else far
        where = step.where if at and len(known) == len(m.steps) else ""
        said.append(" ".join(x for x in ("" if again else v, short, where) if x))
        verb, last = v.removesuffix("s"), far
    return words.listing(said)


def numbers(found: Sequence[Move], device: str) -> str:
    """'At 128k tokens, the KV cache falls from 21.66 to 2.71 GiB and the bound on a decode step on A from 8.70 ...'."""
    said: list[str] = []
    verb, where = "", found[0].steps[-1].where
    for m in found:
        v, span = m.from_to()
        own = m.steps[-1].where
        at = " ".join(x for x in (m.noun, "" if own == where else own, _on(m, device)) if x)
        said.append(f"the {at} {span if v.removesuffix('s') == verb else f'{v} {span}'}")
        verb = v.removesuffix("s")
    return words.sentence(f"{where}, {words.listing(said)}.".removeprefix(", "))


def _on(m: Move, device: str) -> str:
    return f"on {device}" if device and m.column.endswith("_s") else ""
