"""The choices of a picture that shows one state at a time of a table: only what there is a picture for is offered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlab import units
from archlab.report import metrics
from archlab.report.charts.choices import SAID
from archlab.report.load import Record
from archlab.report.parts import Switch
from archlab.report.points import Cast, Point

WORDS = {"point": "Of", "context": "At", **SAID}
"""Column -> the word before its choices."""

States = Mapping[str, Sequence[Record]]
"""State of the switches -> its rows."""


@dataclass(frozen=True)
class Menu:
    """A column of the table, and its values as (key, label)."""

    column: str
    options: tuple[tuple[str, str], ...]


def menus(cast: Cast, rows: Sequence[Record], columns: Sequence[str]) -> list[Menu]:
    """A menu for each column of which the rows have more than one value."""
    found = [Menu(column, tuple(_options(cast, rows, column))) for column in columns]
    return [menu for menu in found if len(menu.options) > 1]


def _options(cast: Cast, rows: Sequence[Record], column: str) -> Iterable[tuple[str, str]]:
    values = list(dict.fromkeys(row[column] for row in rows))
    if column == "context":
        return [(str(v), f"{units.show_tokens(v)} tokens") for v in sorted(values)]
    if column == "workload":
        labels = {v: metrics.work_words(cast.run, v) for v in metrics.by_reach(cast.run) if v in values}
        return [(v, label if len({*labels.values()}) == len(labels) else v) for v, label in labels.items()]
    if column == "hardware":
        return [(v, metrics.device_title(cast.run, v)) for v in values]
    if column == "point":
        return [(str(p.index), p.tag) for p in cast.wide.ok if p.name in values]
    return [(str(v), str(v)) for v in values]


def states(cast: Cast, rows: Sequence[Record], found: Sequence[Menu]) -> dict[str, list[Record]]:
    """The rows of each state, in the order of the menus."""
    names = {p.name: p for p in cast.everyone}
    by: dict[str, list[Record]] = {}
    for row in rows:
        by.setdefault("/".join(_key(names, row, menu.column) for menu in found), []).append(row)
    ordered = ("/".join(keys) for keys in itertools.product(*([key for key, _ in m.options] for m in found)))
    return {state: by[state] for state in ordered if state in by}


def _key(names: Mapping[str, Point], row: Record, column: str) -> str:
    return str(names[row["point"]].index) if column == "point" else str(row[column])


def switches(found: Sequence[Menu], on: str) -> tuple[Switch, ...]:
    """The menus as switches, with this state chosen. Names of points are long: theirs is a menu always."""
    chosen = _split(found, on)
    return tuple(
        Switch(WORDS[menu.column], menu.options, key, menu.column == "point")
        for menu, key in zip(found, chosen, strict=True)
    )


def _split(found: Sequence[Menu], on: str) -> list[str]:
    """The key of each menu in a state."""
    keys = itertools.product(*([key for key, _ in menu.options] for menu in found))
    return next((list(state) for state in keys if "/".join(state) == on), [menu.options[0][0] for menu in found])


def first(cast: Cast, made: States, good: Callable[[Sequence[Record]], Any] = bool) -> str:
    """The state to begin with: the first that is good, of the released shape before all others; else the first."""
    released = {p.name for p in cast.wide.ok if p.released}
    able = [state for state, rows in made.items() if good(rows)] or list(made)
    return next((state for state in able if made[state][0]["point"] in released), able[0])


def heads(cast: Cast, found: Sequence[Menu]) -> list[tuple[str, Mapping[str, str]]]:
    """Of each menu but that of the points: the name of a column, and what its values are called."""
    return [(menu.column, dict(menu.options)) for menu in found if menu.column != "point"]
