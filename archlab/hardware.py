"""Devices: conf/hardware/*.yaml -> Hardware. Capacity is what the driver reports, rates are dense data-sheet peaks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.algebra import Number
from archlab.calibration import Calibration, calibrations_from, table
from archlab.config import group_file, named
from archlab.errors import ArchlabError, SpecError, UnknownNameError
from archlab.fields import FieldType, check_fields, choice, real, size, text
from archlab.paths import group_files
from archlab.units import memory

FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4")
STATUSES = ("verified", "partial", "unverified", "measured")
KINDS = ("gpu", "tpu", "accelerator", "laptop", "mac", "edge", "phone", "cpu")
SEGMENTS = ("datacenter", "workstation", "consumer")

LEAST_MEMORY = 64 * 2**20
LEAST_RATE = 10**9
LEAST_LINK = 10**6
"""No device is smaller or slower: below them a number was written in GiB, GB/s or TFLOP/s."""


def _is_rates(x: Any) -> bool:
    return (
        isinstance(x, dict)
        and bool(x)
        and all(
            k in FORMATS and isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < float("inf")
            for k, v in x.items()
        )
    )


@dataclass(frozen=True)
class Hardware:
    """One device, as programs see it. Bytes, bytes per second, FLOP per second."""

    name: str = text("short name, the file's own")
    title: str = text("the vendor's name")
    kind: str = choice("what it is; mac: laptops and desktops on Apple silicon", KINDS)
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
    vendor: str = text("who makes it", "unknown")
    released: int | None = size("the year", None, none=True, least=1990, most=2100)
    segment: str | None = field(
        default=None,
        kw_only=True,
        metadata={
            "type": FieldType("one of " + ", ".join(SEGMENTS) + " or null", lambda x: x in SEGMENTS, True, SEGMENTS),
            "doc": "whom a GPU is sold to",
        },
    )
    usable_bytes: int | None = size("bytes that one program can have; null: memory_bytes", None, none=True)
    usable_source: str = text("where usable_bytes comes from", "none")
    interconnect_bytes_per_s: Number | None = real(
        "to its fellows, all links together, one direction, bytes per second; null: none or unknown", None, none=True
    )
    interconnect: str = text("what links it to its fellows and to the host", "unknown")
    tdp_w: Number | None = real("power limit, W", None, none=True)
    price_usd_per_hour: Number | None = real("rent of one device, US dollars an hour", None, none=True)
    price_source: str = text("where the price comes from, and when", "none")
    notes: str = text("what a reader of the data sheet would trip over", "none")
    measured: Mapping[str, Calibration] | None = table(
        "number format -> what was measured in it (see calibration)", None
    )

    @property
    def shared(self) -> bool:
        """Whether it has no memory but the system's: what stays on the host is in the same one."""
        return self.kind in ("mac", "edge", "phone", "cpu")

    @property
    def available_bytes(self) -> int:
        """Bytes that one program can have."""
        return self.memory_bytes if self.usable_bytes is None else self.usable_bytes

    def calibration(self, number_format: str) -> Calibration | None:
        """What was measured in a format; None where nothing was."""
        return (self.measured or {}).get(number_format)

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
    try:
        data = group_file("hardware", "device", name)
    except UnknownNameError:
        hint = _alike(str(name), hardware_names())
        raise UnknownNameError(f"unknown device {str(name)!r}{hint} (archlab hardware lists them)") from None
    return hardware_from(data)


def calibrated(device: str, number_format: str) -> Hardware | None:
    """The device file whose calibration of a format was made on the device that torch or the system names so.

    None where there is none. A file is read again when it has changed.
    """
    for path in group_files("hardware").values():
        at = path.stat()
        found = _measured(path, at.st_mtime_ns, at.st_size)
        known = None if found is None else found.calibration(number_format)
        if known is not None and known.device == device:
            return found
    return None


@lru_cache(maxsize=1024)
def _measured(path: Path, mtime_ns: int, size: int) -> Hardware | None:
    """The device of a file of such a time and size; None where it has no `measured:` block, as nearly all.

    One that is wrong is passed over: who names it is told.
    """
    if "\nmeasured:" not in path.read_text(encoding="utf-8"):
        return None
    try:
        return hardware_from(named(yamlfile.read(path), path))
    except ArchlabError:
        return None


def is_path(name: str | Path) -> bool:
    """Whether a word is the path of a device's file, not a device's name."""
    return str(name).endswith((".yaml", ".yml")) or "/" in str(name)


def hardware_from(data: Mapping[str, Any]) -> Hardware:
    """A device from its keys; '80 GiB' is read where bytes belong. Raises SpecError."""
    sizes = ("memory_bytes", "usable_bytes")
    read = {k: memory(data[k], f"hardware.{k}") for k in sizes if isinstance(data.get(k), str)}
    data = {**data, **read}
    check_fields(Hardware, "hardware", data)
    for sentence in _nonsense(data):
        raise SpecError(sentence)
    measured = data.get("measured")
    return Hardware(**{**data, "measured": measured and calibrations_from(measured, "hardware.measured")})


def _nonsense(data: Mapping[str, Any]) -> Iterator[str]:
    """What is of the right type and cannot be: numbers in another unit, more usable than there is."""
    for key in ("memory_bytes", "usable_bytes"):
        if data.get(key) is not None and data[key] < LEAST_MEMORY:
            yield f"hardware.{key}={data[key]} is in bytes: write {_with_unit(data[key])}"
    if data.get("usable_bytes") is not None and data["usable_bytes"] > data["memory_bytes"]:
        yield (
            f"hardware.usable_bytes={data['usable_bytes']} is more than hardware.memory_bytes={data['memory_bytes']}, "
            "the device's whole memory"
        )
    speeds = [("bandwidth_bytes_per_s", LEAST_RATE), ("interconnect_bytes_per_s", LEAST_LINK)]
    for key, least in speeds:
        if data.get(key) is not None and data[key] < least:
            yield f"hardware.{key}={data[key]} is in bytes per second: write {_scaled(data[key], 'GT', 'B/s')}"
    for number_format, rate in data["peak_flops"].items():
        if rate < LEAST_RATE:
            said = _scaled(rate, "TP", "FLOP/s")
            yield f"hardware.peak_flops.{number_format}={rate} is in FLOP per second: write {said}"


def _with_unit(n: int) -> str:
    """80 -> '80 GiB', 81559 -> '81559 MiB', 25165824 -> '25165824 KiB': the unit that makes a device of a number."""
    return f"{n} {'GiB' if n < 2**12 else 'MiB' if n < 2**22 else 'KiB'}"


def _scaled(x: float, prefixes: str, unit: str) -> str:
    """3350 -> '3350e9 for GB/s'; a number below 100 may be of the greater prefix too, one above 100,000 of MB/s."""
    power = {"M": 6, "G": 9, "T": 12, "P": 15}
    meant = "M" if x >= 100_000 else prefixes if x < 100 else prefixes[0]
    return " or ".join(f"{x:.15g}e{power[p]} for {p}{unit}" for p in meant)


def _alike(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'h100-nvl', 'h100-pcie' or 'h100-sxm'?": names that hold the word, else the closest."""
    plain = {name: _bare(name) for name in known}
    near = [name for name, bare in plain.items() if _bare(word) and _bare(word) in bare]
    near = near or difflib.get_close_matches(word.lower(), list(plain), n=3, cutoff=0.55)
    said = [repr(name) for name in near[:4]]
    return f"; did you mean {' or '.join([', '.join(said[:-1]), said[-1]] if said[1:] else said)}?" if said else ""


def _bare(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
