"""What a measurement says, and the JSON lines that keep it. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archlab.errors import ArchlabError


@dataclass(frozen=True, kw_only=True)
class Record:
    """One phase of one model on one device. Times are seconds of one forward pass; None where there is none.

    phase           prefill (all `context` tokens at once) | decode (one token, which ends at `context`)
    samples         every timing; each the mean of `repetitions` passes (1 on a CPU, so p5 and p95 are of single passes)
    bound_s         the roofline bound at the rates measured in the same session; `bound` says which roof
    status          ok | failed (it ran and broke) | skipped (it was not tried); `reason` says why

    What ran:
    backend         fast | reference (nn/fast, or the readable modules); `reason_backend` says what kept it from being
                    wholly fast
    runs            CUDA graph | TorchScript trace | Python
    attention       what attention ran as, by the profiler; `kernels` names what took most of the time, with its share
    compiled        functions that torch.compile compiled while samples were taken: 0, or status is failed

    How far it can be trusted:
    source          measured | extrapolated: composed of models of fewer layers, without a residual of 3 % or less that
                    is told from noise
    sampled         which layers were timed instead of the model; '' where it was timed itself. Then the median is
                    composed, `ci_*` covers the noise of all of them, and there are neither p5 and p95 nor samples:
                    `parts` has those of each model that was timed, by its number of layers
    residual        composed over measured, less 1, on the model named by `verified_on`, with the ends of its 95 %
                    interval; None where nothing was verified
    drift           the second half of the samples over the first, less 1
    group_drift     the first phase of the group measured again at its end, over the first time, less 1
    state           the device before and after, and the extremes while samples were taken (see measure/state.py)
    warnings        what a reader should know before using the number
    """

    model: str
    config_hash: str
    phase: str
    batch: int
    new: int
    context: int
    logits: str
    device: str
    dtype: str
    seed: int
    backend: str = "reference"
    reason_backend: str = ""
    runs: str = "Python"
    attention: str = ""
    kernels: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    compiled: int = 0
    source: str = "measured"
    sampled: str = ""
    residual: float | None = None
    residual_low: float | None = None
    residual_high: float | None = None
    verified_on: str = ""
    status: str = "ok"
    reason: str = ""
    median_s: float | None = None
    p5_s: float | None = None
    p95_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    n: int = 0
    drift: float | None = None
    group_drift: float | None = None
    warmup_s: float | None = None
    repetitions: int = 1
    bound_s: float | None = None
    bound: str | None = None
    cache_bytes: int | None = None
    samples: tuple[float, ...] = field(default=(), repr=False)
    parts: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = field(default=None, repr=False)
    rooflines: Mapping[str, Any] | None = field(default=None, repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ran(self) -> str:
        """'fast, CUDA graph, Triton step attention; head + 1 and 2 periods of 6 layers, residual +1.2% on ...'."""
        words = [self.backend, self.runs, *[self.attention] * bool(self.attention)]
        said = ", ".join(words) + (f" ({self.reason_backend})" if self.reason_backend else "")
        if not self.sampled:
            return said
        if self.residual is None:
            return f"{said}; {self.sampled}, not verified"
        ends = f"{self.residual_low:+.1%} to {self.residual_high:+.1%}"
        return f"{said}; {self.sampled}, residual {self.residual:+.1%} ({ends}) on {self.verified_on}"

    def as_dict(self) -> dict[str, Any]:
        """Every field, as JSON takes it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def distinct(warnings: Iterable[str]) -> tuple[str, ...]:
    """The first of those that differ in their numbers alone, after a colon."""
    found: dict[str, str] = {}
    for text in warnings:
        found.setdefault(text.partition(":")[0], text)
    return tuple(found.values())


def append_record(path: Path | str, record: Mapping[str, Any]) -> None:
    """Adds one line: one write, then flush and fsync, so that a crash loses at most the line being written.

    A line that a crash tore is closed first, so that it spoils nothing after it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, allow_nan=False) + "\n"
    with path.open("ab") as file:
        file.write((b"\n" if _is_torn(path) else b"") + line.encode())
        file.flush()
        os.fsync(file.fileno())


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def read_records(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a file, none if it is not there. A line that a crash tore is passed over."""
    return (record for record in _lines(path) if record is not None)


def torn_lines(path: Path | str, having: str | None = None) -> int:
    """Lines that `read_records` passes over; those of records without a field `having` too."""
    return sum(record is None or (having is not None and having not in record) for record in _lines(path))


def _lines(path: Path | str) -> Iterator[dict[str, Any] | None]:
    """What each line that is not empty says: a record, or None."""
    path = Path(path)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                yield _record(line)


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def last_rates(folder: Path, dtype: str) -> dict[str, Any]:
    """The latest rates in a format of a suite's folder. Raises ArchlabError where there are none."""
    path = folder / "rooflines.jsonl"
    found = [record for record in read_records(path) if record.get("dtype") == dtype and record.get("status") == "ok"]
    if not found:
        raise ArchlabError(f"{path} holds no rates in {dtype}")
    return found[-1]
