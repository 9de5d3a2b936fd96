"""An axis of times: logarithmic where they differ much, its ticks in words; else in one unit, from zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from archlab.report import words
from archlab.report.charts.frame import log_axis

WIDE = 5.0
"""From this ratio of the longest to the shortest on, an axis is logarithmic."""


@dataclass(frozen=True)
class TimeAxis:
    """From `low` to `high` seconds. On a logarithmic axis numbers are seconds, else in the unit of `scale`."""

    low: float
    high: float
    log: bool
    scale: words.Scale

    def of(self, seconds: float | None) -> float | None:
        """Where a time stands."""
        return words.significant(seconds) if self.log and seconds is not None else self.scale.of(seconds)

    def layout(self, name: str = "", room: float = 1.0) -> dict[str, Any]:
        """The axis; `room` times the longest is its end."""
        if not self.log:
            title = ", ".join(x for x in (name, self.scale.unit) if x)
            end = self.high / self.scale.divisor * max(room, 1.03)
            return {"type": "linear", "range": [0, end], "title": {"text": title}, "nticks": 5}
        axis = log_axis(
            self.low / max(room, 1.15), self.high * max(room, 1.15), f"{name} (log scale)" if name else "log scale"
        )
        return axis | {"ticktext": [tick(t) for t in axis["tickvals"]]}


def time_axis(values: Iterable[float | None], wide: float = WIDE) -> TimeAxis:
    """An axis that holds these times; logarithmic from a ratio of `wide` on."""
    known = [v for v in values if v]
    low, high = min(known), max(known)
    return TimeAxis(low, high, high / low >= wide, words.seconds(known))


def tick(seconds: float) -> str:
    """'5 ms', '200 ms', '2 s'."""
    steps = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
    unit, divisor = next((u for u in steps if seconds >= u[1] * 0.999), ("ns", 1e-9))
    return f"{seconds / divisor:,.4g} {unit}"


def spread(low: float, high: float, least: float) -> tuple[float, float]:
    """The ends of a log axis, drawn apart to at least a ratio of `least`, with room beside the outermost."""
    wider = max(math.sqrt(least / (high / low)), 1.12)
    return low / wider, high * wider
