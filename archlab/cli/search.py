"""archlab search: a study's front on the screen."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archlab.cli.screen import print_json, say, table
from archlab.sweep.results import show_axis
from archlab.sweep.search import Found, search
from archlab.sweep.search_words import read_words, spoken
from archlab.sweep.where_units import measured_in
from archlab.units import show_bytes, show_count, show_seconds

MOST_ROWS = 20


def run_words(study: str, words: Sequence[str], options: Mapping[str, Any], out: Path | None, json: bool) -> None:
    """Searches, and says what was found; exit code 1 where no point satisfies the conditions."""
    asked = read_words(study, words, options)
    found = search(asked, out, spoken(asked, {**options, "out": out}), _progress())
    if json:
        print_json({**found.document, "folder": str(found.folder)})
    else:
        say(f"all points: {', '.join(found.document['place'].values())}")
        print(screen(found))
        say(f"results: {found.folder}   go on: {found.document['provenance']['command']}")
    if not found.front:
        raise SystemExit(1)


def _progress() -> Any:
    """A line that counts on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda done, of: None

    def count(done: int, of: int) -> None:
        print(f"\r{done} of {of} trials", end="\n" if done >= of else "", file=sys.stderr, flush=True)

    return count


def screen(found: Found) -> str:
    """The front, at most 20 rows of it, the base beside it, and a sentence."""
    lines = [front_table(found)] if found.front else []
    hidden = len(found.front) - MOST_ROWS
    lines += [f"... and {hidden} more in {found.folder / 'trials.parquet'}"] if hidden > 0 else []
    return "\n".join([*lines, *_why_none(found), statement(found.document)])


def statement(told: Mapping[str, Any]) -> str:
    """'200 trials, 180 feasible, 12 on the front, 3.1 seconds'."""
    said = (
        f"{told['trials']} trials, {told['feasible']} feasible, {len(told['best'])} on the front, "
        f"{told['seconds']:.1f} seconds"
    )
    return said + ("; every point of the space was tried" if told["whole"] else "")


def front_table(found: Found) -> str:
    """A row a point: its number, the values of the space, the objectives; then the base as it is released."""
    told, keys = found.document, list(found.document["space"])
    senses = {o["name"]: o["sense"] for o in told["objectives"]}
    numbers = [name for name in senses if name not in keys]
    head = ["trial", *(_short(k, senses.get(k)) for k in keys), *(f"{senses[name]} {name}" for name in numbers)]
    rows = [
        [f"{row['number']}{' (base)' if row['is_base'] else ''}", *(_shown(k, row[k]) for k in keys)]
        + [show(name, row[name]) for name in numbers]
        for row in told["best"][:MOST_ROWS]
    ]
    if told["base"] is not None and not any(row["is_base"] for row in told["best"]):
        rows.append(
            ["base", *(str(told["base"].get(k, "")) for k in keys), *(show(n, told["base"][n]) for n in numbers)]
        )
    return table(head, rows)


def show(name: str, value: Any) -> str:
    """A value in the unit that its column's name says."""
    if value is None or isinstance(value, str | bool):
        return "" if value is None else str(value)
    unit = measured_in(name)
    if unit == "bytes":
        return show_bytes(value)
    if unit == "seconds":
        return show_seconds(value)
    return show_count(value) if value >= 10**6 else f"{value:g}"


def _shown(key: str, value: Any) -> str:
    """A value of the space as it is written; 128k of tokens, a drawn number to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return show_axis(value) if measured_in(key) == "tokens" else str(value)


def _short(key: str, sense: str | None) -> str:
    bare = key.removeprefix("model.").removeprefix("workload.")
    return bare if sense is None else f"{sense} {bare}"


def _why_none(found: Found) -> list[str]:
    """Where nothing is feasible: the first reasons."""
    if found.front:
        return []
    return ["no trial is feasible:", *(f"  {reason}" for reason in found.trials["reason"].dropna().unique()[:3])]
