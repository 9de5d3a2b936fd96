"""From a run folder to one HTML page that needs nothing else.

    archlab.report.render(Path("runs/attention_heads"))     # -> runs/attention_heads/report.html

The folder is all that a report knows: it imports no preset, no block, no analyzer and no torch. pandas, jinja2 and
plotly are imported when a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_FACE = {"render": "page", "load_run": "load", "Run": "load"}

if TYPE_CHECKING:
    from archlab.report.load import Run, load_run
    from archlab.report.page import render

__all__ = ["Run", "load_run", "render"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'archlab.report' has no attribute {name!r}")
    return getattr(import_module(f"archlab.report.{_FACE[name]}"), name)
