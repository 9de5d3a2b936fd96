"""What models are called in a table, a page and a run: two of one name would be one.

A model is called by its `name:`, which is that of its file where it says none; a preset's is its file's always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from archlab.errors import SpecError
from archlab.paths import group_files
from archlab.presets import is_path, load, read
from archlab.sweep.provenance import hash_of

ONE_WORD = re.compile(r"(?!(?:null|true|false|inf|nan)$)[a-z][a-z0-9_.-]{0,99}", re.IGNORECASE)
"""Names that Hydra's grammar reads as one word, and that every disk takes as a file's."""

REFERENCE = re.compile(r"(\\*)\$\{")
ESCAPED = re.compile(r"(\\*)\1\\\$\{")


def check_names(given: Iterable[tuple[str, str]]) -> None:
    """Raises SpecError for the first two models of one name; a pair is the word a model was given by, and its name."""
    found: dict[str, str] = {}
    for word, name in given:
        if found.get(name) == word:
            raise SpecError(f"{word} is given twice; each model needs a name of its own")
        if name in found:
            raise SpecError(f"{found[name]} and {word} are both called {name}; each model needs a name of its own")
        found[name] = word


def called(word: str) -> str:
    """The name of the model that a word gives, checked or not. Raises ArchlabError where there is none."""
    return str(read(word).get("name", word))


def model_files(words: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """(what Hydra calls each model, the keys of those given by path under that name). Raises ArchlabError.

    Hydra finds a model by the name of a file, so one given by path may not have a known model's.
    """
    specs = {word: load(word) for word in words if is_path(word)}
    names = {word: specs[word].name if word in specs else word for word in words}
    check_names((word, names[word]) for word in words)
    for word in specs:
        if names[word] in group_files("model"):
            raise SpecError(f"{word} is called {names[word]}, as a model that is there already; change its name")
    choices = {word: choice_of(names[word]) if word in specs else word for word in words}
    return [choices[word] for word in words], {choices[word]: dict(spec.data) for word, spec in specs.items()}


def escaped(keys: Any) -> Any:
    """A model's keys for a file that Hydra reads: a text with ${ in it stays that text, and refers to nothing."""
    return _texts(keys, lambda text: REFERENCE.sub(r"\1\1\\${", text))


def literal(keys: Any) -> Any:
    """What was escaped."""
    return _texts(keys, lambda text: ESCAPED.sub(r"\1${", text))


def _texts(value: Any, changed: Callable[[str], str]) -> Any:
    """A tree of plain data, each of its texts changed."""
    if isinstance(value, Mapping):
        return {key: _texts(entry, changed) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(entry, changed) for entry in value]
    return changed(value) if isinstance(value, str) else value


def choice_of(name: str) -> str:
    """What Hydra calls a model given by path: its name, or one made from that where Hydra could not read it."""
    return name if ONE_WORD.fullmatch(name) else f"model-{hash_of(name)[:12]}"
