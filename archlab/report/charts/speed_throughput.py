"""Which batch? One user's speed against the throughput of all, the batch along a curve, to where memory is full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import words
from archlab.report.charts import menus
from archlab.report.charts.frame import drawing, hover, log_axis, short
from archlab.report.load import Record
from archlab.report.palette import CHROME, Look
from archlab.report.parts import BOUND, PREDICTED, Card, Cell, Column, Figure, Row, Swatch, Table
from archlab.report.points import Cast, Point

PLACE = ("context", "hardware", "precision", "engine")
TIMES = {PREDICTED: "decode_predicted_s", BOUND: "decode_bound_s"}


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no decode times over batches."""
    rows = _rows(cast)
    if not rows:
        return None
    found = menus.menus(cast, rows, PLACE)
    made = menus.states(cast, rows, found)
    drawings = {state: _drawing(cast, mine) for state, mine in made.items() if any(r["fits"] for r in mine)}
    if not drawings:
        return None
    tags = tuple(tag for tag in (BOUND, PREDICTED) if any(_tag(mine) == tag for mine in made.values()))
    about = "Tokens a second for one user against those of all users, a curve a point; the ends are in a table below."
    return Card(
        "One user's speed against total throughput", tags,
        "Decoding with the context filled, the batch doubling from mark to mark. Both axes are logarithmic.",
        figures=(Figure("speed-throughput", "", about, drawings),), legend=_legend(rows),
        switches=menus.switches(found, menus.first(cast, made, lambda mine: any(r["fits"] for r in mine))),
        numbers=_numbers(cast, found, made), notes=tuple(_notes(cast, made)),
    )  # fmt: skip


def _rows(cast: Cast) -> list[Record]:
    """Batches at the contexts that all points have."""
    every = [r for p in cast.wide.ok for r in cast.run.batch_rows.get(p.name, ()) if r.get(TIMES[BOUND])]
    reached = {point: {r["context"] for r in every if r["point"] == point} for point in {r["point"] for r in every}}
    asked = {row.get("context") for rows in cast.run.rows.values() for row in rows}.intersection(*reached.values())
    return [r for r in every if r["context"] in asked and (r["fits"] or r["batch"] == 1)]


def _tag(rows: Iterable[Record]) -> str:
    """Predicted where all rows of a picture are, else bound."""
    return PREDICTED if all(r.get(TIMES[PREDICTED]) for r in rows) else BOUND


def speed(row: Record, tag: str) -> float:
    """Tokens a second of one user."""
    return float(1 / row[TIMES[tag]])


def total(row: Record, tag: str) -> float:
    """Tokens a second of all users."""
    return float(row["batch"] / row[TIMES[tag]])


# ---------------------------------------------------------------- the picture


def _drawing(cast: Cast, rows: Sequence[Record]) -> dict[str, Any]:
    tag, curves = _tag(rows), _curves(cast, rows)
    every = [r for mine in curves.values() for r in mine]
    x, y = [total(r, tag) for r in every], [speed(r, tag) for r in every]
    left, right, low, high = min(x) / 1.35, max(x) * 1.5, min(y) / 1.5, max(y) * 1.35
    layout = {
        "xaxis": log_axis(left, right, f"All users together (tok/s, {_SAID[tag]}, log scale)"),
        "yaxis": log_axis(low, high, "One user (tok/s, log scale)"),
        "margin": {"l": 70, "r": 24, "t": 14, "b": 52},
    }  # fmt: skip
    named = next((p for p in curves if p.released), next(iter(curves)))  # texts at all curves would meet
    lines = [_curve(p, mine, tag, p is named) for p, mine in curves.items()]
    ends = [_end(p, mine, tag) for p, mine in curves.items()]
    labels = [_label(p, mine, tag) for p, mine in curves.items()]
    return drawing([*_products(x, y, (left, right), (low, high)), *lines, *ends], layout, labels=labels, height=430)


_SAID = {BOUND: "at most", PREDICTED: "predicted"}


def _curves(cast: Cast, rows: Sequence[Record]) -> dict[Point, list[Record]]:
    """Point -> its rows that fit, by batch."""
    by = {p: sorted((r for r in rows if r["point"] == p.name and r["fits"]), key=_batch) for p in cast.wide.ok}
    return {p: mine for p, mine in by.items() if mine}


def _batch(row: Record) -> int:
    return int(row["batch"])


def _curve(point: Point, rows: Sequence[Record], tag: str, named: bool) -> Any:
    look = point.look
    return go.Scatter(
        x=[words.significant(total(r, tag)) for r in rows], y=[words.significant(speed(r, tag)) for r in rows],
        mode="lines+markers+text" if named else "lines+markers", meta=point.index, name=point.name, hoverinfo="text",
        text=_batches(rows), textposition="bottom left", cliponaxis=False,
        textfont={"size": 11.5, "color": look.text[0]},
        line={"color": look.line[0], "dash": look.dash, "width": 3 if point.released else 2},
        marker={"symbol": look.symbol, "size": 7, "color": look.line[0]},
        hovertext=[_hover(point, r, tag) for r in rows],
    )  # fmt: skip


def _batches(rows: Sequence[Record]) -> list[str]:
    """What stands beside the marks: each batch that is not close to the last, and that."""
    last = rows[-1]["batch"]
    return [f"{r['batch']:,}" if r["batch"] * 1.25 < last or r["batch"] == last else "" for r in rows]


def _hover(point: Point, row: Record, tag: str) -> str:
    used = f"{words.percent(row['memory_bytes'] / row['memory_budget_bytes'])} of the memory"
    end = [end_words(row)] * _full(row)
    return hover(
        point.short, f"batch {row['batch']:,}, {units.show_tokens(row['context'])} tokens each",
        f"{_rate(speed(row, tag))} tok/s a user, {_rate(total(row, tag))} tok/s in all",
        f"{units.show_seconds(row[TIMES[tag]])} a step, {used}", *end, tag,
    )  # fmt: skip


