"""What a measurement says, and the JSON lines that keep it. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Record:
    """One phase of one model on one device. Times are seconds of one forward pass; None where there is none.

    phase        prefill (all `context` tokens at once) | decode (one token, which ends at `context`)
    samples      every timing; each the mean of `repetitions` passes (1 on a CPU, so p5 and p95 are of single passes)
    bound_s      the roofline bound at the rates measured in the same session; `bound` says which roof
    status       ok | failed (it ran and broke) | skipped (it was not tried); `reason` says why
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
    backend: str = "eager"
    status: str = "ok"
    reason: str = ""
    median_s: float | None = None
    p5_s: float | None = None
    p95_s: float | None = None
    ci_low_s: float | None = None
    ci_high_s: float | None = None
    n: int = 0
    drift: float | None = None
    warmup_s: float | None = None
    repetitions: int = 1
    bound_s: float | None = None
    bound: str | None = None
    cache_bytes: int | None = None
    samples: tuple[float, ...] = field(default=(), repr=False)
    rooflines: Mapping[str, Any] | None = field(default=None, repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Every field, as JSON takes it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


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
    path = Path(path)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
