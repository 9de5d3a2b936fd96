"""What the same text costs: a larger vocabulary makes a token dearer, and a text has fewer of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no costs per character, or one vocabulary alone."""
    costs = _costs(cast)
    made = {c: choices.variants(cast.run, True, lambda at, c=c: _known(cast, c, at) or None) for c in costs}
    made = {c: found for c, found in made.items() if found}
    if not made:
        return None
    shown = [_of(c) for c in made]
    many = len(made) > 1
    states = {"/".join([*[c] * many, *[k] * bool(k)]): (c, rows) for c, of in made.items() for k, rows in of.items()}
    whole, text = (
        {key: _drawing(cast, c, rows, per) for key, (c, rows) in states.items()} for per in ("token", "character")
    )
    first = next(iter(states.values()))
    rate = {"": _rates(cast, first[1])} if not many and len(states) == 1 else {k: _rates(cast, r) for k, (_, r) in states.items()}
    options = tuple((c, q.name) for c, q in zip(made, shown, strict=True))
    return Card(
        "A token beside a character", (*columns.tags(shown),), _said(cast, *first),
        figures=(
            Figure("token-cost", "Cost of a token", "Cost of a token against the vocabulary; numbers below.", whole),
            Figure("character-cost", "Cost of a character", "Cost of a character against the vocabulary; numbers below.", text),
            Figure("token-rate", "Tokens a character", "Tokens a character against the vocabulary; numbers below.", rate),
        ),
        small=True, switches=(*[Switch("Of", options, options[0][0])] * many, *_where(cast, made)),
        legend=_legend(cast), numbers=_numbers(cast, list(made)), notes=(NOTE,),
    )  # fmt: skip


def _costs(cast: Cast) -> list[str]:
    """The columns of costs of a character, what a reader asks first at the front."""
    names = [str(c) for c in cast.run.points.columns if CHARACTER in str(c) and c != RATE]
    rank = {c: next((i for i, start in enumerate(ORDER) if c.startswith(start)), len(ORDER)) for c in names}
    return sorted(names, key=lambda c: rank[c])[:MOST]


def _of(column: str) -> Quantity:
    """The quantity without 'a character': the picture says of what it is."""
    return quantity(column.replace(CHARACTER, ""))


def _where(cast: Cast, made: Mapping[str, Mapping[str, Known]]) -> tuple[Switch, ...]:
    return choices.switches(cast.run, True, next(iter(made.values())))


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


def _drawing(cast: Cast, column: str, rows: Known, per: str) -> dict[str, Any]:
    of = quantity(column)
    values = [_value(column, row, per) for _, row in rows]
    scale = of.scale(values)
    said = [(p, row, scale.of(v), f"{of.say(v)} a {per}") for (p, row), v in zip(rows, values, strict=True)]
    return _lines(cast, said, f"{scale.unit} a {per}".strip(), of.tag)


def _rates(cast: Cast, rows: Known) -> dict[str, Any]:
    said = [(p, row, words.significant(row[RATE], 4), f"{row[RATE]:.3f} tokens a character") for p, row in rows]
    return _lines(cast, said, "tokens a character", CALCULATED)


def _lines(cast: Cast, said: Sequence[tuple[Point, Record, float | None, str]], title: str, tag: str) -> dict[str, Any]:
    bases: dict[str, list[tuple[Point, Record, float | None, str]]] = {}
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


def _line(mine: Sequence[tuple[Point, Record, float | None, str]], tag: str) -> Any:
    look = mine[-1][0].look
    return go.Scatter(
        x=[vocab(row) for _, row, *_ in mine], y=[y for *_, y, _ in mine], mode="lines+markers", cliponaxis=False,
        meta=[p.index for p, *_ in mine], hoverinfo="text", line={"color": look.line[0], "width": 2.0, "dash": look.dash},
        marker={"size": 8, "symbol": look.symbol, "color": [p.look.line[0] for p, *_ in mine]},
        hovertext=[hover(p.short, text, tag) for p, _, _, text in mine],
    )  # fmt: skip


def _legend(cast: Cast) -> tuple[Swatch, ...]:
    last = {p.base: p for p in cast.ok}
    return tuple(Swatch(b, f"point-{p.index}", p.look) for b, p in last.items()) if len(last) > 1 else ()


# ---------------------------------------------------------------- in words and numbers


def _said(cast: Cast, column: str, rows: Known) -> str:
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
        moves = [f"{_change(_value(column, first, per), _value(column, last, per))} a {per}" for per in _PER]
        whose = f" of {base}" if several else ""
        texts.append(words.sentence(f"{ends} the {_of(column).noun}{whose} {words.listing(moves)}") + ".")
    return " ".join(texts)


_PER = ("token", "character")


def _change(a: float, b: float) -> str:
    if abs(b / a - 1) < 0.0005:
        return "stays as it is for"
    return f"{'rises' if b > a else 'falls'} by {words.percent(b / a - 1)} for"


def _numbers(cast: Cast, costs: Sequence[str]) -> Table:
    """A row a point: its vocabulary, tokens a character, and each cost of a token and of a character."""
    names, on = choices.names(cast.run, True), choices.variants(cast.run, True, lambda at: at)
    rows = [(p, row) for p in cast.ok if (row := cast.run.row(p.name, status="ok")) and vocab(row) and row.get(RATE)]
    heads = [Column("vocab_size", "Vocabulary"), Column(RATE, "Tokens", "a character")]
    cells = {p: [Cell(f"{vocab(r):,}", vocab(r)), Cell(f"{r[RATE]:.3f}", r[RATE])] for p, r in rows}
    for column in costs[:3]:
        for state, at in on.items():
            known = {p: cast.run.row(p.name, status="ok", **at) or {} for p, _ in rows}
            for per in _PER:
                values = {p: _value(column, r, per) if r.get(column) and r.get(RATE) else None for p, r in known.items()}
                scale = quantity(column).scale(values.values())
                head = f"{_of(column).name} {names[state]}".strip()
                heads.append(Column(f"{column} {per} {state}".strip(), f"a {per}", scale.unit, quantity(column).tag, group=head))
                for p, _ in rows:
                    cells[p].append(Cell(scale.show(values[p]), values[p]))
    made = tuple(Row(p.tag, tuple(cells[p]), p) for p, _ in rows)
    return Table("character-numbers", "Costs of a token and of a character", "Point", tuple(heads), made)
