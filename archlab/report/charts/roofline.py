"""What bounds each kind of operation? FLOPs a byte against FLOPs a second, below the roofs of the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import palette, words
from archlab.report.charts import menus
from archlab.report.charts.frame import drawing, hover, log_axis, safe
from archlab.report.load import Record
from archlab.report.palette import CHROME, Look
from archlab.report.parts import BOUND, Card, Cell, Column, Figure, Row, Swatch, Table
from archlab.report.points import Cast, Point

PLACE = ("point", "workload", "hardware", "precision")
TERA = 1e12

NAMES = {
    "projections": ("q k v o", "attention"), "scores_global": ("scores (global)", "activations"),
    "scores_local": ("scores (sliding)", "source"), "scores_source": ("scores (source)", "audio"),
    "scores": ("scores", "activations"), "mlp": ("MLP", "mlp"), "moe": ("experts", "moe"), "head": ("head", "head"),
    "recurrent": ("recurrent blocks", "recurrent"), "encoder": ("encoder", "runtime"),
    "beside": ("norms, lookups, cache writes", "rest"), "step": ("whole step", "rest"),
}  # fmt: skip
"""Kind of operation -> what it is called, and whose colour it has; another kind has its part's."""

SYMBOLS = {"prefill": "diamond", "decode": "circle"}
NEAR, APART = 0.2, 1.05
"""Decades: marks nearer to one another than this share a label, beside the slope and over the flat roof."""
TOGETHER = 0.16
"""Decades between batches that have a text each."""
STEPS = (1, 16, 256)
"""Batches of the whole decode step that stand in the table."""
HEIGHT, LINE = 394, 15
"""Of the plot and of a line of text, in px."""
WIDE = "wide"
"""The name of texts for which a phone has no room."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no operations, or does not say what its devices reach."""
    every = [r for p in cast.wide.ok for r in cast.run.operation_rows.get(p.name, ())]
    rows = [r for r in every if r["workload"] in cast.run.works and _roofs(cast, r)]
    if not rows:
        return None
    found = menus.menus(cast, rows, PLACE)
    made = menus.states(cast, rows, found)
    about = "TFLOP/s that the device's roofs allow against FLOPs a byte, a mark each kind; the numbers are below."
    figure = Figure("roofline", "", about, {state: _drawing(cast, mine) for state, mine in made.items()})
    return Card(
        "Memory-bound or compute-bound?", (BOUND,),
        "Work a byte of weights and cache, and the most that the device's data sheet then allows: nothing is measured.",
        figures=(figure,), switches=menus.switches(found, menus.first(cast, made)), legend=_legend(rows),
        numbers=_numbers(cast, found, made), notes=_notes(rows),
    )  # fmt: skip


def _roofs(cast: Cast, row: Record) -> tuple[float, float, str] | None:
    """(FLOP/s, bytes/s, format) of where a row stands."""
    device = cast.run.meta["hardware"].get(row["hardware"]) or {}
    form = (cast.run.meta["precisions"].get(row["precision"]) or {}).get("compute") or row["precision"]
    peak, bandwidth = (device.get("peak_flops") or {}).get(form), device.get("bandwidth_bytes_per_s")
    return (peak, bandwidth, form) if peak and bandwidth else None


# ---------------------------------------------------------------- the picture


