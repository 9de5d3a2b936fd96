"""A model YAML to edit: the keys of a model, each with the line of explanation that its field declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.blocks import OPTIONAL
from archlab.errors import SpecError
from archlab.schema import SPANS, STACKS, Node, kinds, node
from archlab.spec import ModelSpec

REQUIRED = ("attention", "mlp", "norm", "embedding", "head")
"""Sections that are written with their defaults, absent or not."""


def template(name: str, spec: ModelSpec) -> str:
    """The text of a file that describes `spec` under another name; archlab.load reads it back."""
    data = {**spec.data, "name": name, "source": f"started from {spec.name}"}
    data.pop("notes", None)
    lines = [f"# A model for archlab: {name}. Try: archlab describe {name}.yaml", ""]
    top = _place(data, ())
    lines += [_line(key, data[key], f.metadata["doc"]) for key, f in top.fields.items() if key in data]
    written = [s for s in top.sections if s in REQUIRED or s in kinds(data) or data.get(s) is not None]
    for section in written:
        lines += ["", *_section(data, (section,), data.get(section) or {})]
    absent = [section for section in (*OPTIONAL, SPANS, *STACKS) if section not in written]
    lines += ["", f"# Sections that a model may have besides: {', '.join(absent)}"]
    return "\n".join(lines) + "\n"


def write_template(path: Path, text: str) -> None:
    """Writes a new file; raises SpecError rather than replace one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{path} exists; choose another name or move it away") from None


def _section(data: Mapping[str, Any], path: tuple[str, ...], entry: Mapping[str, Any]) -> Iterator[str]:
    place, name, deep = _place(data, path), path[-1], len(path) - 1
    indent = "  " * deep
    kind = name in kinds(data)
    told = [key for key in entry if key in place.fields]
    below = [key for key in entry if key not in place.fields]
    head = f"{indent}{name}:" + (f"   # what the {name} layers change" if kind else "")
    yield head if told or below else f"{indent}# {name}:" if kind else f"{indent}{name}: {{}}"
    for key, field in place.fields.items():
        if key in entry:
            yield _line(f"{indent}  {key}", entry[key], field.metadata["doc"])
        elif not kind and deep == 0 and field.default is not MISSING and name in REQUIRED:
            yield _line(f"{indent}  # {key}", field.default, f"(default) {field.metadata['doc']}")
    for key in below:
        yield from _section(data, (*path, key), entry[key])


def _place(data: Mapping[str, Any], path: tuple[str, ...]) -> Node:
    place = node(data, path)
    assert place is not None, path  # the data are those of a spec that stands
    return place


def _line(key: str, value: Any, doc: str) -> str:
    return f"{key}: {_yaml(value)}".ljust(34) + f"  # {doc}"


def _yaml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = (
        f"{value:.1e}"
        if isinstance(value, float) and value < 1e-3
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    quoted = "'" + text.replace("'", "''") + "'"
    return quoted if isinstance(value, str) and not _reads_back(text) else text


def _reads_back(text: str) -> bool:
    try:
        return yamlfile.parse(f"[{text}]", "text") == [text] and ": " not in text and " #" not in text
    except SpecError:
        return False
