"""What a run wants small or large, and which points no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archlab.report import words
from archlab.report.columns import QUALITY, Quantity, quantity
from archlab.report.load import Run
from archlab.report.thin import STANDS


@dataclass(frozen=True)
class Aim:
    """A column, and whether less of it is better, or more; None where nobody said."""

    of: Quantity
    sense: str | None = None  # min | max

    @property
    def column(self) -> str:
        """The column."""
        return self.of.column


def aims(run: Run) -> list[Aim]:
    """The objectives that the run has numbers for."""
    found = []
    for text in run.meta["objectives"]:
        sense, _, column = str(text).rpartition(" ")
        if _has(run, column):
            found.append(Aim(quantity(column), "max" if sense == "max" else "min"))
    return found


def numbered(run: Run, wanted: Sequence[str]) -> list[Aim]:
    """Those of some columns that the run has numbers for, and that vary; nobody said which way is better."""
    return [Aim(quantity(column)) for column in wanted if _has(run, column)]


def qualities(run: Run) -> list[Aim]:
    """The columns that a user's table gave; which way is better, it does not say."""
    return [Aim(quantity(c)) for c in run.points.columns if str(c).startswith(QUALITY) and _has(run, c)]


def _has(run: Run, column: str) -> bool:
    if column not in run.points.columns or run.points[column].dtype.kind not in "iuf":
        return False
    known = run.points.loc[run.points["status"].isin(STANDS), column].dropna()
    return known.nunique() > 1


def best(x: Sequence[float], y: Sequence[float], senses: tuple[str, str]) -> list[int]:
    """Places of the points that no other beats in two numbers, from the left to the right of a picture.

    One beats another where it is no worse in both and better in one.
    """
    turn = [1 if sense == "min" else -1 for sense in senses]
    order = sorted(range(len(x)), key=lambda i: (turn[0] * x[i], turn[1] * y[i]))
    kept: list[int] = []
    for i in order:
        if not kept or turn[1] * y[i] < turn[1] * y[kept[-1]] or (x[i], y[i]) == (x[kept[-1]], y[kept[-1]]):
            kept.append(i)
    return sorted(kept, key=lambda i: x[i])


def listed(found: Sequence[Aim]) -> str:
    """'memory needed, prefill and decode step', in a sentence."""
    return words.listing([aim.of.noun for aim in found])