def _drawing(cast: Cast, rows: Sequence[Record]) -> dict[str, Any]:
    peak, bandwidth, form = _roofs(cast, rows[0]) or (0.0, 0.0, "")
    marks = [r for r in rows if r["operation"] != "step" and r["flops"] and r["bytes"]]
    path = sorted((r for r in rows if r["operation"] == "step" and r["phase"] == "decode"), key=lambda r: r["batch"])
    every = [*marks, *path]
    low, high = min(map(_intensity, every)) / 4, max(*map(_intensity, every), peak / bandwidth * 2) * 3
    bottom = min(*(_rate(r) for r in every), low * bandwidth) / 1.5 / TERA
    labels = _labels(marks, peak / bandwidth)
    top = peak / TERA * (peak / TERA / bottom) ** _headroom(labels)
    layout = {
        "xaxis": log_axis(low, high, "Work a byte (FLOP/byte, log scale)"),
        "yaxis": log_axis(bottom, top, "Attainable (TFLOP/s, log scale)"),
        "margin": {"l": 70, "r": 24, "t": 14, "b": 52},
        "annotations": [*_roof_labels(peak, bandwidth, form, high), *labels],
    }  # fmt: skip
    roof = _roof(peak, bandwidth, low, high)
    point = next(p for p in cast.wide.ok if p.name == rows[0]["point"])
    phases = [_marks(point, [r for r in marks if r["phase"] == phase], rows) for phase in SYMBOLS]
    return drawing([roof, *_path(point, path), *[t for t in phases if t]], layout, height=460)


def _headroom(labels: Sequence[Mapping[str, Any]]) -> float:
    """What texts over the flat roof take, as a share of what is below it."""
    lines = max((text.count("<br>") + 1 for text in (label["text"] for label in labels)), default=0)
    share = (LINE * lines + 24) / HEIGHT
    return share / (1 - share)


def _intensity(row: Record) -> float:
    return float(row["flops"] / row["bytes"])


def _rate(row: Record) -> float:
    """FLOP/s at the bound."""
    return float(row["flops"] / row["bound_s"])


def _roof(peak: float, bandwidth: float, low: float, high: float) -> Any:
    ridge = peak / bandwidth
    return go.Scatter(
        x=[low, ridge, high], y=[low * bandwidth / TERA, peak / TERA, peak / TERA], mode="lines", hoverinfo="skip",
        line={"color": CHROME["limit"][0], "width": 2},
    )  # fmt: skip


def _roof_labels(peak: float, bandwidth: float, form: str, high: float) -> list[dict[str, Any]]:
    """Both roofs and the ridge with the device's numbers."""
    ridge, font = peak / bandwidth, {"size": 12, "color": CHROME["limit"][0]}
    said = f"{peak / TERA:,.4g} TFLOP/s in {safe(form)}"
    left: dict[str, Any] = {"xanchor": "right", "yanchor": "bottom"}
    return [
        _note(high, peak, said, font, xanchor="right", yanchor="top", yshift=-16),
        _note(ridge / 3, peak / 3, f"{bandwidth / 1e9:,.4g} GB/s", font, **left, xshift=-8),
        _note(ridge, peak, f"ridge at {ridge:,.0f} FLOP/byte", font, **left, xshift=-60, name=WIDE),
    ]


def _note(x: float, flops_per_s: float, text: str, font: Mapping[str, Any], **how: Any) -> dict[str, Any]:
    at = {"x": math.log10(x), "y": math.log10(flops_per_s / TERA)}
    return {**at, "text": text, "showarrow": False, "font": dict(font), **how}


def _marks(point: Point, found: Sequence[Record], rows: Sequence[Record]) -> Any:
    """The marks of a phase, the longest first and below the others; the area of one is its share of the time."""
    if not found:
        return None
    ordered = sorted(found, key=lambda r: -r["bound_s"])
    whole = sum(r["bound_s"] for r in rows if r["operation"] != "step" and r["phase"] == found[0]["phase"])
    shares = [r["bound_s"] / whole for r in ordered]
    return go.Scatter(
        x=[words.significant(_intensity(r)) for r in ordered], mode="markers", hoverinfo="text",
        y=[words.significant(_rate(r) / TERA) for r in ordered], cliponaxis=False,
        marker={"symbol": SYMBOLS[found[0]["phase"]], "size": [9 + 26 * math.sqrt(share) for share in shares],
                "color": [_colour(r)[0] for r in ordered], "opacity": 0.85,
                "line": {"width": 1.2, "color": CHROME["card"][0]}},
        hovertext=[_hover(point, r, share) for r, share in zip(ordered, shares, strict=True)],
    )  # fmt: skip


