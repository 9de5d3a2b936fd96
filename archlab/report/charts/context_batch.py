"""What is the largest workable point? Memory over context and batch, and the step beyond which it is full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import metrics, palette, words
from archlab.report.charts import menus
from archlab.report.charts.frame import drawing, safe
from archlab.report.fits import MARKS
from archlab.report.load import Record
from archlab.report.palette import CHROME, Look
from archlab.report.parts import CALCULATED, ESTIMATE, Card, Cell, Column, Figure, Row, Swatch, Table
from archlab.report.points import Cast

PLACE = ("point", "hardware", "precision", "engine")


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no map."""
    rows = _rows(cast)
    if not rows:
        return None
    found = menus.menus(cast, rows, PLACE)
    made = menus.states(cast, rows, found)
    about = (
        "Memory in per cent of what the device has, over context and batch; the largest batches are in a table below."
    )
    figure = Figure("context-batch", "", about, {state: _drawing(cast, mine) for state, mine in made.items()})
    return Card(
        "What is the largest workable point?", (CALCULATED, ESTIMATE),
        "In a cell: what weights, cache, activations and the process need, in % of the memory that a program can have.",
        figures=(figure,), switches=menus.switches(found, menus.first(cast, made, _divided)), legend=_legend(cast),
        numbers=_numbers(cast, found, made), notes=tuple(_notes(cast, rows)),
    )  # fmt: skip


def _rows(cast: Cast) -> list[Record]:
    """The cells: contexts and batches that are powers of two, of those points that have a map of them."""
    every = [r for p in cast.wide.ok for r in cast.run.batch_rows.get(p.name, ()) if r["memory_budget_bytes"]]
    cells = [r for r in every if _doubled(r["context"]) and _doubled(r["batch"])]
    wide = {key for key in {_place(r) for r in cells} if len({r["context"] for r in cells if _place(r) == key}) > 2}
    return [r for r in cells if _place(r) in wide]


def _doubled(n: int) -> bool:
    return n & (n - 1) == 0


def _place(row: Record) -> tuple[Any, ...]:
    return tuple(row[key] for key in PLACE)


def _divided(rows: Sequence[Record]) -> bool:
    """Some of it fits and some does not: what the picture is for."""
    return len({bool(row["fits"]) for row in rows}) == 2


# ---------------------------------------------------------------- the picture


def _drawing(cast: Cast, rows: Sequence[Record]) -> dict[str, Any]:
    contexts, batches = (sorted({row[key] for row in rows}) for key in ("context", "batch"))
    by = {(row["context"], row["batch"]): row for row in rows}
    grid = [[by.get((c, b)) for c in contexts] for b in batches]
    x, y = (range(len(values)) for values in (contexts, batches))  # doubling from one to the next
    trained = cast.run.value(rows[0]["point"], "trained_context") or math.inf
    layout = {
        "xaxis": _axis(x, [units.show_tokens(c) + "†" * (c > trained) for c in contexts], "Context (tokens, doubling)"),
        "yaxis": _axis(y, [f"{b:,}" for b in batches], "Batch (sequences, doubling)"),
        "margin": {"l": 62, "r": 24, "t": 14, "b": 52},
    }  # fmt: skip
    return drawing([_cells(cast, x, y, grid), _texts(cast, x, y, grid), *_contour(x, y, grid)], layout, height=430)


def _axis(at: Sequence[int], texts: Sequence[str], title: str) -> dict[str, Any]:
    return {
        "type": "linear", "range": [at[0] - 0.5, at[-1] + 0.5], "title": {"text": title},
        "tickvals": list(at), "ticktext": list(texts), "showgrid": False,
    }  # fmt: skip


def _cells(cast: Cast, x: Sequence[int], y: Sequence[int], grid: Sequence[Sequence[Record | None]]) -> Any:
    """A bar of height one a cell: the drawing library that pages carry has no heat map, and is a fifth smaller."""
    cells = [(a, b, cell) for b, line in zip(y, grid, strict=True) for a, cell in zip(x, line, strict=True) if cell]
    known = cells[0][2]
    point = next(p for p in cast.wide.ok if p.name == known["point"])
    device = safe(metrics.device_title(cast.run, known["hardware"]))
    said = f"%{{customdata[1]}} of {units.show_gib(known['memory_budget_bytes'])} on {device}: %{{customdata[2]}} %"
    return go.Bar(
        x=[a for a, _, _ in cells], y=[1] * len(cells), base=[b - 0.5 for _, b, _ in cells], width=1,
        customdata=[_said(cast, cell) for *_, cell in cells],
        hovertemplate=f"<b>{safe(point.short)}</b><br>%{{customdata[0]}}<br>{said}<br>%{{customdata[3]}}<extra></extra>",
        marker={
            "color": [_colour(cast, cell) for *_, cell in cells],
            "line": {"color": CHROME["card"][0], "width": 1.5},
        },
    )  # fmt: skip


def _texts(cast: Cast, x: Sequence[int], y: Sequence[int], grid: Sequence[Sequence[Record | None]]) -> Any:
    """What stands in the cells, as a trace of its own: a bar would look for a colour that contrasts with its value."""
    cells = [(a, b, cell) for b, line in zip(y, grid, strict=True) for a, cell in zip(x, line, strict=True) if cell]
    return go.Scatter(
        x=[a for a, _, _ in cells], y=[b for _, b, _ in cells], text=[_text(cast, cell) for *_, cell in cells],
        mode="text", name="cells", hoverinfo="skip", textfont={"size": 12, "color": CHROME["ink"][0]},
    )  # fmt: skip


