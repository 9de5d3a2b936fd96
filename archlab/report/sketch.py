"""A small picture of a run for the gallery: bars, lines or verdicts as SVG, in the colours of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from archlab.report import beyond, fits, metrics, spreads, words
from archlab.report.family import FAMILY, like_the_first
from archlab.report.load import Record
from archlab.report.palette import Look, Pair, step
from archlab.report.points import Cast, Point, axis_rank

WIDE, HIGH = 340, 140
BASE = 110
"""Where the bars stand."""
MOST_BARS = 12
LETTER, BOLD = 5.8, 6.9
"""Px that a letter of a label is wide at most, on average."""


@dataclass(frozen=True)
class Sketch:
    """The picture, and what it shows in words."""

    svg: Markup
    caption: str


def sketch(cast: Cast) -> Sketch | None:
    """Verdicts where a run asks what fits many devices, bars over a shape's axis or precisions, else lines."""
    if not cast.ok:
        return None
    makers = (_generations, _verdicts, _precisions, _shapes, _lines)
    return next((found for make in makers if (found := make(cast))), None)


# ---------------------------------------------------------------- verdicts


def _verdicts(cast: Cast) -> Sketch | None:
    if not fits.asked(cast.run) or len(metrics.devices(cast.run)) < 4:
        return None
    at = fits.usual(cast.run)
    held, models = fits.grid(cast, at), fits.by_size(cast)
    wide, high = WIDE / len(held), HIGH / len(models)
    squares = [
        _square(x * wide, y * high, wide, high, held[device][p].word if p in held[device] else "none")
        for x, device in enumerate(held)
        for y, p in enumerate(models)
    ]
    said = "Each column a device, the smallest first, each row a model: green fits, orange is tight, pale does not fit"
    where = fits.at_words(cast.run, at) + beyond.note(cast.run, at["workload"], models)
    return _drawn(Markup("").join(squares), f"{said}, {where}.")


def _square(x: float, y: float, wide: float, high: float, word: str) -> Markup:
    return _rect(word, x + 1, y + 1, wide - 2, high - 2)


def _rect(kind: str, x: float, y: float, wide: float, high: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>').format(
        kind, x, y, wide, high
    )


def _label(x: float, y: float, text: str, anchor: str, kind: str = "label") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


# ---------------------------------------------------------------- bars


def _generations(cast: Cast) -> Sketch | None:
    """Of a family: the cache of a model of one size in each generation."""
    metric = spreads.cache(cast)
    alike = like_the_first(cast) if cast.run.meta["kind"] == FAMILY else {}
    if metric is None or not alike:
        return None
    known = {name: float(v) for name, p in alike.items() if (v := metric.of(cast.run, p)) is not None}
    first = next(iter(alike.values())).base
    where = beyond.where(cast.run, metric, alike.values())
    caption = f"{words.sentence(f'{metric.name} {where}')} of each generation's model nearest in size to {first}."
    sources = any(cast.run.value(p.name, "kv_source_bytes") for p in alike.values())
    caption += " An encoder-decoder's holds a source as long, too." * sources
    return _rows(known, metric.scale(known.values()), caption)


def _rows(values: Mapping[str, float], scale: words.Scale, caption: str) -> Sketch:
    """A bar a row, from zero, its name before it."""
    step, most = HIGH / len(values), max(values.values()) or 1.0
    room = max(map(len, values)) * BOLD + 8
    made = []
    for i, (name, value) in enumerate(values.items()):
        y, wide = i * step, (WIDE - room - 62) * value / most
        made.append(_label(room - 6, y + step / 2 + 3.5, name, "end"))
        made.append(_rect("stick", room, y + 2, max(wide, 1), step - 4))
        made.append(_label(room + wide + 5, y + step / 2 + 3.5, scale.full(value), "start", "value"))
    return _drawn(Markup("").join(made), caption)


