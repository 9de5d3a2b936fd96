"""Devices on the screen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from archlab.calibration import Calibration
from archlab.cli.screen import bold, dim, table
from archlab.hardware import Hardware
from archlab.units import GIB, show_gib

GLUE = "\x00"  # a space that a line does not break at

GROUPS = {
    ("gpu", "datacenter"): "Data-centre GPUs",
    ("gpu", "workstation"): "Workstation GPUs",
    ("gpu", "consumer"): "Consumer GPUs",
    ("gpu", None): "Other GPUs",
    ("laptop", None): "Laptops",
    ("mac", None): "Macs",
    ("edge", None): "Edge",
    ("phone", None): "Phones",
    ("tpu", None): "TPUs",
    ("accelerator", None): "Other accelerators",
    ("cpu", None): "CPUs",
}
"""(kind, segment) -> heading, in the order of the listing."""

LEGEND = """\
GiB as the driver reports it; usable: what one program can have, where that is
less; TFLOP/s dense, fp32 accumulation. verified: memory, bandwidth and rate
agree with a second source; partial: some of them do.
m4-16/24/32 are the devices m4-16, m4-24 and m4-32.
One device with its sources: archlab hardware NAME, or the path of a YAML."""


def facts(device: Hardware) -> dict[str, Any]:
    """A device as JSON: bytes, bytes per second, FLOP per second."""
    return asdict(device) | {"available_bytes": device.available_bytes}


def listing(devices: Sequence[Hardware]) -> str:
    """All devices by kind, the newest of a vendor last; one that is sold in several sizes of memory takes a line."""
    head = ["device", "GiB", "usable", "GB/s", "bf16", "fp16", "fp8", "status"]
    families = [list(f) for _, f in groupby(sorted(devices, key=_order), key=_family)]
    title, *lines = table(head, [_row(f) for f in families], left=(0, 7)).splitlines()
    out = [title]
    for heading, group in groupby(zip(families, lines, strict=True), key=lambda pair: GROUPS[_group(pair[0][0])]):
        out += ["", bold(heading), *(line for _, line in group)]
    return "\n".join(out) + "\n\n" + dim(LEGEND)


def screen(device: Hardware, path: str) -> str:
    """One device with everything that its file says, and the file, whose comments hold the conflicts of sources."""
    d = device
    rates = "   ".join(f"{name}{GLUE}{rate / 1e12:,.4g}" for name, rate in d.peak_flops.items())
    what = [d.kind, d.segment, d.vendor if d.vendor != "unknown" else None, d.released and str(d.released)]
    rows = [
        ("kind", ", ".join(x for x in what if x)),
        ("memory", f"{show_gib(d.memory_bytes)} ({d.memory_bytes:,} bytes)"),
        ("usable", _with(d.usable_bytes and f"{show_gib(d.usable_bytes)} ({d.usable_bytes:,} bytes)", d.usable_source)),
        ("bandwidth", f"{d.bandwidth_bytes_per_s / 1e9:,.4g} GB/s"),
        ("peak", f"{rates}   TFLOP/s, dense"),
        ("links", _links(d)),
        ("power", d.tdp_w and f"{d.tdp_w:g} W"),
        ("price", _with(d.price_usd_per_hour and f"${d.price_usd_per_hour:.2f} an hour", d.price_source)),
        ("note", d.notes if d.notes != "none" else None),
        *(("calibrated", _calibrated(name, block)) for name, block in (d.measured or {}).items()),
        ("source", d.source),
        ("file", path),
    ]
    head = f"{bold(d.name)}   {d.title}   {d.status}"
    return "\n".join([head, *(_wrapped(name, said) for name, said in rows if said)])


def _wrapped(name: str, said: str) -> str:
    """A line of the screen, long ones folded under their start; a path is not folded."""
    if name == "file":
        return dim(f"{name:12}{said}")
    wide = textwrap.wrap(
        said, 80, initial_indent=f"{name:12}", subsequent_indent=" " * 12, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    lines = [line.replace(GLUE, " ") for line in wide]
    return "\n".join(map(dim, lines) if name == "source" else lines)


def _calibrated(number_format: str, block: Calibration) -> str:
    """How far to trust what is predicted of it."""
    return (
        f"{number_format}, {block.date}: predictions were off by {block.error.median:.1%} (median), "
        f"{block.error.p90:.1%} (nine of ten) on configurations left out; from {block.run}"
    )


def _with(said: str | int | None, source: str) -> str | None:
    if not said:
        return None
    return f"{said}: {source}" if source != "none" else str(said)


def _links(device: Hardware) -> str | None:
    rate, kind = device.interconnect_bytes_per_s, device.interconnect
    parts = [f"{rate / 1e9:,.4g} GB/s one way"] if rate else []
    return ": ".join(parts + ([kind] if kind != "unknown" else [])) or None


def _group(device: Hardware) -> tuple[str, str | None]:
    return device.kind, device.segment if device.kind == "gpu" else None


def _order(device: Hardware) -> tuple[Any, ...]:
    """By kind, vendor and age, the slower memory first; sizes of one device side by side."""
    return (
        list(GROUPS).index(_group(device)), device.vendor, _generation(device), device.bandwidth_bytes_per_s,
        _stem(device), device.memory_bytes,
    )  # fmt: skip


def _generation(device: Hardware) -> tuple[str, int]:
    """A Mac's by its chip (m1 of m1-ultra, which came after m2), the others' by their year."""
    return (device.name.split("-")[0] if device.kind == "mac" else "", device.released or 0)


def _stem(device: Hardware) -> str:
    """m4 of m4-16: the name without its size of memory."""
    return re.sub(r"-\d+$", "", device.name)


def _family(device: Hardware) -> tuple[Any, ...]:
    """What devices share that differ in their size of memory only."""
    return (
        _group(device),
        _stem(device),
        device.bandwidth_bytes_per_s,
        sorted(device.peak_flops.items()),
        device.status,
    )


def _row(family: Sequence[Hardware]) -> list[str]:
    first, *rest = family
    name = "/".join([first.name, *(d.name.removeprefix(_stem(d) + "-") for d in rest)])
    less = [d.available_bytes for d in family if d.available_bytes < d.memory_bytes]
    return [
        name,
        "/".join(_gib(d.memory_bytes) for d in family),
        "/".join(_gib(d.available_bytes) for d in family) if less else "",
        f"{first.bandwidth_bytes_per_s / 1e9:,.4g}",
        *(_rate(first, f) for f in ("bf16", "fp16", "fp8")),
        first.status,
    ]


def _gib(n_bytes: int) -> str:
    """'79.6', '128': a tenth of a GiB where there is one to show."""
    return f"{n_bytes / GIB:,.1f}".removesuffix(".0")


def _rate(device: Hardware, number_format: str) -> str:
    rate = device.peak_flops.get(number_format)
    return "-" if rate is None else f"{rate / 1e12:,.4g}"
