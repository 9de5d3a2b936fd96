"""The API reference: pages that pdoc makes of docstrings, laid out for Markdown first."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pdoc.doc
import pdoc.render

FACE = ("archlab", "archlab.measure", "archlab.hf", "archlab.errors")
"""What programs rely on."""

INSIDE = (
    "archlab.analyzers.params", "archlab.analyzers.flops", "archlab.analyzers.kv_cache",
    "archlab.analyzers.activations",
    "archlab.analyzers.memory", "archlab.analyzers.fit", "archlab.analyzers.latency", "archlab.analyzers.training",
    "archlab.sweep.points", "archlab.sweep.hold", "archlab.sweep.sensitivity", "archlab.sweep.nearest_model",
    "archlab.parallel", "archlab.calibration", "archlab.algebra", "archlab.rows", "archlab.fields", "archlab.layers",
    "archlab.workload", "archlab.spec", "archlab.ledger",
    "archlab.items", "archlab.blocks", "archlab.formats", "archlab.precision", "archlab.hardware", "archlab.config",
    "archlab.engines.base",
)  # fmt: skip
"""What the face returns, and what an extension of archlab is written with."""

ROW = re.compile(r"^(?P<name>[A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*) {2,}(?P<words>\S.*)$")
"""A line of a docstring's table: `grid     key -> values`."""


def write_api(folder: Path) -> list[Path]:
    """A page a module, and a search index. Returns the pages."""
    pdoc.render.configure(docformat="markdown", search=True, template_directory=Path(__file__).parent / "pdoc")
    modules = {name: _module(name) for name in (*FACE, *INSIDE)}
    pages = {folder / f"{name.replace('.', '/')}.html": module for name, module in modules.items()}
    for path, module in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pdoc.render.html_module(module, modules))
    (folder / "index.html").write_text(pdoc.render.html_index(modules))
    (folder / "search.js").write_text(pdoc.render.search_index(modules))
    return [*pages]


def _module(name: str) -> pdoc.doc.Module:
    """A module's documentation; names that it imports when they are used are imported, so that pdoc sees them."""
    found = import_module(name)
    if "__getattr__" in vars(found):
        public = [n for n in found.__dir__() if not n.startswith("__")]
        vars(found).update({n: getattr(found, n) for n in public})
        found.__all__ = public  # type: ignore[attr-defined]
    module = pdoc.doc.Module(found)
    for member in walk(module):
        if isinstance(member, pdoc.doc.Class):
            _say_fields(member)
    for member in (module, *walk(module)):
        member.docstring = laid_out(member.docstring)
    return module


def walk(of: pdoc.doc.Namespace) -> Iterator[pdoc.doc.Doc]:
    """What a module or a class has, and what that has."""
    for member in of.own_members:
        yield member
        if isinstance(member, pdoc.doc.Class):
            yield from walk(member)


def _say_fields(of: pdoc.doc.Class) -> None:
    """A field that is declared with a line of explanation has it as its docstring."""
    if not dataclasses.is_dataclass(of.obj):
        return
    for field in dataclasses.fields(of.obj):
        member = of.members.get(field.name)
        if member is not None and not member.docstring:
            member.docstring = field.metadata.get("doc", "")


def laid_out(docstring: str) -> str:
    """Markdown of a docstring: its tables as lists, what it raises apart, signs of Markdown as they are."""
    lines: list[str] = []
    inside = False  # a table's row may go on, indented
    for line in inspect.cleandoc(docstring).splitlines():
        row = ROW.match(line)
        if row:
            lines += [] if inside else [""]
            named = ", ".join(f"**`{name}`**" for name in row["name"].split(", "))
            lines.append(f"- {named}  {_plain(row['words'])}")
        elif inside and line.startswith("    "):
            lines[-1] += " " + _plain(line.strip())
        else:
            apart = inside or line.startswith("Raises ")
            lines += ([""] if apart else []) + [line if line.startswith(("    ", ">>>")) else _plain(line)]
        inside = bool(row) or (inside and line.startswith("    "))
    return "\n".join(lines)


def _plain(line: str) -> str:
    """Signs that Markdown or HTML would take for its own, outside of `code`."""
    parts = line.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = parts[i].replace("<", "&lt;").replace("*", "\\*")
    return "`".join(parts)
