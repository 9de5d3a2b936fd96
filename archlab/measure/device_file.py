"""The `measured:` block in a device's YAML: put there by a calibration, the other lines left as they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from archlab import yamlfile
from archlab.calibration import Calibration, Laws
from archlab.errors import ArchlabError
from archlab.hardware import Hardware, hardware_from
from archlab.measure.calibration import Fitted

FASTEST = 1.1
"""Of a sheet's bandwidth: no fit of what was read from memory is further above it."""

LONG = ("linear", "attention", "composed", "operations")
"""Tables of a calibration that take a line an entry."""


def write_calibration(path: Path | str, *fitted: Fitted) -> None:
    """Puts calibrations into a device's file: its other lines stay, and so do other formats in its block.

    Written to a temporary name first. Raises ArchlabError for a file that is no device's.
    """
    path = Path(path)
    data = yamlfile.read(path)
    device = hardware_from(data)
    for each in fitted:
        _refuse_another(path, device, each)
    measured = dict(data.get("measured") or {}) | {f.dtype: keys(f.calibration) for f in fitted}
    _replace(path, without_block(path.read_text(encoding="utf-8")) + dump(measured))


def _refuse_another(path: Path, device: Hardware, fitted: Fitted) -> None:
    """Raises ArchlabError for a calibration that cannot be of this device: another kind, or faster than its sheet."""
    block = fitted.calibration
    kind = "cpu" if block.multiprocessors is None else "gpu"
    if device.kind != kind:
        raise ArchlabError(f"{path} is a {device.kind}, and {block.run} was measured on {block.device}, a {kind}")
    found = block.linear.few.bandwidth_bytes_per_s or 0
    if found > FASTEST * device.bandwidth_bytes_per_s:
        raise ArchlabError(
            f"{path} has a bandwidth of {device.bandwidth_bytes_per_s / 1e9:,.4g} GB/s, and {block.run}, measured on "
            f"{block.device}, read at {found / 1e9:,.4g} GB/s: it is of another device"
        )


def write_device(path: Path | str, rooflines: Mapping[str, Any], *fitted: Fitted) -> None:
    """A new file for a machine that has none: its roofs are those of `rooflines`, a record of the suite's.

    Raises ArchlabError where there is a file already.
    """
    path = Path(path)
    if path.exists():
        raise ArchlabError(f"{path} is there already; write_calibration puts a calibration into it")
    data = {
        "name": path.stem,
        "title": rooflines["device"],
        "kind": rooflines["kind"],
        "memory_bytes": rooflines["memory_bytes"],
        "bandwidth_bytes_per_s": float(rooflines["read_bytes_per_s"]),
        "peak_flops": {rooflines["dtype"]: float(rooflines["matmul_flops_per_s"])},
        "status": "measured",
        "source": f"measured by archlab, {rooflines['utc']}: best read and best {rooflines['dtype']} matmul",
    }
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=10**6)
    _replace(path, text + dump({f.dtype: keys(f.calibration) for f in fitted}))


def keys(calibration: Calibration) -> dict[str, Any]:
    """A calibration as a file's keys, where it comes from first; what it has not got is left out."""
    laws = [f.name for f in fields(Laws)]
    found = {name: value for name, value in asdict(calibration).items() if value is not None}
    return {name: found[name] for name in sorted(found, key=lambda name: (name == "operations", name in laws))}


def dump(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The block as text: a law a line, an exact shape a line."""
    return "\n".join(["measured:", *_lines(measured)]) + "\n"


def _lines(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for dtype, calibration in measured.items():
        yield f"  {dtype}:"
        for name, value in calibration.items():
            if name in LONG:
                yield f"    {name}:"
                yield from (f"      {key}: {_flow(entry)}" for key, entry in value.items())
            else:
                yield f"    {name}: {_flow(value)}"


class _Dumper(yaml.SafeDumper):
    """Numbers in as few digits as say them: 2.82e+10."""


def _number(dumper: yaml.SafeDumper, x: float) -> yaml.ScalarNode:
    text = next(said for digits in range(1, 18) if float(said := f"{x:.{digits}g}") == x)
    mantissa, e, power = text.partition("e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{power}")


_Dumper.add_representer(float, _number)


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def without_block(text: str) -> str:
    """A file's text without its `measured:` block, which ends where a line starts at the margin again."""
    kept, inside = [], False
    for line in text.splitlines():
        inside = line.startswith("measured:") or (inside and (not line.strip() or line.startswith(" ")))
        if not inside:
            kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"


def _replace(path: Path, text: str) -> None:
    """Reads a device's text back, writes it to a temporary name, and renames that."""
    with yamlfile.naming(path):
        hardware_from(yamlfile.parse(text, str(path)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as problem:
        raise ArchlabError(f"{path} cannot be written: {(problem.strerror or 'unknown').lower()}") from None
