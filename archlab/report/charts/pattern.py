"""Which layers see the whole context: a cell a layer; points with the same pattern share a strip."""

from __future__ import annotations

from archlab.report import palette, words
from archlab.report.charts import bars
from archlab.report.load import Record
from archlab.report.parts import CALCULATED, Card, Strip
from archlab.report.points import Cast, Point

MOST = 16
"""So many strips are drawn."""
CELL = 14
"""Width of a cell and the gap after it, in the units of the strip."""
SAID = {"global": "global: sees all tokens", "local": "local: sees a sliding window", "recurrent": "recurrent"}
"""Kind of layer -> what it sees."""

Pattern = tuple[tuple[str, int | None], ...]


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no layers."""
    patterns: dict[Pattern, list[Point]] = {}
    for point in cast.ok:
        layers = cast.run.layer_rows.get(point.name)
        if layers:
            patterns.setdefault(_pattern(layers), []).append(point)
    if not patterns:
        return None
    strips = tuple(_strip(cast, pattern, mates) for pattern, mates in list(patterns.items())[:MOST])
    more = len(patterns) - MOST
    kinds = list(dict.fromkeys(kind for pattern in patterns for kind, _ in pattern))
    return Card(
        "Layers, input at the left", (CALCULATED,), "A cell is a layer; a global one is the taller.",
        strips=strips, legend=bars.legend(kinds, SAID),
        notes=(f"{words.some(more, 'pattern')} more in the whole run's download.",) if more > 0 else (),
    )  # fmt: skip


def _pattern(layers: list[Record]) -> Pattern:
    return tuple((str(r["kind"]), r.get("window")) for r in layers)


def _strip(cast: Cast, pattern: Pattern, mates: list[Point]) -> Strip:
    everyone = len(mates) == len(cast.ok) and len(mates) > 1
    label = f"all {len(mates)} points" if everyone else words.listing([p.tag for p in mates[:4]])
    more = f" and {len(mates) - 4} more" if len(mates) > 4 and not everyone else ""
    kinds = [kind for kind, _ in pattern]
    return Strip(label + more, tuple(p.index for p in mates), len(kinds), _paths(kinds), _about(pattern))


def _paths(kinds: list[str]) -> tuple[tuple[str, str], ...]:
    """One outline a kind: CELL wide cells from the left, a global one the taller."""
    places: dict[str, list[int]] = {}
    for i, kind in enumerate(kinds):
        places.setdefault(kind, []).append(i)
    shape = {kind: "0h12v20" if kind == "global" else "5h12v10" for kind in places}
    return tuple(
        (palette.part_variable(kind), "".join(f"M{CELL * i} {shape[kind]}h-12z" for i in at))
        for kind, at in places.items()
    )


def _about(pattern: Pattern) -> str:
    """'42 layers: 21 local (window 4,096), 21 global'."""
    counts: dict[tuple[str, int | None], int] = {}
    for layer in pattern:
        counts[layer] = counts.get(layer, 0) + 1
    said = [f"{n} {kind}" + (f" (window {w:,})" if w else "") for (kind, w), n in counts.items()]
    return f"{len(pattern)} layers: {', '.join(said)}"
