"""Devices: conf/hardware/*.yaml -> Hardware. Capacity is what the driver reports, rates are dense data-sheet peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archlab.algebra import Number
from archlab.config import group_file
from archlab.errors import SpecError
from archlab.paths import group_files
from archlab.spec import FieldType, check_fields, choice, real, size, text
from archlab.units import memory

FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4")
STATUSES = ("verified", "partial", "unverified", "measured")


def _is_rates(x: Any) -> bool:
    return (
        isinstance(x, dict)
        and bool(x)
        and all(k in FORMATS and isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for k, v in x.items())
    )


@dataclass(frozen=True)
class Hardware:
    """One device. Bytes, bytes per second, FLOP per second."""

    name: str = text("short name, the file's own")
    title: str = text("the vendor's name")
    kind: str = choice("what it is", ("gpu", "tpu", "cpu", "laptop", "phone", "edge", "accelerator"))
    memory_bytes: int = size("bytes that the driver reports")
    bandwidth_bytes_per_s: Number = real("peak memory bandwidth, bytes per second")
    peak_flops: Mapping[str, float] = field(
        kw_only=True,
        metadata={
            "type": FieldType("a table of format: FLOP per second, formats " + ", ".join(FORMATS), _is_rates),
            "doc": "dense peak FLOP per second by number format, matrix units, fp32 accumulation",
        },
    )
    status: str = choice("verified: memory, bandwidth and bf16/fp16 rate agree with a second source", STATUSES)
    source: str = text("where the numbers come from")
    tdp_w: Number = real("power limit, W", None, none=True)
    notes: str = text("conflicts between sources, and how they were settled", "none")

    def flops_per_s(self, number_format: str) -> float:
        """Peak rate of a format; raises SpecError where the device has none."""
        if number_format not in self.peak_flops:
            have = ", ".join(self.peak_flops)
            raise SpecError(f"{self.name} has no {number_format} rate; its matrix products run in {have}")
        return self.peak_flops[number_format]


def hardware_names() -> list[str]:
    """Names of the devices, shipped and the user's own."""
    return sorted(group_files("hardware"))


def load_hardware(name: str | Path | Hardware) -> Hardware:
    """A device by name or from a file. Raises ArchlabError."""
    if isinstance(name, Hardware):
        return name
    return hardware_from(group_file("hardware", "device", name))


def hardware_from(data: Mapping[str, Any]) -> Hardware:
    """A device from its keys. Raises SpecError."""
    if isinstance(data.get("memory_bytes"), str):
        data = {**data, "memory_bytes": memory(data["memory_bytes"], "hardware.memory_bytes")}
    check_fields(Hardware, "hardware", data)
    return Hardware(**data)
