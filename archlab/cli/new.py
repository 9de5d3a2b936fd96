"""A model YAML to edit: the keys of a model, each with the line of explanation that its field declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.blocks import SECTIONS
from archlab.errors import SpecError
from archlab.schema import expand_pattern
from archlab.spec import ModelSpec, fields_of


def template(name: str, spec: ModelSpec) -> str:
    """The text of a file that describes `spec` under another name; archlab.load reads it back."""
    data = {**spec.data, "name": name, "source": f"started from {spec.name}"}
    data.pop("notes", None)
    lines = [f"# A model for archlab: {name}. Try: archlab describe {name}.yaml", ""]
    for key, field in fields_of(ModelSpec).items():
        if key in data:
            lines += [_line(key, data[key], field.metadata["doc"])]
    for section in [*SECTIONS, *dict.fromkeys(expand_pattern(data["pattern"]))]:
        lines += ["", *_section(section, data.get(section, {}))]
    return "\n".join(lines) + "\n"


def write_template(path: Path, text: str) -> None:
    """Writes a new file; raises SpecError rather than replace one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{path} exists; choose another name or move it away") from None


def _section(name: str, entry: Mapping[str, Any]) -> list[str]:
    kind = name not in SECTIONS
    head = f"{name}:" + (f"   # what the {name} layers change" if kind else "")
    lines = [head if entry or not kind else f"# {head}"]
    for key, field in fields_of(SECTIONS.get(name, SECTIONS["attention"])).items():
        if key in entry:
            lines.append(_line(f"  {key}", entry[key], field.metadata["doc"]))
        elif not kind and field.default is not MISSING:
            lines.append(_line(f"  # {key}", field.default, f"(default) {field.metadata['doc']}"))
    if not kind and not entry:
        lines[0] = f"{name}: {{}}"
    return lines


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
