"""What is asked of a sweep's points beyond their axes, held against the columns that they will have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archlab.analyzers.memory import setting
from archlab.assemble import resolve
from archlab.config import load_workload
from archlab.errors import ArchlabError, SpecError
from archlab.presets import load
from archlab.sweep.argv_words import default_names, text_of, texts_of
from archlab.sweep.column_names import of_any_model
from archlab.sweep.measures import Asked, measures
from archlab.sweep.notable import DEFAULTS
from archlab.sweep.study import Study, check_columns, check_texts


def asked_of(given: Mapping[str, str], study: Study | None, known: list[str] | None) -> Study:
    """What is asked of a sweep beyond its axes, with the command line's changes: limits, conditions, objectives.

    Raises SpecError for a condition or an objective on a column that is not among the known.
    """
    limits = text_of(given.get("limits", "limits=false")) == "true"
    objectives = texts_of(given["objectives"]) if "objectives" in given else (study.objectives if study else ())
    where = texts_of(given["where"]) if "where" in given else ()
    asked = Study(question="?", base=["-"], grid={}, workloads=["-"], hardware=["-"], limits=limits,
                  objectives=objectives, where=where)  # fmt: skip
    if known is not None:
        _check_columns(asked, known)
    check_texts(asked)
    return asked


def _check_columns(asked: Study, known: list[str]) -> None:
    """Another base, or another pattern, may have what the first has not."""
    try:
        check_columns(asked, known)
    except SpecError:
        check_columns(asked, [*known, *of_any_model()])


def known_columns(given: Mapping[str, str], axes: Mapping[str, Any], files: Mapping[str, Any]) -> list[str] | None:
    """The columns that the points will have: those of the first base where it runs first, and the axes; None where that
    cannot be computed, which the points then say.
    """
    first = {group: text_of(given.get(group, f"={name}")).split(",")[0] for group, name in default_names().items()}
    try:
        name = first["model"]
        spec = resolve(files[name]) if name in files else load(name)
        at = setting(first["hardware"], first["precision"], first["engine"])
        asked = Asked(at, memory=True, per_character=text_of(given.get("per_character", "=false")) == "true")
        found = [*measures(spec, load_workload(first["workload"], spec), asked)]
    except ArchlabError:
        return None
    limits = ["max_context", "max_batch"] if text_of(given.get("limits", "=false")) == "true" else []
    return list(dict.fromkeys([*axes, *found, *limits, *DEFAULTS]))
