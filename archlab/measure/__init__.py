"""Measured latency: the built module timed on the local device, beside the bound that the same device's rates give.

    record = archlab.measure.run(spec, archlab.Workload(new=1, context=2048))
    record.median_s, record.bound_s

Names are imported when they are used, so a sweep can hash a configuration without starting torch. Needs torch, numpy
and PyYAML only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "Bench", "Record", "Rooflines", "append_record", "code_version", "config_hash", "measure_points",
    "measure_rooflines", "read_records", "run", "run_all",
]  # fmt: skip

_FACE = {
    "run": "single", "run_all": "single", "Bench": "bench",
    "measure_points": "points", "measure_rooflines": "rooflines", "Rooflines": "rooflines",
    "Record": "records", "append_record": "records", "read_records": "records",
    "config_hash": "provenance", "code_version": "provenance",
}  # fmt: skip

if TYPE_CHECKING:
    from archlab.measure.bench import Bench
    from archlab.measure.points import measure_points
    from archlab.measure.provenance import code_version, config_hash
    from archlab.measure.records import Record, append_record, read_records
    from archlab.measure.rooflines import Rooflines, measure_rooflines
    from archlab.measure.single import run, run_all


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'archlab.measure' has no attribute {name!r}")
    return getattr(import_module(f"archlab.measure.{_FACE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
