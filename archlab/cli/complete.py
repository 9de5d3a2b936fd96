"""What the shell offers at TAB: names of conf/ and of sweeps/, the user's own among them. Only file names are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import typer
from typer.core import TyperCommand

from archlab.errors import ArchlabError
from archlab.paths import data_dir, group_files

GROUPS = ("model", "workload", "hardware", "precision", "engine")
"""Groups of a sweep whose values are names: hardware=l4,rtx-4090."""


def model(incomplete: str) -> list[str]:
    """Presets."""
    return _beginning(incomplete, _names("model"))


def study(incomplete: str) -> list[str]:
    """Studies of sweeps/."""
    return _beginning(incomplete, sorted(path.stem for path in data_dir("sweeps").glob("*.yaml")))


def kv_format(incomplete: str) -> list[str]:
    """Formats that a cache can have."""
    from archlab.formats import FORMATS

    return _beginning(incomplete, FORMATS)


def listed(group: str) -> Callable[[str], list[str]]:
    """Names of a group, after a comma too: h100-sxm,rtx-4090."""

    def complete(incomplete: str) -> list[str]:
        given, comma, last = incomplete.rpartition(",")
        return [given + comma + name for name in _beginning(last, _names(group)) if name not in given.split(",")]

    return complete


workload, hardware, precision, engine = (listed(group) for group in GROUPS[1:])
"""Completers of the groups that options name."""


def setting(context: typer.Context, incomplete: str) -> list[str]:
    """Values of a sweep's groups: hardware=l4. Bash gives the word in three, `hardware`, `=` and `l`; others whole."""
    group, equals, value = incomplete.rpartition("=")
    if equals and group in GROUPS:
        return [f"{group}={name}" for name in listed(group)(value)]
    before = [*(context.params.get("words") or []), *context.args]
    if not incomplete and before and before[-1] in GROUPS:  # of a lone = click makes nothing
        return listed(before[-1])("")
    if len(before) > 1 and before[-1] == "=" and before[-2] in GROUPS:
        return listed(before[-2])(incomplete)
    return []


class Sweep(TyperCommand):
    """A command that hands on words which are no parameters of its own; their values are completed all the same."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The command's options, and values of a sweep's groups."""
        found = [SimpleNamespace(value=word, type="plain", help=None) for word in setting(ctx, incomplete)]
        return found or super().shell_complete(ctx, incomplete)


def _names(group: str) -> list[str]:
    try:
        return sorted(group_files(group))
    except ArchlabError:
        return []  # a file of the user's is in the way: commands say so, TAB does not


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
