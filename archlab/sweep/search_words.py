"""The words of `archlab search`: a study by name, changed by key=value as a sweep's are.

`model.local.window=256` gives every point that value, `model.local.window=256,512` searches these two,
`model.local.window=interval(256,4096)` all between; `hold=`, `where=`, `objectives=` ... replace what the study says.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlab.errors import SpecError, nearest
from archlab.fields import fields_of
from archlab.sweep.argv_words import GROUPS, OVERRIDE
from archlab.sweep.axes import bare_key
from archlab.sweep.search_space import shown_key
from archlab.sweep.study import Study, load_study, read_study, study_from

FIELD = {"model": "base", "workload": "workloads"}
"""A group -> the study's field that names its files, where the two differ."""

IN_SPACE = {"model": "base"}
"""A group -> its key in a space, where the two differ."""

SETTINGS = tuple(
    name
    for name in fields_of(Study)
    if name not in ("question", "grid", "search", "on_cpu", "measure", *GROUPS, *FIELD.values())
)
"""Fields of a study that a word may replace."""


@dataclass(frozen=True)
class Asked:
    """What is to be searched: a study with the words worked in, and what they fix of models, devices, ..."""

    name: str
    study: Study
    fixed: Mapping[str, Any]  # model.n_layers, workload.batch, hardware.tdp_w ... -> value
    words: tuple[str, ...]

    def changes(self, group: str) -> dict[str, Any]:
        """What is fixed of a group's file, by its own keys."""
        return {k.removeprefix(f"{group}."): v for k, v in self.fixed.items() if k.startswith(f"{group}.")}


def read_words(name: str, words: Sequence[str], options: Mapping[str, Any]) -> Asked:
    """The study of a name, changed by words; `options` (trials, sampler, seed) replace its search's, None does not.

    Raises ArchlabError with one sentence.
    """
    stem, _ = load_study(name)
    _, data = read_study(name)
    section = {**(data.get("search") or {}), **{k: v for k, v in options.items() if v is not None}}
    space = {shown_key(k): v for k, v in (section.get("space") or data.get("grid") or {}).items()}
    fixed: dict[str, Any] = {}
    for key, given in _read(words).items():
        if key in SETTINGS:
            data[key] = given.value
            continue
        space.pop(IN_SPACE.get(key, key), None)
        if given.swept:
            space[IN_SPACE.get(key, key)] = given.value
        if key in GROUPS:
            data[FIELD.get(key, key)] = given.value if given.swept else [str(given.value)]
        elif not given.swept:
            fixed[key] = given.value
    data |= {"search": {**section, "space": space or None}} | ({} if space else {"grid": {}})
    study = study_from(data)
    _check_hold(study, [*space, *fixed])
    return Asked(stem, study, fixed, ("archlab", "search", name, *words))


def spoken(asked: Asked, options: Mapping[str, Any]) -> str:
    """The command as a person would type it again."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join([*asked.words, *given])


@dataclass(frozen=True)
class _Given:
    """What stands after a word's =: one value, or the list or range that is searched."""

    value: Any
    swept: bool = False


def _read(words: Sequence[str]) -> dict[str, _Given]:
    """Key -> what is given. Raises SpecError for a word, a key or a value that cannot be."""
    found: dict[str, _Given] = {}
    for word in words:
        if not OVERRIDE.match(word) or word.startswith("~"):
            raise SpecError(f"unexpected word {word!r}; a search takes one study, then key=value words")
        key = word.partition("=")[0].lstrip("+")
        known = (*GROUPS, *SETTINGS)
        if key not in known and not (key.partition(".")[0] in GROUPS and "." in key):
            raise SpecError(f"unknown key {key}{nearest(key, known)} (known: {', '.join(known)}, and keys of a group)")
        if key in found:
            raise SpecError(f"{key} is given twice")
        found[key] = _given(key, word)
    return found


def _given(key: str, word: str) -> _Given:
    """What Hydra's grammar reads; a condition or an objective may stand as it is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep
    from hydra.errors import HydraException

    text = word.partition("=")[2]
    if key in ("where", "objectives") and not text.startswith("["):
        text = text.strip().strip("'\"")
        parts = text.split(",") if key == "objectives" else [text]
        return _Given([part.strip() for part in parts] if text not in ("", "null") else [])
    try:
        parsed = OverridesParser.create().parse_override(word)
        value = parsed.value()
        if isinstance(value, IntervalSweep):
            return _Given(_interval(text, value), swept=True)
        if parsed.is_sweep_override():
            return _Given([_plain(v) for v in parsed.sweep_iterator()], swept=True)
        return _Given(_plain(value))
    except HydraException as problem:
        brief = str(problem).splitlines()[0].partition(" expecting ")[0]
        raise SpecError(f"{word!r} is not key=value as Hydra reads it: {brief}") from None


def _interval(text: str, found: Any) -> dict[str, Any]:
    """interval(256,4096) as a range: of whole numbers where no end has a dot; even in logs with tag(log, ...)."""
    whole = "." not in text
    low, high = (int(x) if whole and float(x).is_integer() else x for x in (found.start, found.end))
    return {"low": low, "high": high} | ({"log": True} if "log" in found.tags else {})


def _plain(value: Any) -> Any:
    """Hydra's parsed values as Python's: quoted strings lose their quotes."""
    return [_plain(v) for v in value] if isinstance(value, list) else getattr(value, "text", value)


def _check_hold(study: Study, keys: Sequence[str]) -> None:
    if study.hold is not None and study.hold_by in map(bare_key, keys):
        raise SpecError(
            f"hold rescales model.{study.hold_by}, so {study.hold_by} cannot be given too; drop one of them"
        )
