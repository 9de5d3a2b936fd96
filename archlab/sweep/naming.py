"""Models go by names in a table, a page and a run: two of one name would be one."""

from __future__ import annotations

from collections.abc import Iterable

from archlab.errors import SpecError


def check_names(given: Iterable[tuple[str, str]]) -> None:
    """Raises SpecError for the first two models of one name; a pair is the word a model was given by, and its name."""
    found: dict[str, str] = {}
    for word, name in given:
        if found.get(name) == word:
            raise SpecError(f"{word} is given twice; each model needs a name of its own")
        if name in found:
            raise SpecError(f"{found[name]} and {word} are both called {name}; each model needs a name of its own")
        found[name] = word
