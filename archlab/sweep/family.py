"""The Gemma family as a run: its models side by side, generation by generation, and the claims that are wrong of it.

python -m archlab.sweep.family reports/gemma    # writes the run's folder; archlab report --all renders it
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.analyzers.diagram_words import ratio
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.memory import setting
from archlab.errors import ArchlabError
from archlab.paths import data_dir
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.claims import settled
from archlab.sweep.compare import model_facts, model_row, model_tables
from archlab.sweep.measures import Asked
from archlab.sweep.provenance import provenance
from archlab.sweep.results import frame_of, write_run

FAR = 2**20
"""A context beyond all windows: from there on only what has none grows."""


def write_family(folder: Path, command: str) -> None:
    """Writes the run's folder. Raises ArchlabError."""
    started = datetime.now(UTC)
    told = family()
    specs = {name: load(name) for generation in told["generations"] for name in generation["models"]}
    precision = told["precision"]
    asked = Asked(setting(None, precision, "ideal"))
    own = {name: _own(spec, precision) for name, spec in specs.items()}
    rows = [model_row(s, work, asked) | own[name] for name, s in specs.items() for work in told["workloads"]]
    tables = {"points": frame_of(rows), **model_tables(specs.values())}
    write_run(folder, _facts(told, specs) | {"provenance": provenance(command, started, told)}, tables)


def family() -> dict[str, Any]:
    """conf/family.yaml: the generations with their models. Raises SpecError."""
    path = data_dir("conf") / "family.yaml"
    with yamlfile.naming(path):
        return dict(yamlfile.read(path))


def _facts(told: Mapping[str, Any], specs: Mapping[str, ModelSpec]) -> dict[str, Any]:
    drawn = [specs[generation["drawn"]] for generation in told["generations"]]
    return model_facts(specs, drawn, told["workloads"], told["precision"]) | {
        "kind": "family",
        "name": told["title"],
        "question": told["question"],
        "hardware": {},
        "generations": told["generations"],
        "claims": settled([*specs.values()]),
    }


def _own(spec: ModelSpec, precision: str) -> dict[str, Any]:
    """What this page tells beside a comparison's columns; the cache of the decoder's own tokens."""
    far = kv_cache(spec, FAR + 1, 1, precision).total - kv_cache(spec, FAR, 1, precision).total
    heads = {(f["n_heads"], f["n_kv_heads"], f["head_dim"]) for f in _attention(spec)}
    return {
        "kv_first_token_bytes": kv_cache(spec, 1, 1, precision).total,
        "kv_far_token_bytes": far,
        "heads": ", ".join(f"{n} / {k} × {h}" for n, k, h in sorted(heads)),
        "pattern": ratio(spec.pattern),
    }


def _attention(spec: ModelSpec) -> list[dict[str, Any]]:
    found = [layer.facts() for layer in spec.decoder.layers]
    return [facts for facts in found if facts.get("n_kv_heads")]


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
