"""What is wrong with a sweep's settings, said before Hydra would find it, or would not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archlab.config import Serving
from archlab.engines import ENGINES
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.fields import fields_of
from archlab.hardware import Hardware
from archlab.paths import group_files
from archlab.precision import Precision
from archlab.presets import read
from archlab.schema import field_type, known_keys, node
from archlab.sweep.argv_words import GROUPS, default_names, text_of, value_of
from archlab.sweep.axes import HARDWARE_KEYS, OTHER_KEYS, bare_key
from archlab.sweep.hold import HELD, STEPS
from archlab.sweep.study import check_axes, unknown_key, value_type
from archlab.sweep.study_fields import MEASURE, ROWS

SCHEMAS = {"workload": Serving, "hardware": Hardware, "precision": Precision}


def check_settings(given: Mapping[str, str]) -> None:
    """Raises SpecError for a setting that cannot be."""
    choices = {"hold": (*HELD, "null"), "hold_by": tuple(STEPS), "measure": MEASURE, "rows": ROWS}
    for key, allowed in (choices | dict.fromkeys(("limits", "per_character"), ("true", "false"))).items():
        if key in given and text_of(given[key]) not in allowed:
            word = text_of(given[key])
            raise SpecError(f"{key}={word!r} must be one of {', '.join(allowed)}{nearest(word, allowed)}")
    for key in ("hold_multiple", "parts"):
        number = text_of(given.get(key, "=1"))
        if number != "null" and (not number.isdecimal() or int(number) < 1):
            raise SpecError(f"{key}={number!r} must be a whole number of 1 or more")
    if "out" in given and not text_of(given["out"]):
        raise SpecError("out= needs the folder that the run goes to")
    _check_epsilon(text_of(given.get("epsilon", "epsilon=null")))
    by = text_of(given.get("hold_by", "hold_by=mlp.d_ff"))
    if f"model.{by}" in given and text_of(given.get("hold", "hold=null")) != "null":
        short = by.rpartition(".")[2]
        raise SpecError(f"hold rescales model.{by}, so {short} cannot be given too; drop one of them")
    for key in given:
        group, _, name = key.partition(".")
        known = _fields(group, given) if name else None
        if known is not None and name.split(".")[0] not in known:
            raise SpecError(f"unknown key {key}{nearest(name, known)} (known: {', '.join(known)})")


def _check_epsilon(word: str) -> None:
    try:
        good = word == "null" or 0 < float(word) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise SpecError(f"epsilon={word!r} must be a number above 0, such as 0.01, or null")


def _fields(group: str, given: Mapping[str, str]) -> list[str] | None:
    """Keys that a group's file may have, those of the chosen engines; None for a model, checked elsewhere."""
    if group == "engine":
        chosen = text_of(given.get("engine", "engine=ideal")).split(",")
        return list(dict.fromkeys(key for name in chosen if name in ENGINES for key in fields_of(ENGINES[name])))
    return [*fields_of(SCHEMAS[group])] if group in SCHEMAS else None


def check_groups(given: Mapping[str, str], files: Mapping[str, dict[str, Any]], axes: Mapping[str, Any]) -> None:
    """Raises for names and axes that Hydra would only find out about later, or not at all."""
    bases = []
    for group, what in GROUPS.items():
        found = group_files(group)
        for name in text_of(given[group]).split(",") if group in given else ():
            if name not in found and not (group == "model" and name in files):
                raise UnknownNameError(f"unknown {what} {name!r}{nearest(name, found)} ({_listing(group)})")
            bases += [files.get(name) or read(name)] if group == "model" else []
    bases = bases or [read(default_names()["model"])]
    check_axes(axes, bases)
    check_changes(given, bases)


def check_changes(given: Mapping[str, str], bases: list[dict[str, Any]]) -> None:
    """Raises SpecError for an empty list of values, and for a single model key that no base can have as it is given."""
    known = [key for data in bases for key in known_keys(data)]
    for key in (k for k in given if k.startswith(("model.", "workload.", "hardware."))):
        bare, value = bare_key(key), value_of(given[key])
        kind = value_type(bare, bases) if bare in known or bare in HARDWARE_KEYS else None
        if value == [] and (kind is None or not kind.test(value)):
            raise SpecError(f"{key} has no values")
        if key.startswith("model.") and bare not in known and not any(_can_have(data, bare) for data in bases):
            raise unknown_key(key, [*known, *OTHER_KEYS])
        if key.startswith("model.") and kind is not None:
            kind.check(key, value)


def _can_have(data: dict[str, Any], key: str) -> bool:
    """Whether a model takes a key that is no field of its own: a section, a field of a stack that it lacks."""
    if node(data, tuple(key.split("."))) is not None:
        return True
    try:
        field_type(data, key)
    except SpecError:
        return False
    return True


def _listing(group: str) -> str:
    command = {"model": "models", "hardware": "hardware"}.get(group)
    return f"archlab {command} lists them" if command else ", ".join(sorted(group_files(group)))
