"""What the API raises for bad input, and how a misspelling is met."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchlabError(Exception):
    """Bad input. The message is one sentence: the value, the rule, the nearest right spelling."""


class SpecError(ArchlabError):
    """A model, workload, device or precision that breaks a rule."""


class UnknownNameError(ArchlabError):
    """A name (model, key, device, study ...) that is not there."""


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' when something close is known, in small letters or capitals, else ''."""
    found = closest(word, known)
    return f"; did you mean {found!r}?" if found else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is close to a word, if one is."""
    small = {name.lower(): name for name in map(str, known)}
    close = difflib.get_close_matches(str(word).lower(), list(small), n=1, cutoff=0.55)
    return small[close[0]] if close else None
