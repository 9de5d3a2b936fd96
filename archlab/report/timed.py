"""What was timed, row by row: whose it is, how it came to be, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archlab.report import metrics, words
from archlab.report.load import Record
from archlab.report.parts import EXTRAPOLATED, MEASURED, Switch
from archlab.report.points import Cast, Point

WHERE = ("device", "dtype", "backend")
PHASES = {"decode": "Decode, one step", "prefill": "Prefill"}


Work = tuple[int, int, str]
"""Context, batch and name of a workload: its order, and what tells it from another."""


@dataclass(frozen=True, eq=False)
class Timing:
    """One row of measured.parquet that has a time. What an older run does not say is None."""

    point: Point
    row: Record

    @property
    def phase(self) -> str:
        """decode | prefill."""
        return str(self.row["phase"])

    @property
    def is_timed(self) -> bool:
        """It has a median; without one it is a bound or a prediction alone."""
        return bool(self.row.get("median_s"))

    @property
    def seconds(self) -> float:
        """The median."""
        return float(self.row["median_s"])

    @property
    def low(self) -> float:
        """Where the whisker begins: 5 % of the runs took less."""
        return float(self.row.get("p5_s") or self.seconds)

    @property
    def high(self) -> float:
        """Where it ends: 5 % of the runs took longer."""
        return float(self.row.get("p95_s") or self.seconds)

    @property
    def bound(self) -> float | None:
        """Seconds that the device's own rates allow at best."""
        return self.row.get("bound_s")

    @property
    def predicted(self) -> float | None:
        """Seconds that were expected."""
        return self.row.get("predicted_s")

    @property
    def tag(self) -> str:
        """measured | extrapolated."""
        return EXTRAPOLATED if self.row.get("source") == EXTRAPOLATED else MEASURED

    @property
    def place(self) -> str:
        """Where and how it was timed."""
        return place(self.row)

    @property
    def work(self) -> Work:
        """What two timings of one workload share."""
        return self.row.get("context") or 0, self.row.get("batch") or 1, str(self.row["workload"])

    @property
    def share(self) -> float | None:
        """Of the bound: 1 is all that the device's own rates allow."""
        return self.bound / self.seconds if self.bound else None

    @property
    def error(self) -> float | None:
        """By how much of the time the prediction is longer; None for what was not measured."""
        measured = self.is_timed and self.tag == MEASURED
        return self.predicted / self.seconds - 1 if self.predicted and measured else None

    @property
    def known(self) -> list[float]:
        """All times of the row."""
        own = [self.low, self.seconds, self.high] if self.is_timed else []
        return [*own, *(x for x in (self.bound, self.predicted) if x)]


Placed = tuple[Point, Timing]
"""A row of a picture: what it is called, and its times."""


def tried(cast: Cast) -> list[Timing]:
    """All rows of measured.parquet with their points, those without a time too, in the order of the run."""
    known = {p.name: p for p in (*cast.all, *cast.stand_ins)}
    return [Timing(known[r["point"]], r) for r in cast.run.measured_rows if r["point"] in known]


def timings(cast: Cast) -> list[Timing]:
    """Those that have a median."""
    return [t for t in tried(cast) if t.is_timed]


def on_devices(cast: Cast) -> list[Timing]:
    """The bounds and predictions of the run's own points, as rows that were not timed; device by device."""
    ranked = sorted(metrics.devices(cast.run), key=metrics.roomiest(cast.run).index)
    rows = [(p, r) for p in cast.ok for r in cast.run.rows[p.name] if r["status"] == "ok" and r["hardware"]]
    rows.sort(key=lambda x: ranked.index(x[1]["hardware"]))
    found = [Timing(p, _on_device(cast, r, phase)) for p, r in rows for phase in PHASES]
    return [t for t in found if t.known]


def _on_device(cast: Cast, row: Record, phase: str) -> Record:
    own = {key: row.get(key) for key in ("workload", "batch", "context")}
    several = len(metrics.precisions(cast.run)) > 1
    where = {"device": metrics.device_title(cast.run, row["hardware"]), "dtype": row["precision"] if several else None}
    times = {"bound_s": row.get(f"{phase}_bound_s"), "predicted_s": row.get(f"{phase}_predicted_s")}
    errors = {key: value for key, value in row.items() if key.startswith("predicted_error")}
    at = {key: row.get(key) for key in ("workload", "hardware", "precision")}
    fits = metrics.fits(cast.run, row["point"], at)
    return {**own, **where, **times, **errors, "phase": phase, "fits": fits}


