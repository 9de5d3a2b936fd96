"""The sentences of a report, made from its numbers: the heading, the lines below it, the big numbers.

Nothing here is typed for a study: a sentence compares the least, the released and the largest of a metric, and says
so when they do not differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from archlab.report import metrics, words
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.parts import BOUND, Finding
from archlab.report.points import Cast, Point, axis_rank

CLEAR = 1.05
"""Ratios nearer to one than this are not worth a heading."""
ALIKE = 1.25
"""Models within this ratio of parameters are compared as of one size."""


@dataclass(frozen=True)
class Spread:
    """A metric over some points: the least, the largest, and the released shape where it is there."""

    metric: Metric
    values: dict[Point, float]

    @property
    def least(self) -> Point:
        """The first of the smallest."""
        return min(self.values, key=lambda p: self.values[p])

    @property
    def most(self) -> Point:
        """The first of the largest."""
        return max(self.values, key=lambda p: self.values[p])

    @property
    def released(self) -> Point | None:
        """The released shape, if it has the number."""
        return next((p for p in self.values if p.released), None)

    @property
    def ratio(self) -> float:
        """Largest over least."""
        low = self.values[self.least]
        return self.values[self.most] / low if low else 1.0

    def say(self, point: Point) -> str:
        """The number of a point with its unit."""
        return self.metric.say(self.values[point])


def spread(cast: Cast, metric: Metric | None, points: Sequence[Point] | None = None) -> Spread | None:
    """The metric over the points that have it; None where none has."""
    values = metric.known(cast.run, cast.ok if points is None else points) if metric else {}
    return Spread(metric, values) if metric and values else None


def _cache(cast: Cast) -> Metric | None:
    """The cache at the longest workload."""
    reach = metrics.longest(cast.run)
    return next((m for m in metrics.kv_cache(cast.run) if m.at["workload"] == reach), None)


def _decode(cast: Cast) -> Metric | None:
    """The decode bound at the longest workload, on the first device that has one."""
    reach = metrics.longest(cast.run)
    found = (m for m in metrics.bounds(cast.run, "decode") if m.at["workload"] == reach)
    return next((m for m in found if m.known(cast.run, cast.ok)), None)


def _candidates(cast: Cast) -> list[Metric]:
    """What a heading may be about, the most wanted first."""
    work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
    return [m for m in (_cache(cast), _decode(cast), metrics.PARAMS, *work) if m and m.known(cast.run, cast.ok)]


# ---------------------------------------------------------------- the heading


def headline(cast: Cast) -> str:
    """The finding, in a sentence."""
    if not cast.ok:
        return f"No point of {cast.run.meta['name']} could be computed"
    if not _candidates(cast):
        return cast.run.meta["question"] or cast.run.meta["name"]
    if len(cast.ok) == 1:
        return _alone(cast)
    return _study(cast) if cast.run.is_study else _comparison(cast)


def _alone(cast: Cast) -> str:
    point = cast.ok[0]
    name = point.base if point.short.startswith(point.base) or not cast.run.axes else f"{point.base} with {point.short}"
    metric = _candidates(cast)[0]
    verb = {"kv_cache_bytes": "keeps", "params": "has"}.get(metric.column, "takes")
    return f"{name} {verb} {_amount(metric, metric.of(cast.run, point))}"


def _amount(metric: Metric, value: float) -> str:
    """'2.71 GiB of KV cache at 128k tokens', '9.24 B parameters', 'at least 4.3 ms for a decode step at ...'."""
    if metric.tag == BOUND:
        return f"at least {metric.say(value)} for a {metric.noun} {metric.where}"
    joint = " of " if metric.column == "kv_cache_bytes" else " "
    name = metric.noun
    return f"{metric.say(value)}{joint}{name} {metric.where}".strip()


def _study(cast: Cast) -> str:
    candidates = _candidates(cast)
    bases = list(dict.fromkeys(p.base for p in cast.ok))
    found = [m for m in candidates if any(s and s.ratio >= CLEAR for s in _by_base(cast, m, bases))]
    if not found:
        return f"{_turned(cast)} changes neither cache nor time nor size by more than {words.percent(CLEAR - 1)}"
    first = spread(cast, found[0])
    return _one_base(cast, first) if len(bases) == 1 and first else _many_bases(cast, found[0], bases)


def _by_base(cast: Cast, metric: Metric, bases: Sequence[str]) -> list[Spread | None]:
    return [spread(cast, metric, [p for p in cast.ok if p.base == b]) for b in bases]


def _turned(cast: Cast) -> str:
    return words.listing([a.label for a in cast.run.axes]) or cast.run.meta["name"]


def _one_base(cast: Cast, first: Spread) -> str:
    """'With n_kv_heads 1 instead of 8, the KV cache of gemma-2-9b at 128k tokens falls from 21.7 to 2.7 GiB'."""
    start, end = _ends(first)
    return f"With {_instead(cast, end, start)}, the {_change(first, start, end, f' of {start.base}')}"


def _ends(of: Spread) -> tuple[Point, Point]:
    """From the released shape to the least; to the largest where the released one is the least."""
    start, end = of.released or of.most, of.least
    return (start, end) if of.values[start] > of.values[end] * CLEAR else (start, of.most)


def _aside(cast: Cast) -> list[str]:
    """What else changes between the two shapes of the heading, in a sentence."""
    bases = {p.base for p in cast.ok}
    found = [s for s in (spread(cast, m) for m in _candidates(cast)) if s]
    clear = [s for s in found if s.ratio >= CLEAR]
    if len(bases) != 1 or len(cast.ok) < 2 or not clear or not cast.run.is_study:
        return []
    start, end = _ends(clear[0])
    rest = [s for s in found if s is not clear[0] and start in s.values and end in s.values]
    rest = [s for s in rest if s.metric is not metrics.PARAMS]
    return [words.sentence(f"the {_change(s, start, end)}.") for s in rest[:1]]


def _change(of: Spread, start: Point, end: Point, whose: str = "") -> str:
    a, b = of.values[start], of.values[end]
    name = f"bound on a {of.metric.noun}" if of.metric.tag == BOUND else of.metric.noun
    title = f"{name}{whose} {of.metric.where}".strip()
    plural = of.metric is metrics.PARAMS
    if max(a, b) < min(a, b) * 1.005:
        return f"{title} {'stay' if plural else 'stays'} at {of.metric.say(b)}"
    verb = ("fall" if b < a else "rise") + ("" if plural else "s")
    return f"{title} {verb} from {_from_to(of.metric.say(a), of.metric.say(b))}"


def _from_to(a: str, b: str) -> str:
    """'21.66 to 2.71 GiB': the unit once where it is the same."""
    (x, unit), (_, other) = words.split(a), words.split(b)
    return f"{x} to {b}" if unit == other else f"{a} to {b}"


def _instead(cast: Cast, end: Point, start: Point) -> str:
    """'n_kv_heads 1 instead of 8': the axes on which two points differ."""
    apart = [a for a in cast.run.axes if end.values[a.key] != start.values[a.key]]
    said = [
        f"{a.label} {words.axis_value(end.values[a.key])} instead of {words.axis_value(start.values[a.key])}"
        for a in apart
    ]
    return words.listing(said) or end.short


def _many_bases(cast: Cast, metric: Metric, bases: Sequence[str]) -> str:
    """'The least KV cache at 128k tokens is 8.0 times smaller than released for A (window 512) and ...'."""
    found = [s for s in _by_base(cast, metric, bases) if s]
    gains = [(s, s.values[s.released or s.most] / s.values[s.least]) for s in found if s.values[s.least]]
    gains = sorted(gains, key=lambda g: -g[1])
    against = "released" if all(s.released for s, _ in gains) else "the largest"
    name = metric.noun
    name = f"bound on a {name}" if metric.tag == BOUND else name
    said = [
        f"{words.times(g)} times below {against} for {s.least.base} ({_axes_of(cast, s.least)})" for s, g in gains[:2]
    ]
    more = f", and less so for {words.some(len(gains) - 2, 'other')}" if len(gains) > 2 else ""
    verb = "are" if metric is metrics.PARAMS else "is"
    return f"The least {name} {metric.where} {verb} ".replace("  ", " ") + words.listing(said) + more


def _axes_of(cast: Cast, point: Point) -> str:
    return ", ".join(f"{a.label} {words.axis_value(point.values[a.key])}" for a in cast.run.axes)


def _comparison(cast: Cast) -> str:
    metric = _candidates(cast)[0]
    of = spread(cast, metric)
    assert of is not None
    pair = _alike(cast, of)
    if pair:
        small, large, ratio = pair
        name = metric.noun
        return (f"{sentence_where(metric)}the {name} of {small.base} is {words.times(ratio)} times smaller than that of "
                f"{large.base}, a model of its size")  # fmt: skip
    if of.ratio < CLEAR:
        return f"All {len(of.values)} models need the same: {_amount(metric, of.values[of.least])}"
    return (f"{of.most.base} needs {_amount(metric, of.values[of.most])}, {words.times(of.ratio)} times as much as "
            f"{of.least.base}")  # fmt: skip


def sentence_where(metric: Metric) -> str:
    """'At 128k tokens ' to begin a sentence, or nothing."""
    return words.sentence(metric.where) + " " if metric.where else ""


def _alike(cast: Cast, of: Spread) -> tuple[Point, Point, float] | None:
    """Of the models within a quarter of one another's size, the two whose metric differs most."""
    sizes = metrics.PARAMS.known(cast.run, of.values)
    best: tuple[Point, Point, float] | None = None
    for a in sizes:
        for b in sizes:
            near = sizes[a] <= sizes[b] * ALIKE and sizes[b] <= sizes[a] * ALIKE
            ratio = of.values[b] / of.values[a] if of.values[a] else 0
            if near and ratio >= 1.15 and (best is None or ratio > best[2]):
                best = (a, b, ratio)
    return best


