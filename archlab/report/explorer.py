"""The explorer: one page of sliders that computes a model's numbers in the browser, beside a pinned baseline.

It knows what it is given (archlab.sweep.explorer): sizes, patterns, devices, and the formulas as JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from archlab.report import palette
from archlab.report.charts.frame import FONT
from archlab.report.page import as_json, environment, packed, script, text, write

SCRIPTS = (
    "start", "theme", "files", "explorer/state", "explorer/compute", "explorer/say", "explorer/controls",
    "explorer/bars", "explorer/lines", "explorer/numbers", "explorer/copy", "explorer/address", "explorer/main",
)  # fmt: skip
"""The page's script, in the order in which its files are joined."""


def render_explorer(data: Mapping[str, Any], out: Path, index: str = "") -> Path:
    """Writes the page; `index` is the address of the page over it, where there is one. Raises ArchlabError."""
    write(out, explorer_html(data, index))
    return out


def explorer_html(data: Mapping[str, Any], index: str = "") -> str:
    """The page as text. The same data give the same bytes."""
    plain = {k: v for k, v in data.items() if k not in ("models", "sources", "helpers")}
    return environment().get_template("explorer/page.html").render(
        css=Markup(text("page.css") + text("explorer/page.css")),
        colours=Markup(palette.style(FONT, {})),
        script=Markup(script(SCRIPTS)), data=Markup(as_json(plain)),
        programs=Markup(packed(_programs(data))), families=_families(data["models"]), index=index,
        version=data["version"],
    )  # fmt: skip


def _families(models: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Family -> the names of its models, both in their order."""
    found: dict[str, list[str]] = {}
    for model in models:
        found.setdefault(model["family"], []).append(model["name"])
    return found


def _programs(data: Mapping[str, Any]) -> str:
    """The script that the page inflates and runs: the models, and a function for each distinct set of formulas."""
    functions = ",\n".join(data["sources"])
    return f"{data['helpers']}\nreturn {{ models: {as_json(data['models'])}, functions: [\n{functions}\n] }};"