def _precisions(cast: Cast) -> Sketch | None:
    """Memory in each precision of the first model."""
    run = cast.run
    if run.axes or len(metrics.precisions(run)) < 3:
        return None
    at = {**fits.usual(run), "hardware": metrics.roomiest(run)[0]}
    values = {p: run.value(cast.ok[0].name, "memory_bytes", **{**at, "precision": p}) for p in metrics.precisions(run)}
    known: dict[tuple[str, ...], float] = {(p,): float(v) for p, v in values.items() if v is not None}
    where = metrics.work_words(run, at["workload"]) + beyond.note(run, at["workload"], cast.ok[:1])
    return _bars(known, words.gib(known.values()), f"Memory of {cast.ok[0].base} at {where}, by precision.")


def _shapes(cast: Cast) -> Sketch | None:
    """The metric of the heading for each point of one base."""
    if not cast.run.axes:
        return None
    metric = spreads.candidates(cast)[0]
    mine = [p for p in cast.ok if p.base == cast.ok[0].base]
    mine = sorted(mine, key=lambda p: [axis_rank(a.values, p.values[a.key]) for a in cast.run.axes])
    known = {_tags(p): float(v) for p, v in metric.known(cast.run, mine).items()}
    usual = next((_tags(p) for p in mine if p.released), ())
    title = f"{metric.name} {beyond.where(cast.run, metric, mine)}".strip()
    caption = f"{words.sentence(title)}, by {spreads.turned(cast)}."
    return _bars(known, metric.scale(known.values()), caption, usual, cast.run.usual)


def _tags(point: Point) -> tuple[str, ...]:
    """The value of each axis, in short."""
    return tuple(words.axis_tag(v) for v in point.values.values())


def _bars(
    values: Mapping[tuple[str, ...], float],
    scale: words.Scale,
    caption: str,
    usual: tuple[str, ...] = (),
    called: str = "",
) -> Sketch | None:
    """A bar a value, from zero; the usual one in the accent's colour. The last name is its own, others are shared."""
    if not 2 <= len(values) <= MOST_BARS:
        return None
    step, most = WIDE / len(values), max(values.values()) or 1.0
    made = [_bar(i, step, v, most, scale, names == usual) for i, (names, v) in enumerate(values.items())]
    rule = Markup('<path class="rule" d="M0 {}H{}"/>').format(BASE, WIDE)
    said = [
        caption,
        f"In {scale.unit}." if scale.unit else "",
        f"The {called} shape is marked." if usual in values else "",
    ]
    return _drawn(Markup("").join([*made, rule, *_names([*values], step)]), " ".join(filter(None, said)))


def _bar(i: int, step: float, value: float, most: float, scale: words.Scale, marked: bool) -> Markup:
    high = (BASE - 18) * value / most
    bar = _rect("stick at" if marked else "stick", i * step + 3, BASE - high, step - 6, high)
    return bar + _text((i + 0.5) * step, BASE - high - 4, scale.show(value), step, "value")


def _names(names: Sequence[tuple[str, ...]], step: float) -> Iterator[Markup]:
    """Below each bar its own name, and below bars side by side what they share."""
    for i, own in enumerate(names):
        yield _text((i + 0.5) * step, BASE + 13, own[-1], step)
    start = 0
    for shared, mates in groupby(" · ".join(own[:-1]) for own in names):
        n = len(list(mates))
        yield _text((start + n / 2) * step, BASE + 26, shared, n * step)
        start += n


def _text(x: float, y: float, text: str, room: float, kind: str = "label") -> Markup:
    most = max(int(room / LETTER), 2)
    said = text if len(text) <= most else text[: most - 1] + "…"
    return _label(x, y, said, "middle", kind)


# ---------------------------------------------------------------- lines


