"""archlab sweep: the words of the command line to the Hydra application, and its outcome on the screen."""

from __future__ import annotations

from typing import Any

from archlab.cli.screen import print_json, say
from archlab.errors import SpecError
from archlab.sweep.app import Outcome, run
from archlab.sweep.argv import OVERRIDE
from archlab.units import show_bytes, show_seconds


def run_words(study: str | None, rest: list[str], json: bool) -> None:
    """Runs the study (or the ad-hoc sweep) and says what came of it."""
    words = list(rest)
    if study is not None:
        words = [study if OVERRIDE.match(study) or study.startswith("-") else f"study={study}", *words]
    if not words:
        raise SpecError(
            "sweep takes a study (archlab sweep attention_heads) or key=value words (archlab sweep -m model=a,b)"
        )
    outcome = run(words, say=say)
    if outcome is None:
        return
    if json:
        print_json(facts(outcome))
    else:
        say(summary(outcome))
        print(outcome.report)
    if not (outcome.points["status"] == "ok").any():
        raise SystemExit(1)


def facts(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    status = outcome.points["status"].value_counts().to_dict()
    timed = 0 if outcome.measured is None else len(outcome.measured)
    return {"run": str(outcome.folder), "report": str(outcome.report), "rows": status, "measured_rows": timed}


def summary(outcome: Outcome) -> str:
    """Counts, the extremes, and the next step."""
    points = outcome.points
    good = points[points["status"] == "ok"]
    lines = [f"{len(good)} of {len(points)} points computed" + ("" if len(good) == len(points) else "; refused:")]
    lines += [f"  {reason}" for reason in points["reason"].dropna().unique()[:3]]
    if (least := _lowest(good, "kv_cache_bytes")) is not None:
        lines.append(f"least KV cache: {least['point']}, {show_bytes(least['kv_cache_bytes'])} at {least['workload']}")
    if (fast := _lowest(good, "decode_bound_s")) is not None:
        where = f"{show_seconds(fast['decode_bound_s'])} a step on {fast['hardware']} at {fast['workload']}"
        lines.append(f"lowest decode bound: {fast['point']}, {where}")
    if outcome.measured is not None and len(outcome.measured):
        lines.append(f"measured here: {len(outcome.measured)} rows on {outcome.measured['device'].iloc[0]}")
    return "\n".join([*lines, f"results: {outcome.folder}   again: archlab report {outcome.folder}"])


def _lowest(rows: Any, column: str) -> Any:
    """The row with the least of a column; None where no row has it, as an encoder has no cache."""
    known = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    return known.loc[known[column].idxmin()] if len(known) else None