# ---------------------------------------------------------------- the lines below it


def lede(cast: Cast) -> str:
    """What else follows, what was compared, what was held, at which workloads and on which devices."""
    question = [cast.run.meta["question"]] if cast.run.meta["question"] else []
    shapes = _study_lede(cast) if cast.run.is_study else _compare_lede(cast)
    return " ".join([*_aside(cast), *question, *shapes, _conditions(cast)])


def _study_lede(cast: Cast) -> list[str]:
    bases = list(dict.fromkeys(p.base for p in cast.all))
    turned = ", ".join(f"{a.label} {words.listing(_worked(cast, a))}" for a in cast.run.axes)
    shapes = words.sentence(words.some(len(cast.ok), "shape")) + f" of {words.listing(bases)}"
    return [shapes + (f": {turned}" if turned else "") + _lost(cast) + ".", *_held(cast)]


def _worked(cast: Cast, axis: Axis) -> list[str]:
    """The values of an axis that have a point with numbers."""
    there = {p.values[axis.key] for p in cast.ok}
    return [words.axis_value(v) for v in sorted(there, key=lambda v: axis_rank(axis.values, v))]


def _lost(cast: Cast) -> str:
    lost = [p for p in cast.all if not p.ok]
    if not lost:
        return ""
    said = words.listing(list(dict.fromkeys(p.status for p in lost)))
    return f"; {words.some(len(lost), 'other', 'others')} {'was' if len(lost) == 1 else 'were'} {said}"


