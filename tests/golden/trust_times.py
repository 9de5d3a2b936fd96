"""Times that archlab predicts beside measured ones, what the built decoders are held to, and where no evidence is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import test_h200 as h200
import test_hardware as devices
from trust_page import Beside, Section, number, percent, table, wrapped

from archlab.engines import ENGINES
from archlab.measure.calibration import LeftOut, calibrate
from archlab.measure.laws import fit_linear
from archlab.measure.records import read_records
from archlab.units import show_seconds

ROOT = Path(__file__).parents[2]


def predictions() -> Section:
    """Steps of calibrated devices, each predicted by laws that never saw its configuration."""
    pairs, rows, said = [], [], []
    points = {record["config_hash"]: record["point"] for record in _records("latency.jsonl")}
    for name, device in devices.MEASURED.items():
        for number_format, block in device.measured.items():
            left_out = calibrate(ROOT / block.run, number_format, block.backend, run=block.run).left_out
            pairs += [Beside((name, step.model), step.predicted_s, step.measured_s) for step in left_out]
            rows += [_step(name, number_format, points[step.config_hash], step) for step in left_out]
            error = block.error
            said.append(
                f"{device.title}, {number_format}, {block.date}: median error {percent(error.median)}, nine of ten within "
                f"{percent(error.p90)}, {error.n_configurations} configurations."
            )
    return Section(
        "Predicted times", "steps timed on calibrated devices, left out of the fit",
        "The laws of kernels are fitted to single operations, what a step takes over them to whole steps; each configuration "
        "is then predicted from the others. The configurations of a calibration are alike: of a shape that is much larger, "
        "or of another context, `archlab.latency` says in its assumptions that the error is not known.",
        ("device", "format", "point", "step", "measured", "predicted", "error"), pairs, rows, after=" ".join(said), exact=False,
    )  # fmt: skip


def _step(device: str, number_format: str, point: str, step: LeftOut) -> list[str]:
    error = percent(step.predicted_s / step.measured_s - 1, signed=True)
    where = f"{step.phase}, {step.batch} x {step.context:,}"
    return [device, number_format, point, where, show_seconds(step.measured_s), show_seconds(step.predicted_s), error]


def bounds() -> Section:
    """How near the same steps come to their bounds: a bound is a bound."""
    good = [r for r in _records("latency.jsonl") if r.get("bound_s") and r.get("status") == "ok"]
    pairs = [Beside((r["device"],), r["bound_s"], r["median_s"]) for r in good]
    rows = [
        [r["device"], r["dtype"], r["point"], f"{r['phase']}, {r['batch']} x {r['context']:,}",
         show_seconds(r["median_s"]), show_seconds(r["bound_s"]), whole(r["bound_s"] / r["median_s"])]
        for r in good
    ]  # fmt: skip
    below = sum(pair.ours > pair.theirs for pair in pairs)
    return Section(
        "Bounds", "the same steps",
        "The bound is at the rates that the device reached in the same run, not at a data sheet's. "
        f"{below or 'None'} of {len(pairs)} steps was faster than its bound; the share says how much of the roof was reached.",
        ("device", "format", "point", "step", "measured", "bound", "share"), pairs, rows, exact=False,
    )  # fmt: skip


def sampled() -> Section:
    """Times composed from models of few layers beside the whole model's."""
    records = _records("sampled.jsonl")
    rows = [
        [r["device"], r["point"], f"{r['phase']}, {r['batch']} x {r['context']:,}", r["verified_on"],
         percent(r["residual"], signed=True),
         f"{percent(r['residual_low'], signed=True)} to {percent(r['residual_high'], signed=True)}"]
        for r in records
    ]  # fmt: skip
    return Section(
        "Layer-sampled times", "the whole model, timed in turns with its sample",
        "`archlab measure --sampled` times the head with one and two periods of layers, and extrapolates. Up to 3 % it counts "
        "as measured, beyond as extrapolated.",
        ("device", "point", "step", "verified on", "residual", "95 % interval"),
        [Beside((r["device"],), 1 + r["residual"], 1.0) for r in records], rows, exact=False,
    )  # fmt: skip


def _records(name: str) -> list[dict]:
    """Lines of that file in every folder of measurements."""
    return [line for path in sorted((ROOT / "reports" / "measured").glob(f"*/{name}")) for line in read_records(path)]


def whole(share: float, signed: bool = False) -> str:
    """A share in whole percent."""
    n = round(100 * share)
    return f"{n:+d} %" if signed and n else f"{n} %"


