"""What the same text costs: a larger vocabulary makes a token dearer, and a text has fewer of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab.report import columns, words
from archlab.report.charts import choices
from archlab.report.charts.frame import drawing, hover, log_axis, safe
from archlab.report.columns import CHARACTER, Quantity, quantity
from archlab.report.load import Record
from archlab.report.palette import CHROME
from archlab.report.parts import CALCULATED, Card, Cell, Column, Figure, Row, Swatch, Switch, Table
from archlab.report.points import Cast, Point

RATE = "tokens_per_character"
VOCAB = ("model.vocab_size", "vocab_size")
MOST = 5
"""Costs that can be chosen."""
ORDER = ("decode_bound", "decode_predicted", "flops_decode", "kv_cache", "prefill_bound", "flops_prefill")

NOTE = (
    "Tokens of a character were counted on English web text, with tokenizers of each size (Tao et al., NeurIPS 2024, "
    "arXiv:2407.13623); other languages and code differ. A vocabulary beyond those that were counted is not drawn."
)

Known = Sequence[tuple[Point, Record]]
Entry = tuple[Point, Record, float | None, str]
"""A point, its row, its height, and the same in words."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no costs per character, or one vocabulary alone."""
    costs = _costs(cast)
    made = {c: found for c in costs if (found := _everywhere(cast, c))}
    if not made:
        return None
    several = len(made) > 1
    states = {"/".join([*[c] * several, *[k] * bool(k)]): (c, rows) for c, of in made.items() for k, rows in of.items()}
    options = tuple((c, _of(c).name) for c in made)
    first = next(iter(states.values()))
    return Card(
        "A token beside a character", columns.tags(_of(c) for c in made), _said(*first),
        figures=tuple(_figures(states)), small=True, legend=_legend(cast),
        numbers=_numbers(cast, list(made)), notes=(NOTE,),
        switches=(
            *[Switch("Of", options, options[0][0])] * several,
            *choices.switches(cast.run, True, next(iter(made.values()))),
        ),
    )  # fmt: skip


def _figures(states: Mapping[str, tuple[str, Known]]) -> Iterator[Figure]:
    """Cost of a token, cost of a character, and what lies between them: tokens of a character."""
    about = "against the vocabulary; the numbers are in the table below."
    for per in _PER:
        drawn = {state: _drawing(column, rows, per) for state, (column, rows) in states.items()}
        yield Figure(f"{per}-cost", f"Cost of a {per}", f"Cost of a {per} {about}", drawn)
    rates = {state: _rates(rows) for state, (_, rows) in states.items()}
    yield Figure("token-rate", "Tokens a character", f"Tokens a character {about}", rates)


def _everywhere(cast: Cast, column: str) -> dict[str, Known]:
    """State of the switches -> the points that have the number there."""
    return choices.variants(cast.run, True, lambda at: _known(cast, column, at) or None)


def _costs(cast: Cast) -> list[str]:
    """The columns of costs of a character, what a reader asks first at the front."""
    names = [str(c) for c in cast.run.points.columns if CHARACTER in str(c) and c != RATE]
    rank = {c: next((i for i, start in enumerate(ORDER) if c.startswith(start)), len(ORDER)) for c in names}
    return sorted(names, key=lambda c: rank[c])[:MOST]


def _of(column: str) -> Quantity:
    """The quantity without 'a character': the picture says of what it is."""
    return quantity(column.replace(CHARACTER, ""))


def vocab(row: Record) -> int | None:
    """Entries of the vocabulary of a row."""
    return next((int(row[key]) for key in VOCAB if row.get(key)), None)


def _known(cast: Cast, column: str, at: choices.At) -> Known:
    """The points that have the number there, if they are of two vocabularies or more."""
    found = []
    for point in cast.ok:
        row = cast.run.row(point.name, status="ok", **at)
        if row and row.get(column) and row.get(RATE) and vocab(row):
            found.append((point, row))
    return found if len({vocab(row) for _, row in found}) > 1 else []


def _value(column: str, row: Record, per: str) -> float:
    value = float(row[column])
    return value if per == "character" else value / float(row[RATE])


# ---------------------------------------------------------------- the pictures


def _drawing(column: str, rows: Known, per: str) -> dict[str, Any]:
    of = quantity(column)
    values = [_value(column, row, per) for _, row in rows]
    scale = of.scale(values)
    said = [(p, row, scale.of(v), f"{of.say(v)} a {per}") for (p, row), v in zip(rows, values, strict=True)]
    return _lines(said, f"{scale.unit} a {per}".strip(), of.tag)


def _rates(rows: Known) -> dict[str, Any]:
    said = [(p, row, words.significant(row[RATE], 4), f"{row[RATE]:.3f} tokens a character") for p, row in rows]
    return _lines(said, "tokens a character", CALCULATED)