def _held(cast: Cast) -> list[str]:
    held = cast.run.meta.get("hold")
    if not held:
        return []
    off = [abs(cast.run.value(p.name, "hold_residual") or 0) for p in cast.ok]
    what = {"params": "its base's parameters", "flops": "its base's FLOPs"}.get(held, f"its base's {held}")
    multiple = cast.run.meta.get("hold_multiple")
    steps = f", in steps of {multiple}," if multiple else ""
    within = f", within {words.percent(max(off))}" if max(off, default=0) else " exactly"
    return [f"Each keeps {what}{within}: mlp.d_ff{steps} pays."]


def _compare_lede(cast: Cast) -> list[str]:
    of = spread(cast, metrics.PARAMS)
    if of is None:
        return [words.sentence(words.some(len(cast.ok), "model")) + "."]
    ends = f", from {of.say(of.least)} to {of.say(of.most)} parameters" if of.ratio > 1 else ""
    return [words.sentence(words.some(len(cast.ok), "model")) + ends + "."]


def _conditions(cast: Cast) -> str:
    works = [metrics.work_words(cast.run, w) for w in metrics.by_reach(cast.run)]
    on = [metrics.device_title(cast.run, h) for h in metrics.devices(cast.run)]
    devices = f" on {words.listing(on)}" if 0 < len(on) <= 3 else f" on {len(on)} devices" if on else ""
    return f"Computed at {words.listing(works)}{devices}, in {words.listing(metrics.precisions(cast.run))}."


