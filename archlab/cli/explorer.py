"""archlab explore: the page of sliders, for some models or for every decoder that archlab knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from archlab.errors import SpecError
from archlab.presets import load, models
from archlab.report.explorer import render_explorer
from archlab.spec import ModelSpec
from archlab.sweep.explorer import explorer_data

FIRST = "gemma-3-27b-text"
"""What the page of all models opens with."""


def write_explorer(words: Sequence[str], out: Path, say: Callable[[str], None]) -> Path:
    """The page of these models, the first of them shown; of none named, of all. Raises ArchlabError.

    A page `index.html` in a folder beside those of runs is one of a gallery, and leads back to the gallery's own.
    """
    specs = {word: load(word) for word in words} if words else _decoders()
    named: dict[str, str] = {}
    for word, spec in specs.items():
        if spec.name in named:
            raise SpecError(f"{word} and {named[spec.name]} are both called {spec.name}; the page needs two names")
        named[spec.name] = word
    first = next(iter(specs.values())).name if words else FIRST
    in_gallery = out.name == "index.html" and any(out.resolve().parent.parent.glob("*/run.json"))
    index = "../index.html" if in_gallery else ""
    return render_explorer(explorer_data(specs, first, say), out, index)


def _decoders() -> dict[str, ModelSpec]:
    found = {name: load(name) for name in models()}
    return {name: spec for name, spec in found.items() if spec.decodes}
