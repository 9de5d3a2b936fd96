"""What the index of a gallery says of each report and of each measured device, read from their folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archlab.errors import ArchlabError
from archlab.report import metrics, words
from archlab.report.load import Run
from archlab.report.page import heading
from archlab.report.points import cast
from archlab.report.sketch import Sketch, sketch

ATTENTION, SHAPE, MODELS, DEVICES, SERVING = (
    "Attention and its cache", "Size and shape", "Models side by side", "Memory and devices", "Context and batch",
)  # fmt: skip
SUBJECTS = (ATTENTION, SHAPE, MODELS, DEVICES, SERVING)
"""What a study is about, in the order of the index."""

_OF_ATTENTION = ("attention", "local", "global", "pattern", "spans")


@dataclass(frozen=True)
class Entry:
    """A report on the index."""

    href: str
    name: str
    kind: str
    subject: str
    question: str
    finding: str
    lede: str
    picture: Sketch | None
    facts: tuple[str, ...]
    models: tuple[str, ...]
    devices: tuple[str, ...]
    computed: int
    timed: int


@dataclass(frozen=True)
class Measured:
    """A device that was measured: what it is called, what was done, and the files, as (link, name, what)."""

    device: str
    facts: tuple[str, ...]
    files: tuple[tuple[str, str, str], ...]


def entry(run: Run, href: str) -> Entry:
    """The card of one report."""
    points = cast(run)
    timed, (finding, lede) = _timed(run), heading(points)
    models = tuple(dict.fromkeys(str(b) for b in (run.meta["bases"] or run.distinct("base"))))
    devices = tuple(metrics.devices(run))
    facts = (
        words.some(run.computed, "point"), words.some(len(models), "model"),
        *[words.some(len(devices), "device")] * bool(devices), *_timings(run, timed), _day(run),
    )  # fmt: skip
    return Entry(
        href, run.meta["name"], run.meta["kind"], _subject(run), run.meta["question"],
        finding, _lede(run, lede), sketch(points),
        tuple(f for f in facts if f), models, devices, run.computed, len(timed),
    )  # fmt: skip


def _lede(run: Run, lede: str) -> str:
    """Without the question, which stands above it."""
    return " ".join(lede.replace(run.meta["question"], "", 1).split())


def _timed(run: Run) -> list[Mapping[str, Any]]:
    """The rows that were timed, not those that were tried."""
    return [r for r in run.measured_rows if r.get("median_s") is not None]


def _timings(run: Run, timed: list[Mapping[str, Any]]) -> tuple[str, ...]:
    devices = words.listing(list(dict.fromkeys(str(r.get("device") or "") for r in timed)))
    return (f"{words.some(len(timed), 'timing')} on {devices}",) if timed else ("nothing timed",)


def _day(run: Run) -> str:
    """'21 November 2026'."""
    return words.moment(run.meta["provenance"].get("started_utc")).partition(",")[0]


def _subject(run: Run) -> str:
    """By what a run turns: attention, another part of the shape, devices and precisions, models, or workloads."""
    keys = [a.key.removeprefix("model.").split(".")[0] for a in run.axes]
    if keys:
        return ATTENTION if set(keys) <= set(_OF_ATTENTION) else SHAPE
    if len(metrics.precisions(run)) > 1 or len(metrics.devices(run)) > 2:
        return DEVICES
    return MODELS if len(run.distinct("base")) > 1 else SERVING


def measured(folder: Path) -> tuple[Measured, ...]:
    """The devices of measured/, each a folder of JSON lines. Raises ArchlabError for a line that is none."""
    found = (_device(path, f"{folder.name}/{path.name}") for path in sorted(folder.glob("*")) if path.is_dir())
    return tuple(m for m in found if m is not None)


def _device(path: Path, href: str) -> Measured | None:
    files = sorted(path.glob("*.jsonl"))
    records = {file: list(_lines(file)) for file in files}
    every = [r for rows in records.values() for r in rows]
    devices = [str(r["device"]) for r in every if r.get("device")]
    if not devices:
        return None
    days = sorted({words.moment(r["utc"]).partition(",")[0] for r in every if r.get("utc")})
    formats = list(dict.fromkeys(str(r["dtype"]) for r in every if r.get("dtype")))
    facts = (words.some(len(every), "record"), f"in {words.listing(formats)}" if formats else "", *days[-1:])
    links = tuple(
        (f"{href}/{f.name}", f.stem, words.some(len(rows), "record")) for f, rows in records.items() if rows
    )  # fmt: skip
    return Measured(devices[0], tuple(f for f in facts if f), links)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as e:
            raise ArchlabError(f"{str(file)!r}, line {number}, cannot be read as JSON: {e}") from e
        if isinstance(record, dict):
            yield record
