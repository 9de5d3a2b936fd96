"""The Gemma family as a run: its models side by side, generation by generation, and the claims that are wrong of it.

python -m archlab.sweep.family reports/gemma    # writes the run's folder; archlab report --all renders it
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.analyzers.diagram import diagram
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.memory import setting
from archlab.analyzers.special import short
from archlab.config import load_serving
from archlab.engines import load_engine
from archlab.errors import ArchlabError
from archlab.paths import data_dir
from archlab.precision import load_precision
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.claims import settled
from archlab.sweep.measures import Asked, measures
from archlab.sweep.provenance import provenance
from archlab.sweep.results import (
    assumptions,
    curve_rows,
    describe_point,
    engine_facts,
    formulas,
    frame_of,
    layer_rows,
    precision_facts,
    write_run,
)  # fmt: skip

FAR = 2**20
"""A context beyond all windows: from there on only what has none grows."""


def write_family(folder: Path, command: str) -> None:
    """Writes the run's folder. Raises ArchlabError."""
    started = datetime.now(UTC)
    told = family()
    specs = {name: load(name) for generation in told["generations"] for name in generation["models"]}
    rows = [_row(spec, work, told["precision"]) for spec in specs.values() for work in told["workloads"]]
    tables = {
        "points": frame_of(rows),
        "curves": frame_of([row for s in specs.values() for row in curve_rows(s.name, s.name, s)]),
        "layers": frame_of([row for s in specs.values() for row in layer_rows(s.name, s)]),
    }
    write_run(folder, _facts(told, specs) | {"provenance": provenance(command, started, told)}, tables)


def family() -> dict[str, Any]:
    """conf/family.yaml: the generations with their models. Raises SpecError."""
    path = data_dir("conf") / "family.yaml"
    with yamlfile.naming(path):
        return dict(yamlfile.read(path))


def _facts(told: Mapping[str, Any], specs: Mapping[str, ModelSpec]) -> dict[str, Any]:
    drawn = [specs[generation["drawn"]] for generation in told["generations"]]
    precision = told["precision"]
    return {
        "kind": "family",
        "name": told["title"],
        "question": told["question"],
        "axes": [],
        "bases": list(specs),
        "hardware": {},
        "workloads": {name: asdict(load_serving(name)) for name in told["workloads"]},
        "precisions": {precision: precision_facts(load_precision(precision))},
        "engines": {"ideal": engine_facts(load_engine("ideal"))},
        "generations": told["generations"],
        "claims": settled([*specs.values()]),
        "formulas": formulas({s.name: s for s in drawn}),
        "diagrams": [diagram(s) for s in drawn],
        "special": {name: ", ".join(short(s)) for name, s in specs.items() if short(s)},
        "assumptions": assumptions([load_engine("ideal")]),
    }


def _row(spec: ModelSpec, workload: str, precision: str) -> dict[str, Any]:
    work = load_serving(workload).work_for(spec)
    numbers = measures(spec, work, Asked(setting(None, precision, "ideal")))
    place = {"workload": workload, "batch": work.batch, "context": work.context, "hardware": None,
             "precision": precision, "engine": "ideal"}  # fmt: skip
    front = {"point": spec.name, "base": spec.name, "is_base": True, **place, "status": "ok", "reason": None}
    return front | numbers | describe_point(spec) | _own(spec, precision)


def _own(spec: ModelSpec, precision: str) -> dict[str, Any]:
    """What this page tells beside a comparison's columns; the cache of the decoder's own tokens."""
    far = kv_cache(spec, FAR + 1, 1, precision).total - kv_cache(spec, FAR, 1, precision).total
    heads = {(f["n_heads"], f["n_kv_heads"], f["head_dim"]) for f in _attention(spec)}
    return {
        "kv_first_token_bytes": kv_cache(spec, 1, 1, precision).total,
        "kv_far_token_bytes": far,
        "heads": ", ".join(f"{n} / {k} × {h}" for n, k, h in sorted(heads)),
        "pattern": _pattern(spec.pattern),
    }


def _attention(spec: ModelSpec) -> list[dict[str, Any]]:
    found = [layer.facts() for layer in spec.decoder.layers]
    return [facts for facts in found if facts.get("n_kv_heads")]


def _pattern(kinds: Sequence[str]) -> str:
    """'5 local : 1 global': the kinds of a period in the order of their first layer."""
    counts = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    return " : ".join(f"{n} {kind}" for kind, n in counts.items()) if len(counts) > 1 else f"all {kinds[0]}"


def main(words: Sequence[str]) -> None:
    """Writes the run into the folder that is named; exit code 2 for bad input."""
    asked = argparse.ArgumentParser(prog="python -m archlab.sweep.family", description=write_family.__doc__)
    asked.add_argument("folder", type=Path, help="the run's folder, reports/gemma")
    try:
        write_family(asked.parse_args(words).folder, shlex.join(["python", "-m", "archlab.sweep.family", *words]))
    except ArchlabError as problem:
        asked.error(str(problem))


if __name__ == "__main__":
    main(sys.argv[1:])