def _hover(point: Point, row: Record, share: float) -> str:
    where = f"{safe(_name(row['operation']))}, {row['phase']}, batch {row['batch']:,}"
    return hover(point.short, where, *_said(row), f"{words.percent(share)} of the phase's {BOUND}", BOUND)


def _said(row: Record) -> list[str]:
    moved = f"{words.say_flop(row['flops'])} over {words.say_bytes(row['bytes'])}"
    return [
        f"{_number(_intensity(row))} FLOP/byte: {moved}",
        f"at most {_number(_rate(row) / TERA)} TFLOP/s: at least {units.show_seconds(row['bound_s'])}",
    ]


def _path(point: Point, path: Sequence[Record]) -> list[Any]:
    """The whole decode step, from batch to batch."""
    if not path:
        return []
    ink = CHROME["ink"][0]
    return [go.Scatter(
        x=[words.significant(_intensity(r)) for r in path], y=[words.significant(_rate(r) / TERA) for r in path],
        mode="lines+markers+text", name=WIDE, text=_batches(path), textposition="bottom right",
        textfont={"size": 11.5, "color": CHROME["ink2"][0]}, cliponaxis=False, hoverinfo="text",
        line={"color": ink, "width": 1.8}, marker={"size": 6, "symbol": "square", "color": ink},
        hovertext=[hover(point.short, f"whole decode step, batch {r['batch']:,}", *_said(r), BOUND) for r in path],
    )]  # fmt: skip


def _batches(path: Sequence[Record]) -> list[str]:
    """The batch beside each mark; where the marks come together '64 to 256' at the first of them."""
    found = _clusters(path, TOGETHER)
    said = {x[0]["batch"]: f"{x[0]['batch']:,}" + f" to {x[-1]['batch']:,}" * (len(x) > 1) for x in found}
    clear = "\u2003"  # of the marks of the operations, which the path starts from
    return [clear * (i == 0) + said.get(r["batch"], "") for i, r in enumerate(path)]


def _labels(marks: Sequence[Record], ridge: float) -> list[dict[str, Any]]:
    """A text beside each cluster of marks: to the right of the slope, or over the flat roof."""
    font = {"size": 11.5, "color": CHROME["ink2"][0]}
    sides = [r for r in marks if _intensity(r) <= ridge], [r for r in marks if _intensity(r) > ridge]
    beside = [_cluster(mates, ", ", font, xanchor="left", xshift=84, yshift=-9) for mates in _clusters(sides[0], NEAR)]
    return beside + [_cluster(mates, "<br>", font, yanchor="bottom", yshift=18) for mates in _clusters(sides[1], APART)]


def _cluster(mates: Sequence[Record], between: str, font: Mapping[str, Any], **how: Any) -> dict[str, Any]:
    """'decode MLP, q k v o, head', the longest first; a phone has no room for it."""
    ordered = sorted(mates, key=lambda r: -r["bound_s"])
    lines = []
    for phase in (p for p in SYMBOLS if any(r["phase"] == p for r in mates)):
        names = between.join(safe(_name(r["operation"])) for r in ordered if r["phase"] == phase)
        lines.append(f"<b>{phase}</b>{'<br>' if between == '<br>' else ' '}{names}")
    text = (";  " if between == ", " else "<br>").join(lines)
    return _note(_intensity(mates[0]), _rate(mates[0]), text, font, name=WIDE, **how)


def _clusters(marks: Sequence[Record], near: float) -> list[list[Record]]:
    """Marks within so many decades of one another, from the left."""
    found: list[list[Record]] = []
    for row in sorted(marks, key=_intensity):
        if found and math.log10(_intensity(row) / _intensity(found[-1][0])) < near:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _name(operation: str) -> str:
    return NAMES[operation][0] if operation in NAMES else operation.replace("_", "-")


def _colour(row: Record) -> palette.Pair:
    return palette.part(_part(row["operation"]))


def _part(operation: str) -> str:
    return NAMES[operation][1] if operation in NAMES else operation


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 1000 else f"{x:,.3g}"


