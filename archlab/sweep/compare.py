"""Models side by side in the report: the same tables as a study's, a model a point."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

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
    places = [Asked(setting(device, precision, "ideal"), memory=True) for device in hardware]
    rows = [model_row(spec, workload, asked) for spec in specs for workload in workloads for asked in places]
    tables = {"points": frame_of(rows), **model_tables(specs)}
    tables |= serving_tables(of_models(specs, workloads, hardware, precision))
    names = [spec.name for spec in specs]
    config = {
        "models": [dict(s.data) for s in specs],
        "workloads": workloads,
        "hardware": hardware,
        "precision": precision,
    }
    run = model_facts({s.name: s for s in specs}, specs, workloads, precision) | {
        "kind": "compare",
        "name": "compare",
        "question": "What differs between " + ", ".join(names[:-1]) + f" and {names[-1]}?",
        "hold": None,
        "hold_multiple": 64,
        "hardware": {name: device_facts(load_hardware(name)) for name in hardware},
        "tight": TIGHT,
        "provenance": provenance(shlex.join(["archlab", *words]), started, config),
    }
    write_run(folder, run, tables)


def model_facts(
    specs: Mapping[str, ModelSpec], drawn: Iterable[ModelSpec], workloads: Iterable[str], precision: str
) -> dict[str, Any]:
    """What run.json says of a run whose points are models; those `drawn` have formulas and diagrams."""
    shown, engine = list(drawn), load_engine("ideal")
    return {
        "axes": [],
        "bases": list(specs),
        "workloads": {name: asdict(load_serving(name)) for name in workloads},
        "precisions": {precision: precision_facts(load_precision(precision))},
        "engines": {engine.name: engine_facts(engine)},
        "formulas": formulas({s.name: s for s in shown}),
        "diagrams": [diagram(s) for s in shown],
        "special": {name: ", ".join(short(s)) for name, s in specs.items() if short(s)},
        "assumptions": assumptions([engine]),
    }


def model_tables(specs: Iterable[ModelSpec]) -> dict[str, pd.DataFrame]:
    """The tables of a run whose points are models: curves and layers."""
    models = list(specs)
    return {
        "curves": frame_of([row for s in models for row in curve_rows(s.name, s.name, s)]),
        "layers": frame_of([row for s in models for row in layer_rows(s.name, s)]),
    }


def model_row(spec: ModelSpec, workload: str, asked: Asked) -> dict[str, Any]:
    """The row of a model at a workload, in the place that is asked. Raises SpecError."""
    asked.check()
    work, at = load_serving(workload).work_for(spec), asked.at
    place = {
        "workload": workload,
        "batch": work.batch,
        "context": work.context,
        "hardware": at.device and at.device.name,
        "precision": at.precision.name,
        "engine": at.engine.name,
    }
    said = {k: labelled(k, v) for k, v in measures(spec, work, asked).items()}
    found = {k: v.item() if hasattr(v, "item") else v for k, v in said.items()}
    front = {"point": spec.name, "base": spec.name, "is_base": True, **place, "status": "ok", "reason": None}
    return front | found | describe_point(spec)
