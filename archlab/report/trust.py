"""How far a prediction can be trusted: its error on what was measured, and on what the calibration had not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from archlab.report import words
from archlab.report.load import Record
from archlab.report.points import Cast
from archlab.report.timed import Timing, work_words

MEDIAN, P90 = "predicted_error_median", "predicted_error_p90"
COMPOSED = "composed"


def off(rows: Iterable[Record]) -> str:
    """'6.0 %', '4.0 % to 6.0 %': the held-out median error of some rows; '' where the calibration notes none."""
    known = sorted({row[MEDIAN] for row in rows if row.get(MEDIAN) is not None})
    ends = [words.percent(x) for x in known[:1] + known[-1:]]
    return " to ".join(dict.fromkeys(ends))


def held_out(rows: Sequence[Record]) -> str:
    """The error on what the calibration had not seen, in a sentence."""
    middle = off(rows)
    if not middle:
        return "The calibration notes no held-out error: nothing says how far a prediction can be trusted elsewhere."
    worst = max((row[P90] for row in rows if row.get(P90) is not None), default=None)
    most = f" and within {words.percent(worst)} for nine in ten" if worst is not None else ""
    return f"On shapes that were left out of the calibration, predictions were off by {middle} in the median{most}."


def said(rows: Sequence[Record]) -> str:
    """The held-out error, and what composed predictions are."""
    return " ".join([held_out(rows), *how(rows)])


def seen(cast: Cast, found: Sequence[Timing]) -> str:
    """The median and the worst error of predictions beside their measurements, in a sentence."""
    errors = {t: abs(t.error) for t in found if t.error is not None}
    worst = max(errors, key=lambda t: errors[t])
    if len(errors) == 1:
        return f"The one time that was predicted and measured is off by {words.percent(errors[worst])}."
    middle, most = words.percent(median(errors.values())), words.percent(errors[worst])
    where = f"{worst.point.tag}, {worst.phase} at {work_words(cast, worst.row)}"
    times = words.some(len(errors), "measured time")
    return f"Over {times} the prediction is off by {middle} in the median, at the worst by {most} ({where})."


def how(rows: Iterable[Record]) -> list[str]:
    """What a composed prediction is, where there is one."""
    composed = any(row.get("predicted_source") == COMPOSED for row in rows)
    return ["Composed: added up from operations that were each timed at their own shapes."] * composed


def predicted_rows(cast: Cast) -> list[Record]:
    """The rows of points.parquet that have a prediction."""
    every = (r for p in cast.ok for r in cast.run.rows[p.name])
    return [r for r in every if any(r.get(f"{phase}_predicted_s") for phase in ("decode", "prefill"))]
