"""A run of the suite: what is done already, what lands, what is left out and why.

Each section is a file of JSON lines, written as results land, so that a run that is cut short can be taken up again:
what is there already is not measured twice, and where a key stands twice, the last line counts. A result is found by
its configuration, workload, format and device, and by the version of the code and of torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from archlab.errors import ArchlabError
from archlab.measure.blank import sentence
from archlab.measure.devices import device_name
from archlab.measure.provenance import code_version, config_hash, gpu_state, provenance
from archlab.measure.records import append_record, read_records, torn_lines
from archlab.measure.rooflines import Rooflines, measure_rooflines
from archlab.measure.session import Task

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What a run did: keys of what it measured, kept from before and failed; what it skipped, and why.

    torn   lines of earlier runs' files that are no records, and were passed over: file -> how many
    """

    measured: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    torn: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 if something failed; what did not fit the device or the budget is no failure."""
        return 1 if self.failed else 0


@dataclass
class Suite:
    """One run: where results go, what they are filed under, and until when it may go on."""

    out: Path
    device: torch.device
    dtype: str
    quick: bool
    deadline: float
    say: Say
    seed: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    measured_rates: Rooflines | None = None
    looked_at: set[str] = field(default_factory=set)  # files whose torn lines have been counted

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.deadline - time.perf_counter()

    def key(self, *what: object) -> str:
        """What a result is found again by."""
        parts = (*what, self.dtype, device_name(self.device), f"code {code_version()}", f"torch {torch.__version__}")
        return " | ".join(str(part) for part in parts)

    def task_key(self, task: Task) -> str:
        """The key of one phase of one model."""
        work = task.work
        sizes = f"batch {work.batch}, new {work.new}, context {work.context}, logits {work.logits}"
        return self.key(task.spec.name, config_hash(task.spec)[:16], sizes)

    def wanted(self, section: str, keys: Sequence[str]) -> list[str]:
        """The keys that the section's file has no good record of yet, each once."""
        self._count_torn(section)
        done = {r.get("key") for r in read_records(self.file(section)) if r.get("status") == "ok"}
        distinct = list(dict.fromkeys(keys))
        self.outcome.kept += [key for key in distinct if key in done]
        return [key for key in distinct if key not in done]

    def _count_torn(self, section: str) -> None:
        """Says, once a run, how many lines of a file are no records of the suite."""
        name = self.file(section).name
        if name in self.looked_at:
            return
        self.looked_at.add(name)
        torn = torn_lines(self.file(section), having="key")
        if torn:
            self.outcome.torn[name] = torn
            lines = "1 line" if torn == 1 else f"{torn} lines"
            verb = "was" if torn == 1 else "were"
            self.say(f"{lines} of {name} {verb} torn or foreign: passed over, and what is missing is measured again")

    def file(self, section: str) -> Path:
        """The section's JSON lines."""
        return self.out / f"{section}.jsonl"

    def late(self, key: str) -> bool:
        """Whether the budget is spent; if so, the item is noted as skipped."""
        if self.left_s > 0:
            return False
        self.skip(key, "the time budget was spent before its turn")
        return True

    def skip(self, key: str, reason: str) -> None:
        """Notes and says that something is not measured."""
        self.outcome.skipped[key] = reason
        self.say(f"skipped {_short(key)}: {reason}")

    def keep(self, section: str, key: str, record: dict[str, Any], news: str = "") -> None:
        """Writes a result at once."""
        append_record(self.file(section), {"key": key, **record})
        self.note(section, key, record, news)

    def note(self, section: str, key: str, record: dict[str, Any], news: str = "") -> None:
        """Notes and says what became of a result that is written."""
        if record["status"] == "ok":
            self.outcome.measured.append(key)
            self.say(f"{section}: {_short(key)}: {news or 'ok'}")
        else:
            self.outcome.failed[key] = record["reason"]
            self.say(f"FAILED {section}: {_short(key)}: {record['reason']}")

    def attempt(self, section: str, key: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measures one item and goes on: what is refused is skipped, what breaks is written down as failed."""
        try:
            record = measure()
        except ArchlabError as problem:
            self.skip(key, str(problem))
            return
        except Exception as problem:
            record = {"status": "failed", "reason": sentence(problem), "provenance": provenance(self.device)}
        self.keep(section, key, record)

    def rates(self) -> Rooflines:
        """The device's rates, measured when first asked for: those of another session would not be comparable."""
        if self.measured_rates is None:
            rates = self.measured_rates = measure_rooflines(self.device, self.dtype, quick=self.quick)
            origin = provenance(self.device) | {"gpu_state": gpu_state(self.device)}
            flops = f"{rates.matmul_flops_per_s / 1e12:,.3g} TFLOP/s"
            news = f"read {rates.read_bytes_per_s / 1e9:,.0f} GB/s, matmul {flops}"
            self.keep("rooflines", self.rates_key, {**rates.as_dict(), "status": "ok", "provenance": origin}, news)
        return self.measured_rates

    @property
    def rates_key(self) -> str:
        """The key of the rates."""
        return self.key("rooflines", "quick" if self.quick else "full")


def _short(key: str) -> str:
    return " | ".join(key.split(" | ")[:3])
