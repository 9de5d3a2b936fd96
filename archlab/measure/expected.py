"""What a calibration says that a pass takes on the device at hand, to stand beside what was measured."""

from __future__ import annotations

from archlab.analyzers.latency import Latency, latency
from archlab.hardware import calibrated
from archlab.spec import ModelSpec
from archlab.workload import Workload

SAME_DEVICE = 1.5
"""Between rates of one device that is busier at one time than at another."""


def expected(
    spec: ModelSpec, work: Workload, device: str, dtype: str, backend: str, read_bytes_per_s: float | None
) -> Latency | None:
    """The prediction for a pass of the fast decoder; None where the device is not calibrated for the format.

    None too where its memory is now read at quite another rate than then: it is another device of the same name.
    """
    found = calibrated(device, dtype) if backend == "fast" else None
    if found is None or not _alike(read_bytes_per_s, found.bandwidth_bytes_per_s):
        return None
    return latency(spec, work, found, dtype)


def _alike(now: float | None, then: float) -> bool:
    return now is None or 1 / SAME_DEVICE < now / then < SAME_DEVICE
