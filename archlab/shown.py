"""What shows itself as a table or a drawing in a notebook."""

from __future__ import annotations

from importlib import import_module


class Shown:
    """A model or a result that a notebook displays as HTML; what makes the markup is imported only then."""

    def _repr_html_(self) -> str:
        made: str = import_module("archlab.notebook").html(self)
        return made
