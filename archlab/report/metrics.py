"""The quantities that a report compares: which column, where, in which unit, and how it came to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from archlab import units
from archlab.report import words
from archlab.report.load import Run
from archlab.report.parts import BOUND, CALCULATED, PREDICTED
from archlab.report.points import Point

_SAY: Mapping[words.Scaler, Callable[[float], str]] = {
    words.gib: words.say_bytes, words.seconds: units.show_seconds, words.flop: words.say_flop,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Metric:
    """`name` and `where` read on as a sentence: 'KV cache' 'at 128k tokens'."""

    column: str
    name: str
    where: str
    scale: words.Scaler
    tag: str = CALCULATED
    at: Mapping[str, str | None] = field(default_factory=dict)
    said: str = ""  # the name inside a sentence, where that is another
    less: str = "smaller"

    def of(self, run: Run, point: Point) -> Any:
        """The number of a point, None where there is none; of one that stands, where it stands."""
        stands = {"status": "ok"} if point.ok else {}
        return run.value(point.name, self.column, **self.at, **stands)

    def known(self, run: Run, points: Iterable[Point]) -> dict[Point, Any]:
        """Those points that have the number, and it."""
        found = {p: self.of(run, p) for p in points}
        return {p: v for p, v in found.items() if v is not None}

    def say(self, value: float) -> str:
        """'21.66 GiB', '8.47 ms': for a sentence."""
        return _SAY.get(self.scale, units.show_count)(value)

    @property
    def noun(self) -> str:
        """The name inside a sentence: 'KV cache', 'bound on a decode step'."""
        return self.said or self.name

    @property
    def title(self) -> str:
        """'KV cache at 128k tokens'."""
        return f"{self.name} {self.where}".strip()

    @property
    def key(self) -> str:
        """The heading of a CSV column: 'kv_cache_bytes long-128k bf16'."""
        return " ".join([self.column, *(v for v in self.at.values() if v)])


def by_reach(run: Run) -> list[str]:
    """Workloads, the shortest context first, then the smallest batch."""
    works = {w: run.meta["workloads"].get(w) or run.works[w] for w in run.distinct("workload")}
    return sorted(works, key=lambda w: (works[w].get("context") or 0, works[w].get("batch") or 1))


def longest(run: Run) -> str | None:
    """The workload with the longest context."""
    return next(reversed(by_reach(run)), None)


def work_words(run: Run, workload: str | None) -> str:
    """'8k tokens', '32 × 8k tokens'; the workload's name where the run does not describe it."""
    known = run.meta["workloads"].get(workload) or run.works.get(workload or "") or {}
    return words.workload(known) if known.get("context") else str(workload or "")


def devices(run: Run) -> list[str]:
    """The hardware of the rows, in their order."""
    return run.distinct("hardware")


def fits(run: Run, point: str, at: Mapping[str, str | None]) -> bool:
    """False where the row says so; of a row that does not say, where weights and cache alone are more than the device
    has. True where that is not known."""
    memory = room(run, at.get("hardware"))
    said = None if memory is None else run.value(point, "fits", **at)
    if said is not None:
        return bool(said)
    needs = [run.value(point, column, **at) for column in ("weights_bytes", "kv_cache_bytes")]
    return memory is None or None in needs or sum(needs) <= memory


def room(run: Run, hardware: str | None) -> int | None:
    """Bytes that a program can have of a device; those that its driver reports, where a run says no more."""
    facts = run.meta["hardware"].get(hardware, {})
    return facts.get("available_bytes") or facts.get("memory_bytes")


def rooms(run: Run) -> list[tuple[int, str]]:
    """(bytes that a program can have, title) of the devices, the smallest first."""
    found = {(room(run, name), facts.get("title") or name) for name, facts in run.meta["hardware"].items()}
    return sorted((size, title) for size, title in found if size)


