"""A search made ready: its dimensions, its rules, the base's own point, and what decides its trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from archlab import __version__
from archlab.errors import ArchlabError
from archlab.measure.provenance import code_version
from archlab.paths import data_dir
from archlab.sweep.block import CALCULATING_CODE
from archlab.sweep.naming import called, check_names
from archlab.sweep.provenance import hash_of
from archlab.sweep.search_points import Evaluator, Place, base_point
from archlab.sweep.search_rules import Rules, Verdict, rules_of
from archlab.sweep.search_space import Choices, Dimension, Values, dimensions
from archlab.sweep.search_words import Asked
from archlab.sweep.study_fields import SPACE_KEYS, Search, search_from

TOLD_ONLY = ("question", "grid", "search", "measure", "on_cpu", "epsilon", "axis", "quality", "rows")
"""Fields of a study that decide no trial."""


@dataclass(frozen=True)
class Searched:
    """What is searched, and how a point of it is judged."""

    asked: Asked
    how: Search
    dims: tuple[Dimension, ...]
    evaluator: Evaluator
    rules: Rules
    base: Values

    def verdicts(self, points: Sequence[Values]) -> list[Verdict]:
        """A verdict a point."""
        return self.rules.judge(self.evaluator.rows(points))

    def config(self) -> dict[str, Any]:
        """All that decides what a trial of some number is: another one makes another search."""
        study = self.asked.study
        said = {k: v for k, v in asdict(study).items() if k not in TOLD_ONLY}
        config = {
            "study": said,
            "fixed": dict(self.asked.fixed),
            "places": {name: _facts(place) for name, place in self.evaluator.places.items()},
            "space": [asdict(dim) for dim in self.dims],
            "objectives": [str(o) for o in self.rules.objectives],
            "sampler": self.how.sampler,
            "seed": self.how.seed,
            "archlab": __version__,
            "code": code_version(CALCULATING_CODE),
            "runtime": hash_of((data_dir("conf") / "runtime.yaml").read_text(encoding="utf-8")),
        }
        return dict(json.loads(json.dumps(config, default=str)))


def prepare(asked: Asked) -> Searched:
    """Reads what is asked, and evaluates the base so that every name can be checked. Raises ArchlabError."""
    dims, evaluator = dimensions(asked.study), Evaluator(asked)
    words = dict.fromkeys([asked.study.base[0], *_models(dims)])
    check_names((word, called(word)) for word in words)
    rows = evaluator.rows([{}, *_other_places(dims)])
    standing = [row for row in rows if row["status"] == "ok"]
    if not standing:
        raise ArchlabError(str(rows[0]["reason"]))
    columns = dict.fromkeys([*(dim.key for dim in dims), *(name for row in standing for name in row)])
    rules = rules_of(asked.study, [c for c in columns if c not in ("status", "reason")])
    try:
        base = base_point(evaluator, [dim.key for dim in dims])
    except ArchlabError:  # the first of each do not go together; others do
        base = {}
    return Searched(asked, search_from(asked.study.search), dims, evaluator, rules, base)


def _models(dims: Sequence[Dimension]) -> list[str]:
    """The models of a space that has several, as they were given."""
    return [v for dim in dims if isinstance(dim, Choices) and dim.key == "base" for v in dim.values]


def _other_places(dims: Sequence[Dimension]) -> list[Values]:
    """A point for each model, device ... of the space, for the columns that it may have."""
    return [{dim.key: v} for dim in dims if isinstance(dim, Choices) and dim.key in SPACE_KEYS for v in dim.values]


def _facts(place: Place | ArchlabError) -> Any:
    if isinstance(place, ArchlabError):
        return str(place)
    held = None if place.held is None else [place.held.name, place.held.multiple]
    return {
        "model": place.spec.data,
        "work": asdict(place.work),
        "device": asdict(place.device),
        "precision": asdict(place.precision),
        "engine": [place.engine.name, asdict(place.engine)],
        "held": held,
    }
