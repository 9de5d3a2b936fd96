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
from archlab.sweep.column_names import DESCRIBED, of_any_model
from archlab.sweep.measures import Asked, measures
from archlab.sweep.notable import DEFAULTS
from archlab.sweep.study import Study, check_columns, check_texts, objectives_of
from archlab.sweep.where import parse_where


def asked_of(given: Mapping[str, str], study: Study | None, known: list[str] | None) -> Study:
    """What is asked of a sweep beyond its axes, with the command line's changes: limits, conditions, objectives.

    Raises SpecError for a condition or an objective on a column that is not among the known.
    """
    limits = _says(given, "limits")
    objectives = texts_of(given["objectives"]) if "objectives" in given else (study.objectives if study else ())
    where = texts_of(given["where"]) if "where" in given else ()
    asked = Study(question="?", base=["-"], grid={}, workloads=["-"], hardware=["-"], limits=limits,
                  objectives=objectives, where=where)  # fmt: skip
    if known is not None:
        _check_columns(asked, known)
    check_texts(asked)
    return asked


def _says(given: Mapping[str, str], key: str) -> bool:
    """Whether a key that is false by itself is set to true."""
    return text_of(given.get(key, "=false")) == "true"


def _check_columns(asked: Study, known: list[str]) -> None:
    """Another pattern may have what the bases have not."""
    try:
        check_columns(asked, known)
    except SpecError:
        _check_described(asked, known)
        check_columns(asked, [*known, *of_any_model()])


def _check_described(asked: Study, known: list[str]) -> None:
    """Raises SpecError for what a table says of each point, but a condition cannot ask for."""
    named = [*(parse_where(asked.where).names if asked.where else ()), *(o.name for o in objectives_of(asked))]
    for name in (n for n in named if n in DESCRIBED and not any(k.rpartition(".")[2] == n for k in known)):
        raise SpecError(
            f"{name!r} is written beside a point, not calculated; a condition or an objective names an axis of this "
            "sweep, by its key, or a calculated column, such as params or memory_bytes"
        )


def known_columns(given: Mapping[str, str], axes: Mapping[str, Any], files: Mapping[str, Any]) -> list[str] | None:
    """The columns that the points will have: the axes, and those of each base, workload, device, precision and engine
    beside the first of the others; None where none of that can be computed, which the points then say.
    """
    names = {group: text_of(given.get(group, f"={name}")).split(",") for group, name in default_names().items()}
    first = {group: some[0] for group, some in names.items()}
    chosen = [first, *(first | {group: name} for group, some in names.items() for name in some[1:])]
    per_character = _says(given, "per_character")
    found: list[str] = []
    for one in chosen:
        try:
            found += _columns(one, files, per_character)
        except ArchlabError:  # two that do not go together: their points say it
            continue
    if not found:
        return None
    limits = ["max_context", "max_batch"] if _says(given, "limits") else []
    return list(dict.fromkeys([*axes, *found, *limits, *DEFAULTS]))


def _columns(names: Mapping[str, str], files: Mapping[str, Any], per_character: bool) -> list[str]:
    """The calculated columns of a base where it runs. Raises ArchlabError."""
    model = names["model"]
    spec = resolve(files[model]) if model in files else load(model)
    at = setting(names["hardware"], names["precision"], names["engine"])
    asked = Asked(at, memory=True, per_character=per_character)
    return [*measures(spec, load_workload(names["workload"], spec), asked)]
