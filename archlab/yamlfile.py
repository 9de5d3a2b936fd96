"""YAML read strictly: duplicate keys refused, every failure one sentence. Reads as Hydra does (1e-6 is a number)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from archlab.errors import SpecError

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class StrictLoader(_Base):
    """YAML 1.1, but a repeated key is an error, 1e-6 a float and 5:1 not a base-60 integer."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise SpecError(f"key {key!r} in line {key_node.start_mark.line + 1} must be a word")
        if key in seen:
            raise SpecError(f"key {key!r} is given twice, in lines {seen[key]} and {key_node.start_mark.line + 1}")
        seen[key] = key_node.start_mark.line + 1
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9]+|\.(?:inf|nan))$"
    ),
    list("-+0123456789."),
)


def parse(text: str, name: str) -> Any:
    """The document, or SpecError: one sentence that names `name` and the line."""
    try:
        return yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(problem, "problem", None) or "cannot be parsed"
        raise SpecError(f"{name} is not valid YAML{at}: {what}") from None
    except SpecError as problem:
        raise SpecError(f"{name}: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise SpecError(f"{name} is not valid YAML: {type(problem).__name__} in a value") from None


def read(path: Path) -> dict[str, Any]:
    """A file that holds one mapping; SpecError if it cannot be read or holds something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise SpecError(f"{path} cannot be read: {(problem.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not a text file in UTF-8") from None
    document = parse(text, str(path))
    if not isinstance(document, dict):
        raise SpecError(f"{path} must hold keys and values, not {type(document).__name__}")
    return document


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the file's name before the sentence of what is wrong in it."""
    try:
        yield
    except SpecError as problem:
        sentence = str(problem)
        raise SpecError(sentence if sentence.startswith(str(path)) else f"{path}: {sentence}") from None


def value(text: str, name: str) -> Any:
    """A value typed on the command line, read as YAML reads it: 8 is an int, [local, global] a list."""
    return parse(text, name)