def products() -> Section:
    """The law of linear products on another's measurements of an H200."""
    law = fit_linear(h200.products("fit"))
    rows, pairs = [], []
    for least, most in ((1, 64), (256, 256), (1024, 16384)):
        found = h200.errors(law, least, most)
        pairs += [Beside((str(least),), 1 + error, 1.0) for error in found]
        rows.append(
            [f"{least:,} to {most:,}" if most > least else f"{least:,}", str(len(found)),
             whole(np.abs(found).mean()), whole(found.mean(), signed=True), whole(np.abs(found).max())]
        )  # fmt: skip
    fitted = len(h200.products("fit"))
    return Section(
        "The law of a product", "NVIDIA's timings of matrix products on an H200",
        f"Fitted to {fitted} products in bf16, held to {len(pairs)} others. This is one kernel alone, not a model.",
        ("rows", "products", "mean error", "bias", "largest"), pairs, rows, exact=False,
    )  # fmt: skip


def decoders() -> str:
    """What the tests hold the built decoders to, read from the tests."""
    rows = []
    for path in sorted((ROOT / "tests" / "parity").glob("test_*.py")):
        tree = ast.parse(path.read_text())
        doc = " ".join((ast.get_docstring(tree) or "").split())
        allowed = sorted({*_tolerances(tree)} - {0.0})
        shown = (
            f"{allowed[0]:g} to {allowed[-1]:g}"
            if len(allowed) > 1
            else f"{allowed[0]:g}"
            if allowed
            else "as integers"
        )
        rows.append([f"[{path.name}](../tests/parity/{path.name})", shown, doc])
    return (
        "## Decoders\n\n"
        + wrapped(
            "The decoders that `archlab.build` makes are held to transformers' classes of the same family, in small and "
            "with random weights, in fp32. *allowed* are the absolute differences of logits, states or shares that the file's "
            "tests let pass; counts are compared as integers."
        )
        + "\n\n"
        + table(("tests", "allowed", "what"), rows)
    )


def _tolerances(tree: ast.Module) -> Iterator[float]:
    """Values of `atol` in calls, and of functions that have one by default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "atol":
            yield from (
                n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, float)
            )
        if isinstance(node, ast.FunctionDef):
            named = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
            yield from (d.value for a, d in named if a.arg == "atol" and isinstance(d, ast.Constant))
        if isinstance(node, ast.ImportFrom) and any(name.name == "close" for name in node.names):
            yield from _tolerances(ast.parse((ROOT / "tests" / "parity" / f"{node.module}.py").read_text()))


def on_devices() -> str:
    """Checks of the decoders that the suites of measurements ran."""
    rows = [
        [
            c["device"],
            c["model"],
            c["dtype"],
            c["check"],
            f"{c['largest_difference']:.1e}",
            f"{c['allowed']:.1e}",
            c["status"],
        ]
        for c in _records("checks.jsonl")
    ]
    return (
        "Before a suite times a decoder, it checks it on the device, at full width:\n\n"
        + table(("device", "model", "format", "check", "largest difference", "allowed", "outcome"), rows)
    )  # fmt: skip


def nothing_known() -> str:
    """Where there is no evidence, or little."""
    known = devices.DEVICES
    calibrated = sorted(f"{name} ({', '.join(device.measured)})" for name, device in devices.MEASURED.items())
    printed = {"llama_cpp", "vllm"}
    lines = (
        f"**Seconds.** Calibrated of {len(known)} devices: {'; '.join(calibrated)}. On every other, and in every other format, "
        "a time is a bound at the data sheet's rates, which no program beats and none reaches.",
        "**What a process takes besides** weights, cache and activations: `conf/runtime.yaml` gives each number its source and its "
        "basis; they are other people's measurements, or assumed, and differ between drivers and versions.",
        f"**Engines.** No log was found for {', '.join(sorted(set(ENGINES) - printed - {'ideal'}))}: its layout follows its "
        "code, and its cache is what transformers allocates (above).",
        "**Activations** are an estimate from the rows, held to torch's memory tracker in "
        "`tests/memory/test_activations.py`; `archlab check MODEL --memory` does the same for any model.",
        "**Quality.** archlab computes costs. What a choice costs in quality is cited from publications, with the kind of "
        "evidence beside each, and never computed.",
    )  # fmt: skip
    return "## Where there is little evidence, or none\n\n" + "\n".join(wrapped(f"- {line}", "  ") for line in lines)


def sections() -> list[Section]:
    """All of them, in the order of the page."""
    return [predictions(), bounds(), sampled(), products()]


def summary_of_times(found: list[Section]) -> str:
    """The table at the top, for times: shares of errors, not largest ones."""
    rows = []
    for section in found:
        errors = sorted(abs(pair.error) for pair in section.pairs)
        median, most = (percent(np.percentile(errors, at)) for at in (50, 100)) if errors else ("", "")
        rows.append([f"[{section.title}](#{section.anchor})", section.against, number(len(errors)), median, most])
    return table(("times", "held against", "cases", "median error", "largest"), rows)
