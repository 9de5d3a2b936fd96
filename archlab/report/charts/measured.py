"""What was timed: the median, the spread of the middle nine tenths, and the bound on that same device."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import metrics, words
from archlab.report.charts import bars
from archlab.report.charts.frame import drawing, hover, safe
from archlab.report.load import Record
from archlab.report.palette import CHROME
from archlab.report.parts import BOUND, MEASURED, Card, Cell, Column, Figure, Row, Swatch, Switch, Table
from archlab.report.points import Cast, Point

WHERE = ("device", "dtype", "backend")


def rows(cast: Cast) -> list[tuple[Point, Record]]:
    """The measurements that have a median, with their points."""
    known = {p.name: p for p in (*cast.all, *cast.stand_ins)}
    return [(known[r["point"]], r) for r in cast.run.measured_rows if r.get("median_s") and r["point"] in known]


def card(cast: Cast) -> Card | None:
    """The card, or None where nothing was measured."""
    found = rows(cast)
    if not found:
        return None
    setups = list(dict.fromkeys(place(r) for _, r in found))
    phases = [x for x in ("decode", "prefill") if any(r["phase"] == x for _, r in found)]
    works = list(dict.fromkeys((r["phase"], r["workload"]) for _, r in found))
    figures = tuple(
        _figure(cast, phase, work, setups, found)
        for phase, work in sorted(works, key=lambda w: (phases.index(w[0]) if w[0] in phases else 9, str(w[1])))
    )
    switch = Switch("On", tuple((s, s) for s in setups), setups[0])
    return Card(
        "Measured, beside the bound on that device", (MEASURED, BOUND), _caption(cast, found, setups),
        figures=figures, small=True, switches=(switch,) * (len(setups) > 1), legend=_legend(),
        numbers=_numbers(cast, found),
        notes=("The bound takes the rates measured on that device in the same run, not those of a data sheet.",),
    )  # fmt: skip


def place(row: Record) -> str:
    """Where and how it was measured: 'AMD EPYC 7B13, 2 threads, bf16, sdpa'."""
    return ", ".join(str(row[k]) for k in WHERE if row.get(k) is not None)


def _caption(cast: Cast, found: list[tuple[Point, Record]], setups: list[str]) -> str:
    timed = list(dict.fromkeys(p for p, _ in found))
    own = [p for p in timed if p not in cast.stand_ins]
    others = [p for p in timed if p in cast.stand_ins]
    said = [_which(cast, own)] * bool(own) + [_instead(others)] * bool(others)
    verb = "was" if len(timed) == 1 else "were"
    return f"{words.sentence(words.listing(said))} {verb} measured, on {words.listing(setups)}; {_samples(found)}."


def _which(cast: Cast, own: list[Point]) -> str:
    if len(own) == len(cast.all):
        return "all points"
    named = f" ({words.listing([p.tag for p in own])})" if len(own) < 7 else ""
    return f"{words.some(len(own), 'point')} of {len(cast.all)}{named}"


def _instead(others: list[Point]) -> str:
    """Measurements of a small model say nothing of the large one by themselves; say that they are of another."""
    bases = words.listing(list(dict.fromkeys(p.base for p in others)))
    return f"{words.some(len(others), 'shape')} of {bases}, standing in for the run's own points,"


def _samples(found: list[tuple[Point, Record]]) -> str:
    counts = sorted({r["n"] for _, r in found if r.get("n")})
    warm = sorted({r["warmup_s"] for _, r in found if r.get("warmup_s")})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n from {counts[0]} to {counts[-1]}" if counts else "n not noted"
    return n + (f", after {units.show_seconds(warm[-1])} of warm-up" if warm else "")


def _legend() -> tuple[Swatch, ...]:
    return (Swatch("measured: median, whiskers from 5 % to 95 % of the runs", "measured"),
            Swatch("bound: from the rates measured on that device", "limit"))  # fmt: skip


def _figure(cast: Cast, phase: str, work: str, setups: list[str], found: list[tuple[Point, Record]]) -> Figure:
    chosen = [(p, r) for p, r in found if r["phase"] == phase and r["workload"] == work]
    title = f"{ {'decode': 'Decode, one step', 'prefill': 'Prefill'}.get(phase, phase) } at {_work(cast, chosen[0][1])}"
    by_setup = {s: [(p, r) for p, r in chosen if place(r) == s] for s in setups}
    variants = {s if len(setups) > 1 else "": _drawing(mine) for s, mine in by_setup.items() if mine}
    about = f"{title}: measured median and spread beside the bound, a row for each point; numbers below."
    return Figure(f"measured-{phase}-{work}", title, about, variants, tag=MEASURED)


def _work(cast: Cast, row: Record) -> str:
    return words.workload(row) if row.get("context") else metrics.work_words(cast.run, row["workload"])


def _drawing(chosen: list[tuple[Point, Record]]) -> dict[str, Any]:
    points = [p for p, _ in chosen]
    scale = words.seconds(x for _, r in chosen for x in (r["median_s"], r.get("p95_s")))
    ends = [_end(scale, r) for _, r in chosen]
    most = max(x for _, r in chosen for x in (r["median_s"], r.get("p95_s") or 0, r.get("bound_s") or 0))
    layout = {
        "margin": {"l": 0, "r": 0, "t": 6, "b": 46},
        "xaxis": {"range": [0, most / scale.divisor * 1.03], "title": {"text": scale.unit},
                  "showline": False, "nticks": 6},
        "yaxis": bars.row_axis(points),
    }  # fmt: skip
    traces = [_bound(scale, chosen), _median(scale, chosen), _text(scale, chosen, ends)]
    return drawing(traces, layout, row=34, ticks=bars.row_names(points))


def _end(scale: words.Scale, row: Record) -> str:
    bound = row.get("bound_s")
    over = f", {words.times(row['median_s'] / bound)} × bound" if bound else ""
    return scale.full(row["median_s"]) + over


def _median(scale: words.Scale, chosen: list[tuple[Point, Record]]) -> Any:
    colour = CHROME["measured"][0]
    up = [scale.of((r.get("p95_s") or r["median_s"]) - r["median_s"]) for _, r in chosen]
    down = [scale.of(r["median_s"] - (r.get("p5_s") or r["median_s"])) for _, r in chosen]
    return go.Scatter(
        x=[scale.of(r["median_s"]) for _, r in chosen], y=[p.key for p, _ in chosen], mode="markers",
        meta=[p.index for p, _ in chosen], marker={"size": 10, "color": colour},
        error_x={"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.6, "width": 5},
        hovertext=[hover(p.short, *_said(r)) for p, r in chosen], hoverinfo="text",
    )  # fmt: skip


def _said(row: Record) -> tuple[str, ...]:
    ends = [units.show_seconds(row[k]) for k in ("p5_s", "p95_s") if row.get(k)]
    spread = [f"5 % to 95 %: {' to '.join(ends)}"] * (len(ends) == 2)
    counted = f"n = {row.get('n') or 'not noted'}"
    return (f"median {units.show_seconds(row['median_s'])}", *spread, counted, safe(place(row)), MEASURED)


def _bound(scale: words.Scale, chosen: list[tuple[Point, Record]]) -> Any:
    known = [(p, r) for p, r in chosen if r.get("bound_s")]
    return go.Scatter(
        x=[scale.of(r["bound_s"]) for _, r in known], y=[p.key for p, _ in known], mode="markers",
        meta=[p.index for p, _ in known], hoverinfo="text",
        marker={"size": 18, "symbol": "line-ns-open", "color": CHROME["limit"][0], "line": {"width": 2.6}},
        hovertext=[hover(p.short, f"at least {units.show_seconds(r['bound_s'])}", BOUND) for p, r in known],
    )  # fmt: skip


def _text(scale: words.Scale, chosen: list[tuple[Point, Record]], ends: list[str]) -> Any:
    furthest = [scale.of(max(r["median_s"], r.get("p95_s") or 0, r.get("bound_s") or 0)) for _, r in chosen]
    return go.Scatter(
        x=furthest, y=[p.key for p, _ in chosen], text=[f"\u2002{safe(e)}" for e in ends], mode="text",
        cliponaxis=False, meta=[p.index for p, _ in chosen], textposition="middle right", hoverinfo="skip",
        textfont={"size": 12.5, "color": CHROME["ink2"][0]},
    )  # fmt: skip


_COLUMNS = {
    "median_s": "Median",
    "p5_s": "5 %",
    "p95_s": "95 %",
    "ci_low_s": "95 % interval, low",
    "ci_high_s": "high",
    "bound_s": "Bound",
}


def _numbers(cast: Cast, found: list[tuple[Point, Record]]) -> Table:
    scale = words.seconds(r["median_s"] for _, r in found)
    columns = [Column("phase", "Phase", number=False), Column("workload", "Workload", number=False)]
    columns += [Column(k, head, scale.unit, BOUND if k == "bound_s" else MEASURED) for k, head in _COLUMNS.items()]
    columns += [Column("n", "n", "runs"), Column("device", "Measured on", number=False)]
    lines = []
    for p, r in found:
        times = [Cell(scale.show(r.get(k)), r.get(k)) for k in _COLUMNS]
        words_ = [Cell(str(r["phase"]), r["phase"]), Cell(_work(cast, r), r["workload"])]
        lines.append(
            Row(p.tag, (*words_, *times, Cell(words.axis_value(r.get("n")), r.get("n")), Cell(place(r), place(r))), p)
        )
    return Table("measured-numbers", "What was measured", "Point", tuple(columns), tuple(lines))
