"""The sentences of a report, made from its numbers: the heading, the lines below it, the big numbers.

Nothing here is typed for a study: a sentence compares the least, the released and the largest of a metric, and says
so when they do not differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from archlab import units
from archlab.report import metrics, words
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.parts import BOUND, CALCULATED, Finding
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
    """What a heading may be about: the cache if it changes, else what changes most."""
    work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
    known = [m for m in (_cache(cast), _decode(cast), metrics.PARAMS, *work) if m and m.known(cast.run, cast.ok)]
    ratios = {m.key: max((s.ratio for s in _by_base(cast, m) if s), default=1.0) for m in known}
    if known and known[0].column == "kv_cache_bytes" and ratios[known[0].key] >= CLEAR:
        return known
    return sorted(known, key=lambda m: -ratios[m.key])


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
    if metric is metrics.PARAMS:
        return f"{metric.say(value)} parameters"
    least, joint = ("at least ", "for a") if metric.tag == BOUND else ("", "of" if metric.scale is words.gib else "for a")
    name = metric.name if metric.scale is words.gib else metric.name.lower()
    return f"{least}{metric.say(value)} {joint} {name} {metric.where}".strip()


def _study(cast: Cast) -> str:
    metric = _candidates(cast)[0]
    spreads = [s for s in _by_base(cast, metric) if s]
    if max(s.ratio for s in spreads) < CLEAR:
        return f"{_turned(cast)} changes neither cache nor time nor size by more than {words.percent(CLEAR - 1)}"
    return _one_base(cast, spreads[0]) if len(spreads) == 1 else _many_bases(cast, metric, spreads)


def _by_base(cast: Cast, metric: Metric) -> list[Spread | None]:
    """The spread over the points of each base; a comparison has one spread over all."""
    bases = dict.fromkeys(p.base for p in cast.ok) if cast.run.is_study else [None]
    return [spread(cast, metric, [p for p in cast.ok if b in (p.base, None)]) for b in bases]


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
    title = f"{of.metric.noun}{whose} {of.metric.where}".strip()
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


def _many_bases(cast: Cast, metric: Metric, spreads: Sequence[Spread]) -> str:
    """'With window 512, the KV cache at 128k tokens is 4.2 times smaller than released for A and 26 % smaller for B'."""
    gains = _gains(spreads)
    best = {tuple(s.least.values.items()) for s, _ in gains[:2]}
    start = f"With {_axes_of(cast, gains[0][0].least)}, the" if len(best) == 1 else "The"
    against = "released" if all(s.released for s, _ in gains) else "the largest"
    can, is_ = ("", "are" if metric is metrics.PARAMS else "is") if len(best) == 1 else ("can ", "be")
    said = [f"{words.less(g, metric.less)} for {s.least.base}" for s, g in gains[:2]]
    said[0] = said[0].replace(" for ", f" than {against} for ", 1)
    more = f", and less so for {words.some(len(gains) - 2, 'other')}" if len(gains) > 2 else ""
    return f"{start} {metric.noun} {metric.where} {can}{is_} ".replace("  ", " ") + words.listing(said) + more


def _gains(spreads: Sequence[Spread]) -> list[tuple[Spread, float]]:
    """(spread of a base, released over least), the greatest gain first."""
    found = [(s, s.values[s.released or s.most] / s.values[s.least]) for s in spreads if s.values[s.least]]
    return sorted(found, key=lambda gain: -gain[1])


def _axes_of(cast: Cast, point: Point) -> str:
    return ", ".join(f"{a.label} {words.axis_value(point.values[a.key])}" for a in cast.run.axes)


def _comparison(cast: Cast) -> str:
    metric = _candidates(cast)[0]
    of = spread(cast, metric)
    assert of is not None
    pair = _alike(cast, of)
    if pair:
        small, large, ratio = pair
        start = words.sentence(metric.where) + " the" if metric.where else "The"
        size = words.less(ratio, metric.less)
        return f"{start} {metric.noun} of {small.base} is {size} than that of {large.base}, a model of its size"
    if of.ratio < CLEAR:
        return f"All {len(of.values)} models need the same: {_amount(metric, of.values[of.least])}"
    least, most = of.least.base, of.most.base
    return f"{most} needs {_amount(metric, of.values[of.most])}, {words.times(of.ratio)} times as much as {least}"


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
    """Three numbers: the cache, a decode step's bound, and the parameters or what fits; what the run lacks is left out."""
    if not cast.ok:
        return ()
    work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
    wanted = [_cache(cast), _decode(cast) or next(iter(work), None), metrics.PARAMS]
    cards = [_about(cast, m) for m in wanted if m and m.known(cast.run, cast.ok)]
    growth = None if cast.run.is_study else _growth(cast)
    sizes = [s for s in _by_base(cast, metrics.PARAMS) if s]
    room = None if cast.run.is_study and any(s.ratio >= CLEAR for s in sizes) else _room(cast)
    return ((growth,) if growth else tuple(cards[:1])) + tuple(cards[1:2]) + ((room,) if room else tuple(cards[2:]))