def _lines(cast: Cast) -> Sketch | None:
    """The metric of the heading against the context, or the decode bound against the batch; a line a model.

    Of one model the decode bound against the context, a line a batch.
    """
    run, alone = cast.run, len(cast.ok) == 1
    batches, contexts = (len({w[k] for w in run.works.values()}) for k in ("batch", "context"))
    against = "batch" if batches > contexts else "context"
    metric = spreads.decode(cast) if alone or against == "batch" else spreads.candidates(cast)[0]
    if metric is None:
        return None
    at = {k: v for k, v in metric.at.items() if k != "workload"}
    rows = {p: [r for r in run.rows_at(p.name, **at) if r.get(metric.column)] for p in cast.ok}
    lines = _by_batch(rows, metric.column) if alone and batches > 1 else _by_model(rows, metric.column, against)
    values = [v for line in lines for _, v in line.places]
    if not values:
        return None
    reach = f"{metric.say(min(values))} to {metric.say(max(values))}"
    return _drawn(_all(lines), f"{words.sentence(metric.name)} against {against}, both on a log scale: {reach}.")


@dataclass(frozen=True)
class _Line:
    name: str
    look: Look
    places: list[tuple[float, float]]  # (what varies, the number there)


def _by_model(rows: Mapping[Point, Sequence[Record]], column: str, against: str) -> list[_Line]:
    """Where several rows are of one place, the least."""
    found = [_Line(p.base, p.look, _least(own, column, against)) for p, own in rows.items()]
    return [line for line in found if len(line.places) > 1]


def _by_batch(rows: Mapping[Point, Sequence[Record]], column: str) -> list[_Line]:
    every = [r for own in rows.values() for r in own]
    batches = sorted({r["batch"] for r in every})
    found = [_least([r for r in every if r["batch"] == b], column, "context") for b in batches]
    return [_Line(f"batch {b}", step(i, len(batches)), found[i]) for i, b in enumerate(batches) if len(found[i]) > 1]


def _least(rows: Sequence[Record], column: str, against: str) -> list[tuple[float, float]]:
    found: dict[float, float] = {}
    for row in rows:
        found[row[against]] = min(row[column], found.get(row[against], math.inf))
    return sorted(found.items())


def _all(lines: Sequence[_Line]) -> Markup:
    names = [_cut(line.name) for line in lines] if len(lines) > 1 else []
    end = WIDE - (max(map(len, names)) * BOLD + 8 if names else 6)
    x = _place([x for line in lines for x, _ in line.places], 6, end)
    y = _place([y for line in lines for _, y in line.places], HIGH - 10, 10)
    drawn = [_path(line.look, [(x(a), y(b)) for a, b in line.places]) for line in lines]
    at = _apart([y(line.places[-1][1]) for line in lines])
    said = [_end(end + 6, at[i], name, lines[i].look) for i, name in enumerate(names)]
    return Markup("").join([Markup('<path class="rule" d="M0 {}H{:.0f}"/>').format(HIGH - 4, end), *drawn, *said])


def _cut(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"


def _place(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = math.log(min(values)), math.log(max(values))
    return lambda v: start + (end - start) * ((math.log(v) - low) / (high - low) if high > low else 0.5)


def _path(look: Look, places: Sequence[tuple[float, float]]) -> Markup:
    d = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return Markup('<path class="line" style="{}" d="M{}"/>').format(_both(look.line), d)


def _end(x: float, y: float, name: str, look: Look) -> Markup:
    return Markup('<text class="end" style="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
        _both(look.text), x, y + 3.5, name
    )


def _both(pair: Pair) -> str:
    return f"--l:{pair[0]};--d:{pair[1]}"


def _apart(at: Sequence[float], gap: float = 13) -> dict[int, float]:
    """Labels pushed apart, none below the picture: which -> where."""
    order = sorted(range(len(at)), key=lambda i: at[i])
    found: dict[int, float] = {}
    for n, i in enumerate(order):
        found[i] = max(at[i], found[order[n - 1]] + gap) if n else at[i]
    for n, i in enumerate(reversed(order)):
        found[i] = min(found[i], HIGH - 8 - n * gap)
    return found


def _drawn(inside: Markup, caption: str) -> Sketch:
    svg = Markup('<svg class="sketch" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return Sketch(svg.format(WIDE, HIGH, caption, inside), caption)
