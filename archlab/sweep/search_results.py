"""What a search found: a table of its trials, the front among them, and search.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from archlab.sweep.axes import show_value
from archlab.sweep.pareto import epsilon_front, front
from archlab.sweep.search_rules import Verdict
from archlab.sweep.search_setup import Searched
from archlab.sweep.search_space import Choices, Dimension, Values, size
from archlab.sweep.study_fields import SPACE_KEYS

STATES = ("feasible", "outside", "refused")


def trials_table(searched: Searched, points: Sequence[Values]) -> tuple[pd.DataFrame, list[int]]:
    """(a row a trial, numbers of the rows on the front: one of each point)."""
    rows = searched.evaluator.rows(points)
    verdicts = searched.rules.judge(rows) if rows else []
    keys = [dim.key for dim in searched.dims]
    told = [
        {
            "number": i,
            "state": v.state,
            "reason": v.reason,
            "violation": v.violation,
            "is_base": _same(p, searched.base),
        }
        | {k: show_value(p[k]) for k in keys}
        | {o.name: row.get(o.name) for o in searched.rules.objectives}
        | {k: value for k, value in row.items() if k not in ("status", "reason")}
        for i, (p, row, v) in enumerate(zip(points, rows, verdicts, strict=True))
    ]
    columns = dict.fromkeys(name for row in told for name in row)
    return pd.DataFrame(told, columns=list(columns)), _front(searched, points, verdicts)


def _same(point: Values, base: Values) -> bool:
    return bool(base) and all(repr(point[k]) == repr(v) for k, v in base.items())


def _front(searched: Searched, points: Sequence[Values], verdicts: Sequence[Verdict]) -> list[int]:
    """Rows of the feasible points that no other beats, each point once, by the first objective."""
    first = {repr(p): i for i, p in reversed(list(enumerate(points)))}
    rows = [i for i in sorted(first.values()) if verdicts[i].state == "feasible"]
    if not rows:
        return []
    values = np.array([verdicts[i].values for i in rows])
    senses, epsilon = [o.sense for o in searched.rules.objectives], searched.asked.study.epsilon
    found = front(values, senses) if epsilon is None else epsilon_front(values, epsilon, senses)
    best = [rows[i] for i in found]
    return sorted(best, key=lambda i: (verdicts[i].values[0], i), reverse=senses[0] == "max")


def document(
    searched: Searched, table: pd.DataFrame, best: list[int], facts: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """search.json."""
    study, count = searched.asked.study, size(searched.dims)
    keys = [dim.key for dim in searched.dims]
    shown = ["number", "is_base", *keys, *(o.name for o in searched.rules.objectives)]
    states = table["state"].value_counts().to_dict() if len(table) else {}
    return {
        "kind": "search",
        "name": searched.asked.name,
        "question": study.question,
        "objectives": [{"name": o.name, "sense": o.sense} for o in searched.rules.objectives],
        "where": list(study.where),
        "space": {dim.key: _shown(dim) for dim in searched.dims},
        "place": _place(searched, keys),
        "points_of_space": count,
        "whole": count is not None and count <= len(table.drop_duplicates(keys)),
        "sampler": searched.how.sampler,
        "seed": searched.how.seed,
        "trials": len(table),
        **{state: int(states.get(state, 0)) for state in STATES},
        "best": _records(table.iloc[best][list(dict.fromkeys(shown))]),
        "base": _base(searched),
        "seconds": round(seconds, 2),
        "provenance": dict(facts),
    }


def _place(searched: Searched, keys: Sequence[str]) -> dict[str, str]:
    """The model, workload, device, precision and engine that all points share."""
    row = searched.evaluator.rows([{}])[0]
    return {name: row[name] for name in SPACE_KEYS if name not in keys and name in row}


def _base(searched: Searched) -> dict[str, Any] | None:
    """The base's own values of the objectives, as it is released; None where it cannot stand."""
    row = searched.evaluator.rows([{}])[0]
    if row["status"] != "ok":
        return None
    numbers = {o.name: row.get(o.name) for o in searched.rules.objectives}
    return {k: row[k] for k in SPACE_KEYS} | {k: None if v is None or v != v else float(v) for k, v in numbers.items()}


def _shown(dim: Dimension) -> Any:
    if isinstance(dim, Choices):
        return [show_value(v) for v in dim.values]
    said = {"low": dim.low, "high": dim.high, "step": dim.step, "log": dim.log}
    return {k: v for k, v in said.items() if v not in (None, False)}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.to_dict("records")
    return [{str(k): _scalar(v) for k, v in row.items()} for row in rows]


def _scalar(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value