def place(row: Record) -> str:
    """Where and how a row was timed: 'AMD EPYC 7B13, 2 threads, bf16, fast'."""
    return ", ".join(str(row[k]) for k in WHERE if row.get(k) is not None)


def places(found: Iterable[Timing]) -> list[str]:
    """The places, that with the most timings first."""
    counted: dict[str, int] = {}
    for t in found:
        counted[t.place] = counted.get(t.place, 0) + 1
    return sorted(counted, key=lambda p: -counted[p])


def phases(found: Iterable[Timing]) -> list[str]:
    """Decode before prefill before others."""
    there = dict.fromkeys(t.phase for t in found)
    return sorted(there, key=lambda x: (x != "decode", x != "prefill", x))


def work_words(cast: Cast, row: Record) -> str:
    """'4 × 2k tokens'."""
    return reach(row) if row.get("context") else metrics.work_words(cast.run, row["workload"])


def reach(row: Record) -> str:
    """The batch and the context of a row, in words. Its source is how it was timed, not an encoder's tokens."""
    return words.workload({key: row.get(key) for key in ("batch", "context")})


def spoken(t: Timing) -> str:
    """'decode at 4 × 2k tokens'."""
    return f"{t.phase} at {reach(t.row)}"


def tags(found: Iterable[Timing]) -> tuple[str, ...]:
    """Those of measured and extrapolated that there are."""
    there = {t.tag for t in found}
    return tuple(tag for tag in (MEASURED, EXTRAPOLATED) if tag in there)


def participle(found: Iterable[Timing]) -> str:
    """'measured', 'extrapolated', 'measured and extrapolated'."""
    return words.listing(tags(found))


# ---------------------------------------------------------------- pictures with a row for each


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture of rows, one drawing for each state of the card's switches."""

    key: str
    title: str
    states: Mapping[str, Sequence[Placed]]

    @property
    def tag(self) -> str:
        """The one that all its times have, else none: each row says its own."""
        found = tags(t for rows in self.states.values() for _, t in rows)
        return found[0] if len(found) == 1 else ""


FEW = 2
"""So many workloads have pictures of their own; more are chosen by a switch."""


def panels(cast: Cast, found: Sequence[Timing]) -> tuple[tuple[Panel, ...], tuple[Switch, ...]]:
    """A picture a phase and workload, a row a point; of one point at several workloads, a row a workload."""
    works, setups = sorted({t.work for t in found}), places(found)
    alone = len({t.point for t in found}) == 1 and len(works) > 1
    several = len(works) > FEW and not alone
    names = {t.work: work_words(cast, t.row) for t in found}
    rows = {w: found[0].point.part(i, names[w]) for i, w in enumerate(works)} if alone else {}
    made = []
    for phase in phases(found):
        for group in [works] if alone or several else [[w] for w in works]:
            mine = [t for t in found if t.phase == phase and t.work in group]
            states: dict[str, list[Placed]] = {}
            for t in sorted(mine, key=lambda t: (t.work[1], t.work[0]) if alone else 0):  # by batch, then by context
                state = "/".join([t.work[2]] * several + [t.place] * (len(setups) > 1))
                states.setdefault(state, []).append((rows.get(t.work, t.point), t))
            if mine:
                made.append(_panel(cast, phase, group, mine, states))
    return tuple(made), _switches(cast, found, several, setups)


def _panel(
    cast: Cast, phase: str, group: Sequence[Work], mine: Sequence[Timing], states: Mapping[str, Sequence[Placed]]
) -> Panel:
    name = PHASES.get(phase, phase)
    if len(group) > 1:
        return Panel(phase, name, states)
    return Panel(f"{phase}-{group[0][2]}", f"{name} at {work_words(cast, mine[0].row)}", states)


def _switches(cast: Cast, found: Sequence[Timing], by_work: bool, setups: Sequence[str]) -> tuple[Switch, ...]:
    """On is where most was timed; of as much, the longest workload."""
    at = max(found, key=lambda t: (sum((t.work, t.place) == (o.work, o.place) for o in found), t.work))
    works = {t.work: t.row for t in sorted(found, key=lambda t: t.work)}
    said = tuple((work[2], work_words(cast, row)) for work, row in works.items())
    made = [Switch("At", said, at.work[2])] * by_work
    return (*made, *[Switch("On", tuple((s, s) for s in setups), at.place)] * (len(setups) > 1))
