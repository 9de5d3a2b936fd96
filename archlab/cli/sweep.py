"""archlab sweep: the words of the command line to the Hydra application, and its outcome on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archlab.cli.screen import print_json, say
from archlab.errors import SpecError
from archlab.sweep.app import Outcome, run
from archlab.sweep.argv_words import OVERRIDE
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
    try:
        outcome = run(words, say=say)
    except KeyboardInterrupt:
        say("interrupted: what is stored is kept, and the same command goes on from there")
        raise
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
    return {
        "run": str(outcome.folder),
        "report": str(outcome.report),
        "points": outcome.computed,
        "points_computed_now": outcome.fresh,
        "points_excluded": outcome.excluded,
        "points_refused": outcome.refused,
        "rows": status,
        "rows_on_a_front": int(outcome.points["front"].sum()),
        "measured_rows": timed,
    }


def summary(outcome: Outcome) -> str:
    """Counts, the extremes, and the next step."""
    good = outcome.points[outcome.points["status"] == "ok"]
    lines = [*_counts(outcome)]
    if (least := _lowest(good, "kv_cache_bytes")) is not None:
        lines.append(f"least KV cache: {least['point']}, {show_bytes(least['kv_cache_bytes'])} at {least['workload']}")
    if (fast := _lowest(good, "decode_bound_s")) is not None:
        where = f"{show_seconds(fast['decode_bound_s'])} a step on {fast['hardware']} at {fast['workload']}"
        lines.append(f"lowest decode bound: {fast['point']}, {where}")
    if outcome.measured is not None and len(outcome.measured):
        lines.append(f"measured here: {len(outcome.measured)} rows on {outcome.measured['device'].iloc[0]}")
    return "\n".join([*lines, f"results: {outcome.folder}   again: archlab report {outcome.folder}"])


def _counts(outcome: Outcome) -> Iterator[str]:
    """What became of the points; of a large run how many have a row of their own."""
    points = outcome.points
    kinds = points["status"].value_counts()
    there = outcome.computed - outcome.fresh
    stored = f", {there:,} of them stored before" if there else ""
    if outcome.computed > len(points):
        out = [f", {n:,} {word}" for n, word in ((outcome.excluded, "excluded"), (outcome.refused, "refused")) if n]
        yield f"{outcome.computed:,} points{stored}{''.join(out)}; rows for {len(points):,}: fronts and a sample"
    else:
        yield f"{kinds.get('ok', 0):,} of {len(points):,} points stand{stored}"
    if not kinds.drop("ok", errors="ignore").empty:
        told = ", ".join(f"{n:,} {status}" for status, n in kinds.items() if status != "ok")
        yield ("of the rows " if outcome.computed > len(points) else "") + f"{told}:"
        reasons = points["reason"].dropna()
        yield from (f"  {reason}" for reason in reasons.unique()[:3])
    front = int(points["front"].sum())
    if 0 < front < kinds.get("ok", 0):
        yield f"{front:,} on a front of the objectives"


def _lowest(rows: Any, column: str) -> Any:
    """The row with the least of a column; None where no row has it, as an encoder has no cache."""
    known = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    return known.loc[known[column].idxmin()] if len(known) else None
