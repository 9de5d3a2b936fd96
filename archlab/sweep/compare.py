"""Models side by side in the report: the same tables as a study's, a model a point."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archlab.analyzers.diagram import diagram
from archlab.analyzers.memory import TIGHT, setting
from archlab.analyzers.special import short
from archlab.config import load_serving
from archlab.engines import load_engine
from archlab.hardware import load_hardware
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.sweep.measures import Asked, labelled, measures
from archlab.sweep.provenance import provenance
from archlab.sweep.results import (
    assumptions,
    curve_rows,
    describe_point,
    device_facts,
    engine_facts,
    formulas,
    frame_of,
    layer_rows,
    precision_facts,
    write_run,
)  # fmt: skip
from archlab.sweep.served import of_models
from archlab.sweep.serving_tables import serving_tables


def write_comparison(
    specs: list[ModelSpec], workloads: list[str], hardware: list[str], precision: str, out: Path, words: list[str]
) -> Path:
    """Renders the report of some models to `out`. Raises ArchlabError."""
    from archlab.report import render

    with tempfile.TemporaryDirectory() as folder:
        write_models(specs, workloads, hardware, precision, Path(folder), words)
        return render(Path(folder), out)


def write_models(
    specs: list[ModelSpec], workloads: list[str], hardware: list[str], precision: str, folder: Path, words: list[str]
) -> None:
    """Writes a run's folder for some models."""
    started = datetime.now(UTC)
    rows = [
        row
        for spec in specs
        for workload in workloads
        for device in hardware
        for row in [_row(spec, workload, device, precision)]
    ]
    tables = {
        "points": frame_of(rows),
        "curves": frame_of([row for s in specs for row in curve_rows(s.name, s.name, s)]),
        "layers": frame_of([row for s in specs for row in layer_rows(s.name, s)]),
    }
    tables |= serving_tables(of_models(specs, workloads, hardware, precision))
    names = [spec.name for spec in specs]
    config = {
        "models": [dict(s.data) for s in specs],
        "workloads": workloads,
        "hardware": hardware,
        "precision": precision,
    }
    run: dict[str, Any] = {
        "kind": "compare",
        "name": "compare",
        "question": "What differs between " + ", ".join(names[:-1]) + f" and {names[-1]}?",
        "axes": [],
        "hold": None,
        "hold_multiple": 64,
        "bases": names,
        "hardware": {name: device_facts(load_hardware(name)) for name in hardware},
        "workloads": {name: asdict(load_serving(name)) for name in workloads},
        "precisions": {precision: precision_facts(load_precision(precision))},
        "engines": {"ideal": engine_facts(load_engine("ideal"))},
        "tight": TIGHT,
        "formulas": formulas({s.name: s for s in specs}),
        "diagrams": [diagram(s) for s in specs],
        "special": {s.name: ", ".join(short(s)) for s in specs if short(s)},
        "assumptions": assumptions([load_engine("ideal")]),
        "provenance": provenance(shlex.join(["archlab", *words]), started, config),
    }
    write_run(folder, run, tables)


def _row(spec: ModelSpec, workload: str, hardware: str, precision: str) -> dict[str, Any]:
    work, asked = load_serving(workload).work_for(spec), Asked(setting(hardware, precision, "ideal"), memory=True)
    asked.check()
    place = {
        "workload": workload,
        "batch": work.batch,
        "context": work.context,
        "hardware": hardware,
        "precision": precision,
        "engine": "ideal",
    }
    numbers = measures(spec, work, asked)
    said = {k: labelled(k, v) for k, v in numbers.items()}
    found = {k: v.item() if hasattr(v, "item") else v for k, v in said.items()}
    front = {"point": spec.name, "base": spec.name, "is_base": True, **place, "status": "ok", "reason": None}
    return front | found | describe_point(spec)
