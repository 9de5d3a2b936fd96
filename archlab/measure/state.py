"""The state of the device while it is timed: clocks, power, temperature and throttling of a GPU, the load of a CPU.

A GPU is asked once a second, in a thread, through nvidia-smi: a process of its own, which takes nothing of the GPU's
time. A CPU has only its load average read, before and after.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from archlab.measure.provenance import gpu_state, load_average

EVERY_S = 1.0

THROTTLED = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware", 0x80: "power brake",
}  # fmt: skip
"""Bits of NVML's clocksEventReasons that are throttling: idle (1), set clocks (2) and the like are not."""

RANGES = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
"""What is said of a span of time as its least and its most."""

CROWDED = 1.25
"""Times the CPUs that there are: from such a load on, a program waits for others."""

Facts = dict[str, Any]


@dataclass
class Watch:
    """Readings of a device's state with their time (perf_counter); open, a GPU's come in by themselves."""

    device: torch.device
    readings: list[tuple[float, Facts]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        if self.device.type == "cuda" and self.read():
            self._thread = threading.Thread(target=self._go_on, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _go_on(self) -> None:
        while not self._over.wait(EVERY_S):
            self.read()

    def read(self) -> Facts | None:
        """The state now, kept too; None where a GPU does not say."""
        now = time.perf_counter()
        state: Facts | None = gpu_state(self.device)
        if self.device.type != "cuda":
            state = {"load_1min": load_average()}
        if state is not None:
            self.readings.append((now, state))
        return state

    def latest(self) -> Facts | None:
        """The last reading of an open watch, which is at most a second old; else a new one."""
        return self.readings[-1][1] if self._thread is not None else self.read()

    def during(self, start: float, end: float) -> list[Facts]:
        """The readings between two times."""
        return [state for at, state in self.readings if start <= at <= end]


def summary(before: Facts | None, during: Sequence[Facts], after: Facts | None) -> Facts:
    """State before and after, and over all readings the least and most of what varies, and why it was throttled."""
    readings = [state for state in (before, *during, after) if state]
    found: Facts = {"before": before, "after": after, "readings": len(readings)}
    for name in RANGES:
        values = [n for n in (_number(state.get(name)) for state in readings) if n is not None]
        if values:
            found[name] = [min(values), max(values)]
    return found | {"throttled": throttled(readings)}


def warnings(state: Facts) -> list[str]:
    """What of a summary a reader should know: throttling, or more to run than there are CPUs."""
    found = [f"the GPU was throttled while it was timed: {why}" for why in state["throttled"]]
    loads = [s["load_1min"] for s in (state["before"], state["after"]) if s and s.get("load_1min") is not None]
    cpus = os.cpu_count() or 1
    if max(loads, default=0) > CROWDED * cpus:
        found.append(f"other programs took part: the load average was {max(loads):.1f} on {cpus} CPUs")
    return found


def throttled(readings: Sequence[Facts]) -> list[str]:
    """The reasons for which clocks were held down in any of the readings."""
    bits = 0
    for state in readings:
        bits |= _bits(state.get("throttle_reasons"))
    return [why for bit, why in THROTTLED.items() if bits & bit]


def _bits(text: Any) -> int:
    """'0x0000000000000004' -> 4; what the driver does not know is 0."""
    try:
        return int(str(text), 16)
    except ValueError:
        return 0


def _number(text: Any) -> float | None:
    """'1980 MHz' -> 1980.0; None for '[N/A]'."""
    try:
        return float(str(text).split()[0])
    except (ValueError, IndexError):
        return None
