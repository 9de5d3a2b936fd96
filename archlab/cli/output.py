"""What a command found, in the form that was asked for: its screen, one JSON document, or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archlab.cli.screen import print_json
from archlab.errors import SpecError


def show(facts: Callable[[], Any], screen: Callable[[], str], as_json: bool, as_csv: bool) -> None:
    """Prints the screen, or the facts behind it as JSON or as CSV. Raises SpecError where both are asked for."""
    if as_json and as_csv:
        raise SpecError("--json and --csv are two forms of one answer; give one of them")
    if as_json:
        print_json(facts())
    elif as_csv:
        print_csv(facts())
    else:
        print(screen())


def print_csv(document: Any) -> None:
    """A record a row, on stdout; a document that is one record is one row."""
    records = [flat(record) for record in (document if isinstance(document, list) else [document])]
    heads = list(dict.fromkeys(key for record in records for key in record))
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(heads)
    lines.writerows([_cell(record.get(key)) for key in heads] for record in records)


def flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Path of keys -> value: {'params_by_part': {'mlp': 1}} is {'params_by_part.mlp': 1}.

    A list of records goes by what its records are called, the value of their first key ('at_context.8192.context'), of
    two where that tells them apart, else by number. A list of plain values is one value.
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        elif _holds_records(value):
            for name, inner in _named(value):
                found |= flat(inner, f"{path}.{name}.")
        else:
            found[path] = value
    return found


def _holds_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _named(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    for n in (1, 2):
        names = [".".join(str(v) for v in list(r.values())[:n]) for r in records]
        if len(set(names)) == len(names):
            return list(zip(names, records, strict=True))
    return [(str(i), record) for i, record in enumerate(records)]


def _cell(value: Any) -> str:
    """As JSON writes it: true, 0.5; text as it is, nothing for null, plain values of a list apart by spaces."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(_cell, value))
    return json.dumps(value, allow_nan=False) if isinstance(value, bool | int | float) else str(value)
