"""What a search wants of a point: objectives, conditions, and by how much a point misses them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from archlab.errors import SpecError
from archlab.sweep.pareto import Objective
from archlab.sweep.search_points import Row
from archlab.sweep.study import Study, check_columns, objectives_of
from archlab.sweep.study_fields import SPACE_KEYS
from archlab.sweep.where import Where, matched, parse_where
from archlab.sweep.where_conditions import Comparison, Junction
from archlab.sweep.where_values import Value

REFUSED = 1000.0
"""The violation of a point that cannot be: more than any number of conditions that are not met."""

DIGITS = 12
"""Of an objective: a sum's last digit may depend on the batch that a point came in, and must not decide a contest."""

LEAST = 1e-9
"""The violation of a condition that is missed by nothing: x < 3 at x = 3."""


@dataclass(frozen=True)
class Verdict:
    """What became of a point: feasible, outside (a condition is not met) or refused (a rule is broken)."""

    state: str
    reason: str | None
    values: tuple[float, ...]  # of the objectives, in their own sense
    violation: float


@dataclass(frozen=True)
class Rules:
    """A study's objectives and conditions, held against the columns that there are."""

    objectives: tuple[Objective, ...]
    conditions: tuple[Where, ...]
    columns: tuple[str, ...]

    def judge(self, rows: Sequence[Row]) -> list[Verdict]:
        """A verdict a row."""
        frame = pd.DataFrame(list(rows)).reindex(columns=["status", "reason", *self.columns])
        values = np.column_stack([_numbers(o.name, frame) for o in self.objectives])
        missed = [_violation(condition, frame) for condition in self.conditions]
        return [
            self._verdict(row, values[i], [float(amounts[i]) for amounts in missed])
            for i, row in enumerate(frame[["status", "reason"]].to_dict("records"))
        ]

    def _verdict(self, row: dict[Any, Any], values: np.ndarray, missed: list[float]) -> Verdict:
        reason = row["reason"] if row["status"] != "ok" else _missing(self.objectives, values)
        if reason is not None:
            worst = tuple(np.inf if o.sense == "min" else -np.inf for o in self.objectives)
            return Verdict("refused", str(reason), worst, REFUSED)
        numbers = tuple(float(f"{v:.{DIGITS}g}") for v in values)
        unmet = [c.text for c, amount in zip(self.conditions, missed, strict=True) if amount > 0]
        if unmet:
            return Verdict("outside", f"{' and '.join(unmet)} does not hold", numbers, sum(missed))
        return Verdict("feasible", None, numbers, 0.0)


def rules_of(study: Study, columns: Iterable[str]) -> Rules:
    """The rules of a study on some columns. Raises SpecError for a name that none of them has."""
    known = tuple(columns)
    check_columns(study, known)
    asked = objectives_of(study)
    if not study.objectives:  # by default what there is: an encoder has no decode step
        asked = tuple(o for o in asked if o.name in known)
    if not asked:
        raise SpecError("the study has no objective that its points have; name some: objectives=[min params]")
    found = tuple(replace(o, name=matched(o.name, known)) for o in asked)
    for objective in found:
        if objective.name in SPACE_KEYS:
            raise SpecError(f"{objective} cannot be: {objective.name} holds names, not numbers")
    return Rules(found, tuple(parse_where(text, known) for text in study.where), known)


def _numbers(name: str, frame: pd.DataFrame) -> np.ndarray:
    """A column as numbers; NaN where it has none."""
    try:
        return pd.to_numeric(frame[name]).to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise SpecError(f"{name} cannot be an objective: it holds no numbers") from None


def _missing(objectives: Sequence[Objective], values: np.ndarray) -> str | None:
    """Why a point cannot be compared, where an objective has no finite value."""
    name = next((o.name for o, v in zip(objectives, values, strict=True) if not np.isfinite(v)), None)
    return None if name is None else f"{name} has no finite value here"


# ---------------------------------------------------------------- by how much a condition is missed


def _violation(condition: Where, frame: pd.DataFrame) -> np.ndarray:
    """0 where it holds, else above 0: of numbers the relative distance to the limit, of anything else 1."""
    unmet = ~condition.mask(frame)
    read = {name: _as_number(frame[name]) for name in condition.names}
    amounts = np.ones(len(frame))
    if all(value is not None for value in read.values()):
        known = {name: value for name, value in read.items() if value is not None}
        amounts = np.maximum(np.nan_to_num(_amount(Junction(True, condition._parts), known), nan=1.0), LEAST)
    return np.where(unmet, amounts, 0.0)


def _as_number(column: pd.Series) -> Value | None:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return Value("a number", column.to_numpy(dtype=float, na_value=np.nan)) if numeric else None


def _amount(part: Any, read: dict[str, Value]) -> np.ndarray:
    """Of `and` the sum of the parts, of `or` the least; what is no comparison of sizes counts 1."""
    if isinstance(part, Junction):
        amounts = [_amount(inner, read) for inner in part.parts]
        return np.sum(amounts, axis=0) if part.every else np.min(amounts, axis=0)
    if not isinstance(part, Comparison):
        return np.where(part.holds(read.__getitem__, True), 0.0, 1.0)
    return np.sum([_beyond(pair, read) for pair in part.pairs], axis=0)


def _beyond(pair: Any, read: dict[str, Value]) -> np.ndarray:
    """How far the two sides of a comparison are on the wrong side of each other, over the greater: 0 to 2."""
    sign, left, right = pair
    if sign not in ("<", "<=", ">", ">=", "=="):
        return np.where(Comparison((pair,)).holds(read.__getitem__, True), 0.0, 1.0)
    a, b = (np.asarray(side.value(read.__getitem__).data, dtype=float) for side in (left, right))
    gap = a - b if sign[0] == "<" else b - a if sign[0] == ">" else np.abs(a - b)
    scale = np.maximum(np.abs(a), np.abs(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(gap > 0, gap / scale, 0.0)
