"""Devices on the screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from archlab.cli.screen import bold, dim, table
from archlab.hardware import Hardware
from archlab.units import show_gib


def facts(device: Hardware) -> dict[str, Any]:
    """A device as JSON: bytes, bytes per second, FLOP per second."""
    return asdict(device)


def listing(devices: list[Hardware]) -> str:
    """All devices, a line each."""
    rows = [
        [
            d.name,
            show_gib(d.memory_bytes),
            f"{d.bandwidth_bytes_per_s / 1e12:.2f}",
            _rate(d, "bf16"),
            _rate(d, "fp16"),
            _rate(d, "fp8"),
            d.status,
        ]
        for d in devices
    ]
    head = ["device", "memory", "TB/s", "bf16", "fp16", "fp8", "status"]
    note = "memory as the driver reports it; TFLOP/s dense, fp32 accumulation; verified: agrees with a second source"
    return table(head, rows, left=(0, 6)) + "\n" + dim(note)


def screen(device: Hardware) -> str:
    """One device with its sources."""
    rates = "   ".join(f"{name} {rate / 1e12:,.4g}" for name, rate in device.peak_flops.items())
    lines = [
        f"{bold(device.name)}   {device.title}   {device.kind}   {device.status}",
        f"memory      {show_gib(device.memory_bytes)} ({device.memory_bytes:,} bytes, as the driver reports)",
        f"bandwidth   {device.bandwidth_bytes_per_s / 1e12:,.3g} TB/s",
        f"peak        {rates}   TFLOP/s, dense",
    ]
    lines += [f"power       {device.tdp_w:g} W"] if device.tdp_w else []
    lines += [f"note        {device.notes}"] if device.notes != "none" else []
    return "\n".join([*lines, dim(f"source      {device.source}")])


def _rate(device: Hardware, number_format: str) -> str:
    rate = device.peak_flops.get(number_format)
    return "-" if rate is None else f"{rate / 1e12:,.4g}"
