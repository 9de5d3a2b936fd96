"""Points of a search through `evaluate`, a batch at a time.

What differs in model, workload, device, precision or engine, or in a value that is no number, is a call of its own;
whatever else differs are the linked columns of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archlab.algebra import is_scalar
from archlab.analyzers.memory import setting
from archlab.config import group_file, load_workload, serving_from
from archlab.engines import load_engine
from archlab.engines.base import Engine
from archlab.errors import ArchlabError
from archlab.hardware import Hardware, hardware_from
from archlab.precision import Precision, precision_from
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.sweep.axes import HARDWARE_KEYS, bare_key, show_value
from archlab.sweep.evaluate import evaluate
from archlab.sweep.hold import Budget, budget
from archlab.sweep.results import current_value, label
from archlab.sweep.search_space import Values
from archlab.sweep.search_words import Asked
from archlab.sweep.study import Study
from archlab.sweep.study_fields import SPACE_KEYS
from archlab.workload import Workload

Row = dict[str, Any]
"""A point: what it is, `status`, `reason`, and every column of `evaluate`."""


@dataclass(frozen=True)
class Place:
    """A model with a workload on a device, in a precision and in an engine: what one call of `evaluate` is about."""

    spec: ModelSpec
    work: Workload
    device: Hardware
    precision: Precision
    engine: Engine
    held: Budget | None
    names: Mapping[str, str]  # base, workload, hardware, precision, engine, with what words changed in them


@dataclass
class Evaluator:
    """Rows of points; each distinct point is computed once."""

    asked: Asked
    known: dict[str, Row] = field(default_factory=dict)
    places: dict[str, Place | ArchlabError] = field(default_factory=dict)

    def rows(self, points: Sequence[Values]) -> list[Row]:
        """A row a point, in their order. A point that cannot be is a row that says why."""
        new = {repr(p): p for p in points if repr(p) not in self.known}
        groups: dict[str, list[str]] = {}
        for name, point in new.items():
            groups.setdefault(repr([(k, v) for k, v in point.items() if not _is_column(k, v)]), []).append(name)
        for alike in groups.values():
            for name, row in zip(alike, self._together([new[name] for name in alike]), strict=True):
                self.known[name] = row
        return [self.known[repr(p)] for p in points]

    def _together(self, points: Sequence[Values]) -> list[Row]:
        """Rows of points that differ in columns only."""
        told = [{k: show_value(v) for k, v in p.items() if k not in SPACE_KEYS} for p in points]
        try:
            place = self.place(points[0])
            numbers = _numbers(self.asked.study, place, points)
        except ArchlabError as problem:  # wrong for all of them
            return [row | {"status": "refused", "reason": str(problem)} for row in told]
        batch = [p.get("workload.batch", place.work.batch) for p in points]
        context = [p.get("workload.context", place.work.context) for p in points]
        return [
            dict(place.names) | row | {"batch": b, "context": c} | found
            for row, b, c, found in zip(told, batch, context, numbers, strict=True)
        ]

    def place(self, point: Values) -> Place:
        """Where a point stands. Raises ArchlabError, each time that it is asked for."""
        own = {k: v for k, v in point.items() if k in SPACE_KEYS}
        name = repr(sorted(own.items(), key=lambda item: item[0]))
        if name not in self.places:
            try:
                self.places[name] = place_of(self.asked, own)
            except ArchlabError as problem:
                self.places[name] = problem
        found = self.places[name]
        if isinstance(found, ArchlabError):
            raise found
        return found


def place_of(asked: Asked, own: Mapping[str, Any]) -> Place:
    """The place of a point's names; what it leaves out is the study's first. Raises ArchlabError."""
    names = {key: str(own.get(key, name)) for key, name in _first(asked.study).items()}
    spec = load(names["base"], asked.changes("model"))
    work = serving_from(_changed("workload", names, asked.changes("workload"))).work_for(spec)
    engine_options = _changed("engine", names, asked.changes("engine"))
    place = Place(
        spec=spec,
        work=work,
        device=hardware_from(_changed("hardware", names, asked.changes("hardware"))),
        precision=precision_from(_changed("precision", names, asked.changes("precision"))),
        engine=load_engine(engine_options.pop("name"), engine_options),
        held=None,
        names={},
    )
    called = {**names, "base": spec.name}
    shown = {key: label(called[key], asked.changes("model" if key == "base" else key)) for key in names}
    place = replace(place, device=replace(place.device, name=shown["hardware"]), names=shown)
    return replace(place, held=_held(asked.study, place))


def _first(study: Study) -> dict[str, str]:
    """The names that a point has unless it says otherwise."""
    given = (study.base, study.workloads, study.hardware, study.precision, study.engine)
    return {key: found[0] for key, found in zip(SPACE_KEYS, given, strict=True)}


def _held(study: Study, place: Place) -> Budget | None:
    """What the place's own model has of what the study holds."""
    if study.hold is None:
        return None
    work = load_workload(study.hold_workload, place.spec) if study.hold_workload else place.work
    at = setting(place.device, place.precision, place.engine)
    return budget(study.hold, place.spec, work, study.multiple, study.hold_by, at)


def _changed(group: str, names: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a group's file with dotted ones replaced."""
    data = group_file(group, group, names[group])
    for key, value in changes.items():
        *sections, last = key.split(".")
        inner = data
        for section in sections:
            inner[section] = dict(inner.get(section) or {})
            inner = inner[section]
        inner[last] = value
    return data


def _is_column(key: str, value: Any) -> bool:
    """Whether a value may stand in a column of `evaluate` beside others."""
    return key not in SPACE_KEYS and is_scalar(value) and not isinstance(value, bool)


def _numbers(study: Study, place: Place, points: Sequence[Values]) -> list[Row]:
    """What `evaluate` says of points at one place. Raises ArchlabError."""
    own = [{k: v for k, v in p.items() if k not in SPACE_KEYS} for p in points]
    columns = {key: [p[key] for p in own] for key, value in own[0].items() if _is_column(key, value)}
    found = evaluate(
        place.spec,
        place.work,
        place.device,
        place.precision,
        grid={key: [value] for key, value in own[0].items() if key not in columns},
        columns=columns,
        hold=place.held,
        engine=place.engine,
        memory=True,
        limits=study.limits,
        per_character=study.per_character,
    )
    frame = found.frame().drop(columns=[bare_key(key) for key in own[0]])
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def base_point(evaluator: Evaluator, keys: Iterable[str]) -> dict[str, Any]:
    """The values that the study's first model, workload, device, precision and engine have for some keys."""
    place, first = evaluator.place({}), _first(evaluator.asked.study)
    found: dict[str, Any] = {}
    for key in keys:
        group, _, name = key.partition(".")
        if key in SPACE_KEYS:
            found[key] = first[key]
        elif key in HARDWARE_KEYS:
            rates, _, number_format = name.partition(".")
            value = getattr(place.device, rates)
            found[key] = value.get(number_format) if number_format else value
        elif group == "workload":
            found[key] = getattr(place.work, name)
        else:
            found[key] = current_value(place.spec, bare_key(key))
    return found