# ---------------------------------------------------------------- the big numbers


def findings(cast: Cast) -> tuple[Finding, ...]:
    """Three numbers: the cache, a decode step's bound, the parameters; what the run lacks is left out."""
    if not cast.ok:
        return ()
    first = None if cast.run.is_study else _growth(cast)
    cache = spread(cast, _cache(cast))
    cards = [first or (_finding(cast, cache) if cache else None)]
    cards += [_finding(cast, of) for of in (spread(cast, _decode(cast)), spread(cast, metrics.PARAMS)) if of]
    if len(cards) < 3:
        work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
        cards += [_finding(cast, of) for of in (spread(cast, m) for m in work) if of]
    return tuple(c for c in cards if c)


def _strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)


def _what(metric: Metric) -> str:
    if metric.tag == BOUND:
        return f"is the least a {metric.noun} {metric.where} can take"
    name = metric.noun
    return f"{'are the' if metric is metrics.PARAMS else 'is the'} {name} {metric.where}".strip()


def _finding(cast: Cast, of: Spread) -> Finding:
    """The least, then the released and the largest where they are others."""
    number, unit = words.split(of.say(of.least))
    text = escape(_what(of.metric))
    if len(of.values) == 1:
        return Finding(number, unit, text + escape(" of ") + _strong(of.least.tag) + ".", of.metric.tag)
    if of.ratio < 1.005:
        same = "the same" if of.ratio == 1 else f"within {words.percent(of.ratio - 1)}"
        return Finding(number, unit, text + escape(f", {same} at all {len(of.values)} points."), of.metric.tag)
    text += escape(" with " if cast.run.is_study else " of ") + _strong(of.least.short)
    released = of.released if len({p.base for p in of.values}) == 1 else None
    if released is of.least:
        text += escape(", the released shape")
    elif released is not None:
        text += escape(f"; released: {of.say(released)}")
    if of.most is not released:
        text += escape("; the most: ") + _strong(of.most.tag) + escape(f", {of.say(of.most)}")
    return Finding(number, unit, text + escape("."), of.metric.tag)


def _growth(cast: Cast) -> Finding | None:
    """Bytes by which the cache grows for each further token, at the long end of the curves."""
    growth: dict[Point, float] = {}
    for point in cast.ok:
        rows = cast.run.curve_rows.get(point.name, [])[-2:]
        if len(rows) == 2:
            growth[point] = (rows[1]["kv_cache_bytes"] - rows[0]["kv_cache_bytes"]) / (
                rows[1]["context"] - rows[0]["context"]
            )
    if len(growth) < 2:
        return None
    metric = Metric("kv_cache_bytes", "KV cache", "a token", words.gib)
    of = Spread(metric, growth)
    number, unit = words.split(of.say(of.least))
    text = (
        escape("is what the cache of ")
        + _strong(of.least.tag)
        + escape(" grows by for each further token, the least; ")
    )
    text += escape("the most: ") + _strong(of.most.tag) + escape(f", {of.say(of.most)}.")
    return Finding(number, unit, text, metric.tag)
