"""archlab explore: the page of sliders, for some models or for every decoder that archlab knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from archlab.presets import load, models
from archlab.report.explorer import render_explorer
from archlab.spec import ModelSpec
from archlab.sweep.explorer import explorer_data
from archlab.sweep.naming import check_names

FIRST = "gemma-3-27b-text"
"""What the page of all models opens with."""


def write_explorer(words: Sequence[str], out: Path, say: Callable[[str], None]) -> Path:
    """The page of these models, the first of them shown; of none named, of all. Raises ArchlabError.

    A page `index.html` in a folder beside those of runs is one of a gallery, and leads back to the gallery's own.
    """
    given = [(word, load(word)) for word in words]
    check_names((word, spec.name) for word, spec in given)
    specs = dict(given) or _decoders()
    first = given[0][1].name if given else FIRST
    in_gallery = out.name == "index.html" and any(out.resolve().parent.parent.glob("*/run.json"))
    index = "../index.html" if in_gallery else ""
    return render_explorer(explorer_data(specs, first, say), out, index)


def _decoders() -> dict[str, ModelSpec]:
    found = {name: load(name) for name in models()}
    return {name: spec for name, spec in found.items() if spec.decodes}