def _lines(said: Sequence[Entry], title: str, tag: str) -> dict[str, Any]:
    bases: dict[str, list[Entry]] = {}
    for entry in said:
        bases.setdefault(entry[0].base, []).append(entry)
    sizes = sorted({vocab(row) or 1 for _, row, *_ in said})
    traces = [_line(sorted(mine, key=lambda e: vocab(e[1]) or 0), tag) for mine in bases.values()]
    rings = [e for e in said if e[0].released]
    ticks = {"tickvals": sizes, "ticktext": [safe(words.about(s)) for s in sizes]} if len(sizes) <= 6 else {}
    across = log_axis(sizes[0] / 1.12, sizes[-1] * 1.12, "Vocabulary (entries, log scale)") | ticks
    layout = {
        "xaxis": across, "yaxis": {"rangemode": "tozero", "nticks": 5, "title": {"text": safe(title)}},
        "margin": {"l": 66, "r": 14, "t": 12, "b": 50},
    }  # fmt: skip
    ring = go.Scatter(
        x=[vocab(r) for _, r, *_ in rings], y=[y for *_, y, _ in rings], mode="markers", hoverinfo="skip",
        meta=[p.index for p, *_ in rings], cliponaxis=False,
        marker={"size": 16, "symbol": "circle-open", "color": CHROME["ink"][0], "line": {"width": 1.6}},
    )  # fmt: skip
    return drawing([*traces, ring], layout, height=240)


def _line(mine: Sequence[Entry], tag: str) -> Any:
    look = mine[-1][0].look
    return go.Scatter(
        x=[vocab(row) for _, row, *_ in mine], y=[y for *_, y, _ in mine], mode="lines+markers", cliponaxis=False,
        meta=[p.index for p, *_ in mine], hoverinfo="text",
        line={"color": look.line[0], "width": 2.0, "dash": look.dash},
        marker={"size": 8, "symbol": look.symbol, "color": [p.look.line[0] for p, *_ in mine]},
        hovertext=[hover(p.short, text, tag) for p, _, _, text in mine],
    )  # fmt: skip


def _legend(cast: Cast) -> tuple[Swatch, ...]:
    last = {p.base: p for p in cast.ok}
    return tuple(Swatch(b, f"point-{p.index}", p.look) for b, p in last.items()) if len(last) > 1 else ()


# ---------------------------------------------------------------- in words and numbers


def _said(column: str, rows: Known) -> str:
    """'From 32,768 to 262,144 entries the decode step rises by 27 % for a token and falls by 5 % for a character.'"""
    said = []
    for base in dict.fromkeys(p.base for p, _ in rows):
        mine = sorted((row for p, row in rows if p.base == base), key=lambda r: vocab(r) or 0)
        if len(mine) > 1:
            said.append((base, mine[0], mine[-1]))
    several = len(said) > 1
    texts = []
    for base, first, last in said[:3]:
        ends = f"from {vocab(first):,} to {vocab(last):,} entries"
        moves = [f"{_change(_value(column, first, per), _value(column, last, per))} for a {per}" for per in _PER]
        if moves[0].split(" ")[0] == moves[1].split(" ")[0]:
            moves[1] = moves[1].partition(" ")[2]
        whose = f" of {base}" if several else ""
        texts.append(words.sentence(f"{ends} the {_of(column).noun}{whose} {words.listing(moves)}") + ".")
    return " ".join(texts)


_PER = ("token", "character")


def _change(a: float, b: float) -> str:
    if abs(b / a - 1) < 0.0005:
        return "stays as it is"
    return f"{'rises' if b > a else 'falls'} by {words.percent(b / a - 1)}"


def _numbers(cast: Cast, costs: Sequence[str]) -> Table:
    """A row a point: its vocabulary, tokens a character, and each cost of a token and of a character."""
    names, on = choices.names(cast.run, True), choices.variants(cast.run, True, lambda at: at)
    rows = [(p, row) for p in cast.ok if (row := cast.run.row(p.name, status="ok")) and vocab(row) and row.get(RATE)]
    heads = [Column("vocab_size", "Vocabulary"), Column(RATE, "Tokens", "a character")]
    cells = {p: [Cell(f"{vocab(r):,}", vocab(r)), Cell(f"{r[RATE]:.3f}", r[RATE])] for p, r in rows}
    for column, (state, at), per in itertools.product(costs[:3], on.items(), _PER):
        of, whole = quantity(column), {p: cast.run.row(p.name, status="ok", **at) or {} for p, _ in rows}
        known = {p: _value(column, r, per) for p, r in whole.items() if r.get(column) and r.get(RATE)}
        scale, group = of.scale(known.values()), f"{_of(column).name} {names[state]}".strip()
        heads.append(Column(f"{column} {per} {state}".strip(), f"a {per}", scale.unit, of.tag, group=group))
        for p, _ in rows:
            cells[p].append(Cell(scale.show(known.get(p)), known.get(p)))
    made = tuple(Row(p.tag, tuple(cells[p]), p) for p, _ in rows)
    return Table("character-numbers", "Costs of a token and of a character", "Point", tuple(heads), made)
