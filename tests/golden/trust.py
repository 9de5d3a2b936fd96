"""Writes docs/trust.md: archlab's numbers beside those they are held against. `make trust`; tests/golden/test_trust.py."""

from __future__ import annotations

import sys
from pathlib import Path

import trust_counts
import trust_times
from trust_page import table

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"

OPENING = """# How far to trust the numbers

This page is made by `make trust` from the data of the tests and from the measurements in the repository: no number of
its tables is typed. It puts archlab's numbers beside those of others and says how far apart they are. What the words mean:

- **calculated**: parameters, FLOPs, cache and weights. There is one right answer, and an error is a bug.
- **bound**, **predicted**, **measured**: seconds, explained in [latency.md](latency.md).
- Memory adds what a process takes besides, from other people's measurements: [memory.md](memory.md)."""


def page() -> str:
    """The whole page. The same data give the same bytes."""
    counts, times = trust_counts.sections(), trust_times.sections()
    top = table(
        ("counts and bytes", "held against", "cases", "equal", "largest error"),
        [section.summary() for section in counts],
    )
    parts = [
        OPENING, top, "*equal* is left empty where what was published is rounded.", trust_times.summary_of_times(times[:1] + times[2:]),
        *(section.text() for section in (*counts, *times)),
        trust_times.decoders(), trust_times.on_devices(), trust_times.nothing_known(),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def write(path: Path = PAGE) -> None:
    """Replaces the page whole."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(page())
    fresh.replace(path)


if __name__ == "__main__":
    write()
    print(PAGE, file=sys.stderr)
