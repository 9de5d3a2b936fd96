"""Does a model fit a device: the verdicts of a run's rows, the devices by what a program can have of them.

A run of `limits: true` asks exactly this: each of its rows also says the longest context and the largest batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archlab import units
from archlab.report import metrics, words
from archlab.report.load import Record, Run
from archlab.report.points import Cast, Point

MARKS = {"fits": "✓", "tight": "≈", "no": "✕"}
"""Verdict -> the mark before its word: colour is never alone."""

ENDLESS = 2**27
"""Tokens from which a longest context is none: nothing grows with it."""

_PARTS = {"weights": "weights", "kv_cache": "cache", "activations": "activations", "runtime": "runtime"}


@dataclass(frozen=True)
class Verdict:
    """What one row says of one model on one device, in bytes and tokens."""

    row: Record
    word: str  # fits | tight | no

    @property
    def fits(self) -> bool:
        """Whether it fits, tight or not."""
        return self.word != "no"

    @property
    def needed(self) -> int:
        """Bytes that have to be on the device."""
        return int(self.row["memory_bytes"])

    @property
    def beyond(self) -> bool:
        """The workload is longer than what the model was trained for."""
        return bool(self.row.get("trained_context")) and self.row["context"] > self.row["trained_context"]

    @property
    def longest(self) -> int | None:
        """The longest context that fits, as far as the model was trained; None where the run did not ask."""
        most, trained = self.row.get("max_context"), self.row.get("trained_context")
        return most if most is None or not trained else min(most, trained)

    @property
    def whole(self) -> bool:
        """All of the context that the model was trained for fits."""
        most, trained = self.row.get("max_context"), self.row.get("trained_context")
        return bool(most and trained and most >= trained)

    def reach(self) -> str:
        """'all 128k', '88k', 'none': the longest context; without one the memory, '17.7 GiB'."""
        if self.longest is None:
            return units.show_gib(self.needed)
        if not self.longest:
            return "none"
        return f"all {words.about(self.longest)}" if self.whole else words.about(self.longest)

    def parts(self) -> dict[str, int]:
        """Part -> bytes on the device."""
        found = {said: self.row.get(f"memory_{part}_bytes") for part, said in _PARTS.items()}
        return {said: int(n) for said, n in found.items() if n}


def known(run: Run) -> bool:
    """Some row says what memory it needs of what."""
    return any(r.get("memory_budget_bytes") for rows in run.rows.values() for r in rows)


def asked(run: Run) -> bool:
    """The run asks what fits: it has longest contexts on several devices."""
    limits = any(r.get("max_context") is not None for rows in run.rows.values() for r in rows)
    return limits and len(metrics.devices(run)) > 1


def verdict(run: Run, point: Point, at: Mapping[str, str | None]) -> Verdict | None:
    """The verdict of a point somewhere; None where the row has no numbers."""
    row = run.row(point.name, status="ok", **at)
    if row is None or row.get("memory_bytes") is None or not row.get("memory_budget_bytes"):
        return None
    left = 1 - row["memory_bytes"] / row["memory_budget_bytes"]
    return Verdict(row, "no" if left < 0 else "tight" if left < run.meta.get("tight", 0.05) else "fits")


def by_room(run: Run) -> list[str]:
    """The devices, the smallest first."""
    return sorted(metrics.devices(run), key=lambda h: (metrics.room(run, h) or 0, h))


def usual(run: Run) -> dict[str, str | None]:
    """Where the sentences stand: the workload in the middle, the first precision and engine."""
    works = metrics.by_reach(run)
    firsts = {"precision": metrics.precisions(run), "engine": metrics.engines(run)}
    return {"workload": works[len(works) // 2], **{k: v[0] for k, v in firsts.items() if v}}


def at_words(run: Run, at: Mapping[str, str | None]) -> str:
    """'with 32k tokens in q4_k_m'."""
    return f"with {metrics.work_words(run, at['workload'])} in {at['precision']}"


def grid(cast: Cast, at: Mapping[str, str | None]) -> dict[str, dict[Point, Verdict]]:
    """Device, the smallest first -> its verdicts."""
    found: dict[str, dict[Point, Verdict]] = {}
    for device in by_room(cast.run):
        verdicts = {p: verdict(cast.run, p, {**at, "hardware": device}) for p in by_size(cast)}
        found[device] = {p: v for p, v in verdicts.items() if v is not None}
    return found


def by_size(cast: Cast) -> list[Point]:
    """The models of a comparison, the smallest first; the shapes of a study in its order."""
    if cast.run.is_study:
        return list(cast.ok)
    return sorted(cast.ok, key=lambda p: cast.run.value(p.name, "params") or 0)


def largest(held: Mapping[Point, Verdict]) -> Point | None:
    """The largest of the points that fit."""
    return next((p for p in reversed([*held]) if held[p].fits), None)


def detail(cast: Cast, point: Point, device: str, found: Verdict) -> str:
    """One cell in words: 'gemma-3-27b on GeForce RTX 4090: 20.5 of 24.0 GiB, ...'."""
    row: Mapping[str, Any] = found.row
    of = f"{units.show_gib(found.needed)} of {units.show_gib(row['memory_budget_bytes'])}"
    parts = ", ".join(f"{said} {words.say_bytes(n)}" for said, n in found.parts().items())
    host = f"; {words.say_bytes(row['memory_host_bytes'])} stay on the host" if row.get("memory_host_bytes") else ""
    said = f"{point.tag} on {metrics.device_title(cast.run, device)}: {of} ({parts}){host}"
    if found.row.get("max_context") is None:
        return said + "."
    most = row["max_context"]
    context = "any context fits" if most >= ENDLESS else f"at most {most:,} tokens fit" if most else "no context fits"
    trained = f", trained for {units.show_tokens(row['trained_context'])}" if row.get("trained_context") else ""
    many = f"; {words.some(row['max_batch'], 'sequence')} of {units.show_tokens(row['context'])} at once"
    return said + f"; {context}{trained}" + (many if row.get("max_batch") else "") + "."