def _about(cast: Cast, metric: Metric) -> Finding:
    """One metric: the least against the released and the largest; the gains where a study has several bases."""
    spreads = [s for s in _by_base(cast, metric) if s]
    of = spread(cast, metric)
    assert of is not None
    return _finding(cast, of) if len(spreads) == 1 else _gain(cast, metric, spreads)


def _gain(cast: Cast, metric: Metric, spreads: Sequence[Spread]) -> Finding:
    """'4.2 times smaller than released is the KV cache of gemma-2-9b at 128k tokens with window 512: ...'."""
    gains = _gains(spreads)
    best, ratio = gains[0]
    if ratio < 1.005:
        text = escape(f"is all that {_turned(cast)} can take off the {metric.noun} {metric.where}".strip() + ".")
        return Finding("0", "%", text, metric.tag)
    number, _, unit = words.less(ratio, metric.less).partition(" ")
    start = best.released or best.most
    verb = "are" if metric is metrics.PARAMS else "is"
    text = escape(f"than {'released' if best.released else 'the largest'} {verb} the {metric.noun} ")
    text += escape("of ") + _strong(best.least.base) + escape(f" {metric.where} with ".replace("  ", " "))
    text += _strong(_axes_of(cast, best.least))
    text += escape(f": {best.say(best.least)}, not {best.say(start)}")
    rest = [f"{s.least.base} {words.less(g, metric.less)}" for s, g in gains[1:4]]
    return Finding(number, unit, text + escape("; ".join(["", *rest]) + "."), metric.tag)


def _strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)


def _what(metric: Metric, whose: Markup) -> Markup:
    """'is the KV cache with n_kv_heads 1 at 128k tokens', the point in bold."""
    if metric.tag == BOUND:
        return escape(f"is the least that a {metric.name.lower()} ") + whose + escape(f" can take {metric.where}")
    verb = "are the" if metric is metrics.PARAMS else "is the"
    return escape(f"{verb} {metric.noun} ") + whose + escape(f" {metric.where}" if metric.where else "")


def _finding(cast: Cast, of: Spread) -> Finding:
    """The least, then the released and the largest where they are others."""
    number, unit = words.split(of.say(of.least))
    joint = "with " if cast.run.axes else "of "
    text = _what(of.metric, escape(joint) + _strong(of.least.short))
    if len(of.values) > 1 and of.ratio < 1.005:
        same = "the same" if of.ratio == 1 else f"within {words.percent(of.ratio - 1)}"
        text += escape(f", {same} at all {len(of.values)} points")
    elif len(of.values) > 1:
        text += _against(of)
    return Finding(number, unit, text + escape("."), of.metric.tag)


def _against(of: Spread) -> Markup:
    """'; released: 21.66 GiB; the most: n_kv_heads 16, 43.31 GiB'."""
    text = Markup("")
    released = of.released if len({p.base for p in of.values}) == 1 else None
    if released is of.least:
        text += escape(", the released shape")
    elif released is not None:
        text += escape(f"; released: {of.say(released)}")
    if of.most is not released:
        text += escape("; the most: ") + _strong(of.most.tag) + escape(f", {of.say(of.most)}")
    return text


def _room(cast: Cast) -> Finding | None:
    """How many points leave room on the smallest device that not all of them fill, or that not all fit."""
    run, reach = cast.run, metrics.longest(cast.run)
    at = {"workload": reach, "precision": next(iter(metrics.precisions(run)), None)}
    parts = {p: [run.value(p.name, c, **at) for c in ("weights_bytes", "kv_cache_bytes")] for p in cast.ok}
    needs = {p: sum(found) for p, found in parts.items() if None not in found}
    known = sorted((d["memory_bytes"], name) for name, d in run.meta["hardware"].items() if d.get("memory_bytes"))
    for memory, name in known:
        inside = [p for p in needs if needs[p] <= memory]
        if 0 < len(inside) < len(needs):
            where = f"at {metrics.work_words(run, reach)} within the {units.show_gib(memory)} of"
            text = escape(f"keep weights and KV cache {where} {metrics.device_title(run, name)}, activations aside: ")
            return Finding(str(len(inside)), f"of {len(needs)}", text + _strong(_few(inside)) + escape("."), CALCULATED)
    return None


def _few(points: Sequence[Point]) -> str:
    """All names, or four and how many more."""
    more = [f"{len(points) - 4} more"] if len(points) > 5 else []
    return words.listing([p.tag for p in (points[:4] if more else points)] + more)


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
