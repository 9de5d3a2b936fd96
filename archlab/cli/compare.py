"""archlab compare: models side by side, as a table or as the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from archlab.cli.describe import comparison, facts
from archlab.cli.output import show
from archlab.cli.screen import html_file, print_json, split_words, waiting
from archlab.config import load_serving
from archlab.errors import SpecError
from archlab.hardware import load_hardware
from archlab.precision import load_precision
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.naming import check_names

USUAL = {"workload": "chat-8k,long-128k", "hardware": "h200-sxm,rtx-4090", "precision": "bf16"}
"""Where the models of a report are held against each other, if nothing else is said."""


def run_words(words: Sequence[str], out: Path | None, asked: Mapping[str, str | None], json: bool, csv: bool) -> None:
    """The table, or the report with `out`; `asked` has the keys of USUAL. Raises ArchlabError."""
    given = {key: text for key, text in asked.items() if text is not None}
    workloads, hardware, precision = _places(USUAL | given)
    if out is None and given:
        raise SpecError("workload, hardware and precision shape the report; name its file with -o")
    if out is not None and csv:
        raise SpecError("--csv is for the table; -o writes the report, whose tables download as CSV")
    target = None if out is None else html_file(out)
    specs = _models(words)
    if target is None:
        return show(lambda: [facts(spec) for spec in specs], lambda: comparison(specs), json, csv)
    from archlab.sweep.compare import write_comparison

    said = spoken(words, target, given)
    with waiting(f"computing the tables of {len(specs)} models"):
        path = write_comparison(specs, workloads, hardware, precision, target, said)
    print_json({"report": str(path)}) if json else print(path)


def _models(words: Sequence[str]) -> list[ModelSpec]:
    names, overrides = split_words(words)
    if overrides:
        raise SpecError(
            f"compare takes models, not {next(iter(overrides))}=...; put the change into a YAML (archlab new)"
        )
    if len(names) < 2:
        raise SpecError(f"compare takes two or more models, not {len(names)}" + "".join(f" ({n})" for n in names))
    specs = [load(name) for name in names]
    check_names(zip(names, (spec.name for spec in specs), strict=True))
    return specs


def _places(at: Mapping[str, str]) -> tuple[list[str], list[str], str]:
    """(workloads, devices, precision), each of which is there."""
    workloads, hardware = at["workload"].split(","), at["hardware"].split(",")
    for name in workloads:
        load_serving(name)
    for name in hardware:
        load_hardware(name)
    load_precision(at["precision"])
    return workloads, hardware, at["precision"]


def spoken(words: Sequence[str], out: Path, given: Mapping[str, str]) -> list[str]:
    """The command's words as a person would type them again; of an absolute path the file's name alone."""
    options = [word for key, text in given.items() for word in (f"--{key}", text)]
    return ["compare", *words, "-o", out.name if out.is_absolute() else str(out), *options]