# ---------------------------------------------------------------- in words


def _legend(rows: Sequence[Record]) -> tuple[Swatch, ...]:
    kinds = dict.fromkeys(r["operation"] for r in rows if r["operation"] != "step" and r["flops"])
    ink = CHROME["ink2"]
    phases = [p for p in SYMBOLS if any(r["phase"] == p for r in rows)]
    return (
        *(Swatch(_name(kind), palette.part_variable(_part(kind))) for kind in kinds),
        *(Swatch(phase, "ink2", Look(ink, ink, "none", SYMBOLS[phase])) for phase in phases),
        Swatch("whole decode step, by batch", "ink", Look(CHROME["ink"], CHROME["ink"], "solid", "square")),
    )  # fmt: skip


def _notes(rows: Sequence[Record]) -> tuple[str, ...]:
    return (
        "Left of the ridge the memory is the limit, right of it the arithmetic. The area of a mark is its share of the "
        "phase's time at the bound.",
        "The whole step is the sum of its operations, one after another: where they meet different roofs it stays "
        "below both. Bytes are weights and cache, read once; norms, lookups and cache writes have no products and "
        "no mark.",
    )  # fmt: skip


def _numbers(cast: Cast, found: Sequence[menus.Menu], made: menus.States) -> Table:
    """A row a phase of each picture: the work a byte of each kind, from which its roof follows, and the whole step."""
    heads = menus.heads(cast, found)
    every = [r for rows in made.values() for r in rows if r["flops"] and r["bytes"]]
    kinds = list(dict.fromkeys([*(r["operation"] for r in every if r["operation"] != "step"), "step"]))
    scale = words.seconds(r["bound_s"] for r in every if r["operation"] == "step")
    columns = [Column(column, words.sentence(column), number=False, group="Where") for column, _ in heads]
    columns += [Column("phase", "Phase", number=False, group="What"), Column("batch", "Batch", group="What")]
    columns += [Column(f"flop_per_byte {k}", _name(k), "FLOP/byte", group="Work a byte") for k in kinds]
    columns += [Column("bound_s step", "whole step", scale.unit, BOUND, group="Least time")]
    columns += [Column(f"flops_per_s batch {b}", f"{b:,}", "TFLOP/s", BOUND, group="Decode at batch") for b in STEPS]
    rows = [
        _row(cast, phase, mine, heads, kinds, scale)
        for rows in made.values() for phase in SYMBOLS if (mine := [r for r in rows if r["phase"] == phase])
    ]  # fmt: skip
    return Table("roofline-numbers", "Work a byte by operation", "Point", tuple(columns), tuple(rows))


def _row(
    cast: Cast, phase: str, rows: Sequence[Record], heads: Sequence[tuple[str, Mapping[str, str]]],
    kinds: Sequence[str], scale: words.Scale,
) -> Row:  # fmt: skip
    point = next(p for p in cast.wide.ok if p.name == rows[0]["point"])
    batch = next((r["batch"] for r in rows if r["operation"] != "step"), rows[0]["batch"])
    by = {r["operation"]: r for r in rows if r["batch"] == batch}
    steps = {r["batch"]: r for r in rows if r["operation"] == "step" and phase == "decode"}
    cells = [Cell(said[str(rows[0][column])], rows[0][column]) for column, said in heads]
    cells += [Cell(phase, phase), Cell(f"{batch:,}", batch)]
    cells += [_cell(by.get(k), _intensity, _number) for k in kinds]
    cells += [_cell(by.get("step"), lambda r: float(r["bound_s"]), scale.show)]
    cells += [_cell(steps.get(b), _rate, lambda x: _number(x / TERA)) for b in STEPS]
    return Row(point.tag, tuple(cells), point)


def _cell(row: Record | None, of: Callable[[Record], float], show: Callable[[float], str]) -> Cell:
    return Cell(show(of(row)), of(row)) if row and row["bytes"] else Cell(words.NONE)