def _percent(row: Record) -> float:
    """Of the memory that a program can have, to four figures."""
    return words.significant(100 * row["memory_bytes"] / row["memory_budget_bytes"], 4)


def _word(cast: Cast, row: Record) -> str:
    """fits | tight | no, as the fit matrix says it."""
    if not row["fits"]:
        return "no"
    return "tight" if _percent(row) > 100 * (1 - cast.run.meta.get("tight", 0.05)) else "fits"


def _text(cast: Cast, row: Record) -> str:
    """'43', '≈ 97', '✕ 212': a phone shows the mark alone."""
    word, share = _word(cast, row), _percent(row)
    return f"{MARKS[word] if word != 'fits' else ''} {share:,.{1 if share < 9.95 else 0}f}".strip()


def _said(cast: Cast, row: Record) -> list[str]:
    """Where, how much, which share, and what that means."""
    said = {"fits": "fits", "tight": "fits, but tight", "no": "does not fit"}[_word(cast, row)]
    where = f"{row['batch']:,} × {units.show_tokens(row['context'])} tokens"
    most = f"{said}; at most {row['max_batch']:,} at once"
    return [where, units.show_gib(row["memory_bytes"]), f"{_percent(row):,.3g}", most]


def _colour(cast: Cast, row: Record) -> str:
    """From empty to full in blue, what is tight in amber, what is over in red; the marks say it without colour."""
    word = _word(cast, row)
    if word == "fits":
        return palette.filled(_percent(row) / 100)[0]
    return CHROME["bound-wash" if word == "tight" else "no-wash"][0]


def _contour(x: Sequence[int], y: Sequence[int], grid: Sequence[Sequence[Record | None]]) -> list[Any]:
    """The step between the largest batch that fits and the next; none where all fits, or nothing."""
    held = [sum(bool(line[i] and line[i]["fits"]) for line in grid) for i in range(len(x))]  # type: ignore[index]
    if not 0 < sum(held) < len(x) * len(y):
        return []
    at = [(place, y[0] - 0.5 + n) for i, n in enumerate(held) for place in (x[i] - 0.5, x[i] + 0.5)]
    return [go.Scatter(
        x=[a for a, _ in at], y=[b for _, b in at], mode="lines", hoverinfo="skip", cliponaxis=False,
        line={"color": CHROME["limit"][0], "width": 3},
    )]  # fmt: skip


# ---------------------------------------------------------------- in words


def _legend(cast: Cast) -> tuple[Swatch, ...]:
    less = f"{cast.run.meta.get('tight', 0.05) * 100:g} %"
    line = Look(CHROME["limit"], CHROME["limit"], "solid", "none")
    return (
        Swatch("fits", "filled"), Swatch(f"≈ tight: less than {less} is left", "bound-wash"),
        Swatch("✕ does not fit", "no-wash"), Swatch("100 %: below it all fits", "limit", line),
    )  # fmt: skip


def _notes(cast: Cast, rows: Sequence[Record]) -> list[str]:
    asked = sorted({(row["hardware"], row["precision"], row["engine"]) for row in rows})
    points = {row["point"] for row in rows}
    where = len(metrics.devices(cast.run)) > len({hardware for hardware, _, _ in asked})
    some = f"Drawn for {words.some(len(points), 'point')} of {len(cast.wide.ok):,}"
    fewer = f"{some}{', on some of the devices' * where}." * (len(points) < len(cast.wide.ok) or where)
    trained = {p.name: cast.run.value(p.name, "trained_context") for p in cast.wide.ok if p.name in points}
    beyond = any(trained[row["point"]] and row["context"] > trained[row["point"]] for row in rows)
    return [
        "Each sequence has the whole context filled, and the last token's logits are made, as servers do. The largest "
        "batches of the table are exact: one sequence more does not fit.",
        *["† longer than the context that the model was trained for."] * beyond, *[fewer] * bool(fewer),
    ]  # fmt: skip


def _numbers(cast: Cast, found: Sequence[menus.Menu], made: menus.States) -> Table:
    """A row a map: what one short sequence needs, and at each context the largest batch that fits."""
    heads = menus.heads(cast, found)
    at = sorted({row["context"] for rows in made.values() for row in rows})
    columns = [Column(column, words.sentence(column), number=False, group="Where") for column, _ in heads]
    columns += [Column("memory_bytes", "One sequence", f"GiB at {units.show_tokens(at[0])}", ESTIMATE, group="Needed")]
    columns += [
        Column(f"max_batch at {c}", units.show_tokens(c), "", ESTIMATE, group="Largest batch by context") for c in at
    ]
    rows = [_row(cast, mine, heads, at) for mine in made.values()]
    return Table("context-batch-numbers", "Largest batch by context", "Point", tuple(columns), tuple(rows))


def _row(cast: Cast, rows: Sequence[Record], heads: Sequence[tuple[str, Any]], at: Sequence[int]) -> Row:
    point = next(p for p in cast.wide.ok if p.name == rows[0]["point"])
    place = [Cell(said[str(rows[0][column])], rows[0][column]) for column, said in heads]
    ones = {row["context"]: row for row in rows if row["batch"] == 1}
    least = ones[min(ones)]["memory_bytes"] if at[0] in ones else None
    needs = Cell(words.NONE if least is None else units.show_gib(least).removesuffix(" GiB"), least)
    batches = [Cell(f"{ones[c]['max_batch']:,}", ones[c]["max_batch"]) if c in ones else Cell(words.NONE) for c in at]
    return Row(point.tag, (*place, needs, *batches), point)
