"""python -m archlab.measure: `suite` measures a device into a folder, `calibrate` fits it, `run` times one model.

Needs torch, numpy and PyYAML only. Data goes to stdout (one document with --json), progress to stderr. Exits 0,
1 (something failed) or 2 (bad input).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.errors import ArchlabError
from archlab.measure.records import Record, last_rates
from archlab.presets import load
from archlab.units import show_seconds, tokens
from archlab.workload import Workload


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except ArchlabError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m archlab.measure", description="Measured latency on this device.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    suite = commands.add_parser("suite", help="what this device gives and how long models take on it, into a folder")
    suite.add_argument("--out", required=True, type=Path, help="folder of the results; what it holds is not redone")
    suite.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="stop starting work after")
    suite.add_argument("--quick", action="store_true", help="tiny models: does all of it work here?")
    suite.add_argument(
        "--section", action="append", metavar="NAME",
        help="checks, rooflines, operations, latency, sampled, calibration, memory; repeatable",
    )  # fmt: skip
    suite.set_defaults(command=_suite)
    run = commands.add_parser("run", help="time one model")
    run.add_argument("model", help="a preset or a model YAML")
    run.add_argument("changes", nargs="*", metavar="key=value", help="keys of the model to replace")
    run.add_argument("--context", default="512", help="tokens, as 512 or 8k (default 512)")
    run.add_argument("--batch", type=int, default=1)
    run.add_argument("--phase", choices=("prefill", "decode", "both"), default="both")
    run.add_argument("--seconds", type=float, default=2.0, help="of sampling a phase (default 2)")
    run.add_argument("--backend", help="fast or reference (default: fast where it covers the model)")
    run.add_argument("--sampled", action="store_true", help="compose the time from models of fewer layers, verified")
    run.set_defaults(command=_run)
    fit = commands.add_parser("calibrate", help="fit the laws of a device to what a suite measured")
    fit.add_argument("folder", type=Path, help="a suite's --out")
    fit.add_argument("--into", type=Path, metavar="FILE", help="a device's YAML, which gets the block; new for a CPU")
    fit.add_argument("--run", help="how the block calls the folder (default: as given)")
    fit.add_argument("--dtype", help="fp32, bf16 or fp16, where the folder has several")
    fit.add_argument("--json", action="store_true", help="one JSON document on stdout")
    fit.set_defaults(command=_calibrate)
    for command in (suite, run):
        command.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
        command.add_argument("--dtype", help="fp32, bf16 or fp16 (default: bf16 on a GPU, fp32 on a CPU)")
        command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return top


def _suite(options: argparse.Namespace) -> int:
    from archlab.measure.suite import SECTIONS, run_suite

    positive("--budget", options.budget, float("inf"))
    sections = options.section or SECTIONS
    outcome = run_suite(options.out, options.device, options.dtype, options.quick, options.budget, sections)
    counts = {name: len(keys) for name, keys in vars(outcome).items()}
    print(json.dumps(asdict(outcome)) if options.json else ", ".join(f"{n} {name}" for name, n in counts.items()))
    return outcome.exit_code


def _run(options: argparse.Namespace) -> int:
    from archlab.measure.single import run_all

    positive("--seconds", options.seconds, 3600)
    spec = load(options.model, _overrides(options.changes))
    how = {"backend": options.backend, "sampled": options.sampled}
    records = run_all(spec, _works(options), options.device, options.dtype, options.seconds, **how)
    if options.json:
        print(json.dumps({"records": [record.as_dict() for record in records]}, allow_nan=False))
    for record in () if options.json else records:
        print(_line(record))
    return int(any(record.status == "failed" for record in records))


def _calibrate(options: argparse.Namespace) -> int:
    from archlab.measure.calibration import calibrate
    from archlab.measure.device_file import write_calibration, write_device

    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    fitted = calibrate(options.folder, options.dtype, "fast", run=options.run, say=say)
    if options.into is not None and options.into.exists():
        write_calibration(options.into, fitted)
    elif options.into is not None:
        write_device(options.into, last_rates(options.folder, fitted.dtype), fitted)
    error, kernels = fitted.calibration.error, fitted.kernel_errors
    kernels = {name: share for name, share in kernels.items() if name != "vector"}  # that law is of whole steps
    if options.json:
        print(json.dumps({"error": asdict(error), "kernel_errors": dict(kernels), "dtype": fitted.dtype}))
        return 0
    print(
        f"{fitted.calibration.device}, {fitted.dtype}: held-out error of a pass {error.median:.1%} (median), "
        f"{error.p90:.1%} (nine of ten), {len(fitted.left_out)} passes of {error.n_configurations} configurations"
    )
    print("kernels against their laws: " + ", ".join(f"{name} {share:.0%}" for name, share in kernels.items()))
    return 0


def positive(what: str, seconds: float, most: float) -> None:
    """Raises ArchlabError unless it is a time."""
    if not 0 < seconds <= most:
        raise ArchlabError(
            f"{what} {seconds:g} must be seconds above 0" + (f", at most {most:g}" if most < 1e9 else "")
        )


def _overrides(changes: Sequence[str]) -> dict[str, Any]:
    """['attention.n_kv_heads=1'] -> {'attention.n_kv_heads': 1}."""
    pairs = [change.partition("=") for change in changes]
    for key, equals, _ in pairs:
        if not equals:
            raise ArchlabError(f"{key!r} must be key=value, as attention.n_kv_heads=1")
    return {key: yamlfile.value(text, key) for key, _, text in pairs}


def _works(options: argparse.Namespace) -> list[Workload]:
    """The phases asked for; prefill gives the last row of logits, as serving does."""
    prefill = Workload(options.batch, context=tokens(options.context), logits="last")
    return {"prefill": [prefill], "decode": [prefill.decode()], "both": [prefill, prefill.decode()]}[options.phase]


def _line(record: Record) -> str:
    if record.median_s is None:
        return f"{record.phase} {record.status}: {record.reason}"
    low, high, bound = (show_seconds(s or 0) for s in (record.ci_low_s, record.ci_high_s, record.bound_s))
    return (
        f"{record.phase} {record.context} tokens, batch {record.batch}, {record.dtype}, {record.device}: "
        f"{show_seconds(record.median_s)} {record.source} (95 % of the median {low} to {high}, n={record.n}, "
        f"drift {record.drift:+.1%}), {bound} {record.bound} bound; {record.ran}"
    )


if __name__ == "__main__":
    sys.exit(main())
