"""Where a sentence stands beyond the context that a model was trained for, it says so."""

from __future__ import annotations

from collections.abc import Iterable

from archlab import units
from archlab.report import metrics, words
from archlab.report.load import Run
from archlab.report.metrics import Metric
from archlab.report.points import Point

MOST = 2
"""So many models are named."""


def where(run: Run, metric: Metric, points: Iterable[Point]) -> str:
    """The metric's own 'at 128k tokens on A', as 'at 128k tokens (beyond the trained 8k) on A' where it is."""
    work = metric.at.get("workload")
    said = metrics.work_words(run, work)
    return metric.where.replace(said, said + note(run, work, points), 1) if work else metric.where


def note(run: Run, workload: str | None, points: Iterable[Point]) -> str:
    """' (beyond the trained 8k)' of points of one trained context; else of which models; '' where none is beyond."""
    own = run.meta["workloads"].get(workload) or run.works.get(workload or "") or {}
    return of_context(run, own.get("context"), points)


def of_context(run: Run, context: int | None, points: Iterable[Point]) -> str:
    """The same for a number of tokens."""
    trained = {p: run.value(p.name, "trained_context") for p in points}
    beyond = {p: t for p, t in sorted(trained.items(), key=lambda x: x[1] or 0) if t and context and context > t}
    if not beyond:
        return ""
    if len(beyond) == len(trained):
        contexts = [units.show_tokens(t) for t in dict.fromkeys(beyond.values())]
        several = f"{contexts[0]} to {contexts[-1]}" if len(contexts) > MOST else words.listing(contexts)
        return f" (beyond the trained {several})"
    bases = list(dict.fromkeys(p.base for p in beyond))
    whose = words.listing(bases) if len(bases) <= MOST else words.some(len(bases), "model")
    return f" (beyond what {whose} {'was' if len(bases) == 1 else 'were'} trained for)"