def roomiest(run: Run) -> list[str]:
    """The devices, those that hold more of the points at the longest workload first."""
    if run not in _ROOMIEST:
        _ROOMIEST[run] = _by_held(run)
    return _ROOMIEST[run]


_ROOMIEST: WeakKeyDictionary[Run, list[str]] = WeakKeyDictionary()


def _by_held(run: Run) -> list[str]:
    at = {"workload": longest(run), "precision": next(iter(precisions(run)), None)}
    held = {h: sum(fits(run, p, {**at, "hardware": h}) for p in run.rows) for h in devices(run)}
    return sorted(held, key=lambda h: -held[h])


def device_title(run: Run, hardware: str | None) -> str:
    """What the vendor calls it."""
    return str(run.meta["hardware"].get(hardware, {}).get("title") or hardware or "")


def precisions(run: Run) -> list[str]:
    """The precisions of the rows, in their order."""
    return run.distinct("precision")


def engines(run: Run) -> list[str]:
    """The engines of the rows, in their order; none in a run that does not say."""
    return run.distinct("engine")


def _in_precision(run: Run, precision: str) -> str:
    return f", {precision}" if len(precisions(run)) > 1 else ""


def kv_cache(run: Run) -> list[Metric]:
    """The cache at each workload."""
    return [
        Metric("kv_cache_bytes", "KV cache", f"at {work_words(run, w)}{_in_precision(run, p)}", words.gib,
               at={"workload": w, "precision": p})
        for p in precisions(run) for w in by_reach(run)
    ]  # fmt: skip


def bounds(run: Run, phase: str) -> list[Metric]:
    """The bound on a phase, `decode` or `prefill`, at each device and workload."""
    return _times(run, phase, "bound", BOUND, f"bound on a {_STEPS[phase].lower()}")


def predictions(run: Run, phase: str) -> list[Metric]:
    """What calibrated devices are expected to take for a phase."""
    return _times(run, phase, "predicted", PREDICTED, f"predicted time of a {_STEPS[phase].lower()}")


_STEPS = {"decode": "Decode step", "prefill": "Prefill"}


def _times(run: Run, phase: str, what: str, tag: str, said: str) -> list[Metric]:
    name = _STEPS[phase]
    return [
        Metric(f"{phase}_{what}_s", name, f"at {work_words(run, w)} on {device_title(run, h)}{_in_precision(run, p)}",
               words.seconds, tag, {"workload": w, "hardware": h, "precision": p}, said, "lower")
        for h in devices(run) for p in precisions(run) for w in by_reach(run)
    ]  # fmt: skip


def weights(run: Run) -> list[Metric]:
    """The bytes of the weights at each precision."""
    return [Metric("weights_bytes", "Weights", f"in {p}", words.gib, at={"precision": p}) for p in precisions(run)]


def flops(run: Run, phase: str) -> list[Metric]:
    """The FLOPs of a phase at each workload."""
    name, said = {"decode": ("Decode step", "work of a decode step"), "prefill": ("Prefill", "work of a prefill")}[
        phase
    ]
    return [
        Metric(f"flops_{phase}", name, f"at {work_words(run, w)}", words.flop, at={"workload": w}, said=said)
        for w in by_reach(run)
    ]


def when(run: Run, metric: Metric) -> str:
    """'at 8k', with the precision where the run has more than one."""
    reach = work_words(run, metric.at.get("workload")).removesuffix(" tokens")
    return f"at {reach}" + _in_precision(run, metric.at.get("precision") or "")


PARAMS = Metric("params", "Parameters", "", words.count, said="parameters", less="fewer")
D_FF = Metric("d_ff", "d_ff", "", words.plain)


def varies(run: Run, metric: Metric, points: Iterable[Point], by: float = 1e-9) -> bool:
    """Two points differ in it by more than `by`, relatively."""
    values = list(metric.known(run, points).values())
    return bool(values) and max(values) > min(values) * (1 + by)