def _end(point: Point, rows: Sequence[Record], tag: str) -> Any:
    """A ring round the last mark where memory is full after it, an arrow where the curve would go on."""
    last = rows[-1]
    full, colour = _full(last), point.look.line[0]
    ring = {"symbol": "circle-open", "size": 16} if full else {"symbol": "triangle-right", "size": 11}
    return go.Scatter(
        x=[words.significant(total(last, tag))], y=[words.significant(speed(last, tag))], mode="markers",
        meta=point.index, hoverinfo="skip", cliponaxis=False,
        marker={**ring, "color": colour, "line": {"width": 2, "color": colour}},
    )  # fmt: skip


def _full(last: Record) -> bool:
    return bool(last["batch"] == last["max_batch"])


def end_words(last: Record) -> str:
    """'memory full at batch 37', or 'up to 512' where more would fit."""
    return f"memory full at batch {last['batch']:,}" if _full(last) else f"up to {last['batch']:,}"


def _label(point: Point, rows: Sequence[Record], tag: str) -> dict[str, Any]:
    last = rows[-1]
    said = f"{short(point.tag, 20)}, {'full at' if _full(last) else 'to'} {last['batch']:,}"
    y = words.significant(speed(last, tag))
    return {"point": point.index, "text": said, "y": y, "color": point.look.text[0], "bold": point.released}


def _products(
    x: Sequence[float], y: Sequence[float], wide: tuple[float, float], tall: tuple[float, float]
) -> list[Any]:
    """Lines of equal product, a decade apart."""
    products = [a * b for a, b in zip(x, y, strict=True)]
    first, last = (math.floor(math.log10(f(products))) for f in (min, max))
    return [line for n in range(first, last + 2) if (line := _product(10.0**n, wide, tall))]


def _product(product: float, wide: tuple[float, float], tall: tuple[float, float]) -> Any:
    """One of them, where it crosses the picture."""
    left, right = max(wide[0], product / tall[1]), min(wide[1], product / tall[0])
    if left >= right:
        return None
    return go.Scatter(
        x=[left, right], y=[product / left, product / right], mode="lines", hoverinfo="skip",
        line={"color": CHROME["rule"][0], "width": 1.2, "dash": "dot"},
    )  # fmt: skip


def _rate(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:,.3g}"


# ---------------------------------------------------------------- in words


def _legend(rows: Sequence[Record]) -> tuple[Swatch, ...]:
    ink, rule = CHROME["ink2"], CHROME["ink3"]
    return (
        Swatch("ringed: memory is full after it", "ink2", Look(ink, ink, "none", "circle-open")),
        Swatch("equal product of the two", "ink3", Look(rule, rule, "dot", "none")),
    )  # fmt: skip


def _notes(cast: Cast, made: menus.States) -> list[str]:
    tags = {_tag(rows) for rows in made.values()}
    least = "A bound: no program that runs operation by operation is faster."
    law = "Predicted where the device is calibrated."
    none = {(r["point"], *(r[k] for k in PLACE)) for rows in made.values() for r in rows if not r["max_batch"]}
    said = f"{words.sentence(words.some(len(none), 'curve'))} {'is' if len(none) == 1 else 'are'} not there: not even "
    said += "one sequence fits."
    return [
        " ".join([*[least] * (BOUND in tags), *[law] * (PREDICTED in tags)]),
        "A dotted line joins equal products of the two: where a curve is flatter than it, a larger batch gains more "
        "throughput than it takes in speed; where it is steeper, it does not pay.",
        *[said] * bool(none),
    ]  # fmt: skip


def _numbers(cast: Cast, found: Sequence[menus.Menu], made: menus.States) -> Table:
    """A row a curve: where it starts, where it ends, and why."""
    heads = menus.heads(cast, found)
    tags = {_tag(mine) for mine in made.values()}
    tag = next(iter(tags)) if len(tags) == 1 else ""
    columns = (
        *(Column(column, words.sentence(column), number=False) for column, _ in heads),
        Column("speed at batch 1", "One user alone", "tok/s", tag),
        Column("last batch", "The curve ends", number=False),
        Column("speed at last batch", "One user there", "tok/s", tag),
        Column("throughput at last batch", "All users there", "tok/s", tag),
    )  # fmt: skip
    rows = [_row(p, mine, heads, _tag(state)) for state in made.values() for p, mine in _drawn(cast, state).items()]
    return Table("speed-throughput-numbers", "Speed and throughput", "Point", columns, tuple(rows))


def _drawn(cast: Cast, rows: Sequence[Record]) -> dict[Point, list[Record]]:
    """Point -> its rows by batch, those that do not fit among them."""
    by = {p: sorted((r for r in rows if r["point"] == p.name), key=_batch) for p in cast.wide.ok}
    return {p: mine for p, mine in by.items() if mine}


def _row(point: Point, rows: Sequence[Record], heads: Sequence[tuple[str, Any]], tag: str) -> Row:
    place = [Cell(said[str(rows[0][column])], rows[0][column]) for column, said in heads]
    if not rows[0]["max_batch"]:
        return Row(point.tag, (*place, Cell(words.NONE), Cell("not even one fits", 0), *[Cell(words.NONE)] * 2), point)
    first, last = rows[0], rows[-1]
    alone, one, every = (Cell(_rate(x), x) for x in (speed(first, tag), speed(last, tag), total(last, tag)))
    return Row(point.tag, (*place, alone, Cell(end_words(last), last["batch"]), one, every), point)
