"""The heading of a report and the lines below it, made from its numbers.

Nothing here is typed for a study: a sentence compares the least, the released and the largest of the metric that
changes, and says so when nothing does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archlab import units
from archlab.report import fits, growth, large, metrics, spreads, words
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.objectives import aims
from archlab.report.parts import BOUND
from archlab.report.points import Cast, Point, axis_rank
from archlab.report.spreads import CLEAR, Spread

MOST = 6
"""So many workloads are named one by one."""


def headline(cast: Cast) -> str:
    """The finding, in a sentence."""
    if not cast.ok:
        return f"No point of {cast.run.meta['name']} could be computed"
    if cast.run.is_thinned and (said := large.headline(cast)):
        return said
    if fits.asked(cast.run) and (said := _fitting(cast)):
        return said
    if not spreads.candidates(cast):
        return cast.run.meta["question"] or cast.run.meta["name"]
    if len(cast.ok) == 1:
        return _alone(cast)
    return _study(cast) if cast.run.is_study else _comparison(cast)


def _fitting(cast: Cast) -> str:
    """'With 32k tokens in q4_k_m, gemma-4-31b fits from NVIDIA L4 24GB up, and gemma-4-e4b from Jetson ... up'."""
    at = fits.usual(cast.run)
    best = {device: fits.largest(held) for device, held in fits.grid(cast, at).items()}
    held = [(device, point) for device, point in best.items() if point is not None]
    if not held:
        return f"{words.sentence(fits.at_words(cast.run, at))}, no model fits any of the devices"
    most = fits.by_size(cast).index
    top = max((p for _, p in held), key=most)
    ends = [next((d, p) for d, p in held if p is top), held[0]]
    said = [f"{p.tag} {_from(cast, p, d, at)}" for d, p in dict.fromkeys(ends)]
    return f"{words.sentence(fits.at_words(cast.run, at))}, {words.listing(said)}"


def _from(cast: Cast, point: Point, device: str, at: Mapping[str, str | None]) -> str:
    """'fits from NVIDIA L4 24GB up', or 'fits NVIDIA L4 24GB' where some larger device does not hold it."""
    order = fits.by_room(cast.run)
    larger = [fits.verdict(cast.run, point, {**at, "hardware": d}) for d in order[order.index(device) + 1 :]]
    title = metrics.device_title(cast.run, device)
    return f"fits from {title} up" if larger and all(v and v.fits for v in larger) else f"fits {title}"


def _alone(cast: Cast) -> str:
    if grown := growth.heading(cast):
        return grown
    point = cast.ok[0]
    name = point.base if point.short.startswith(point.base) or not cast.run.axes else f"{point.base} with {point.short}"
    metric = spreads.candidates(cast)[0]
    verb = {"kv_cache_bytes": "keeps", "params": "has"}.get(metric.column, "takes")
    return f"{name} {verb} {_amount(metric, metric.of(cast.run, point))}"


def _amount(metric: Metric, value: float) -> str:
    """'2.71 GiB of KV cache at 128k tokens', '9.24 B parameters', 'at least 4.3 ms for a decode step at ...'."""
    if metric is metrics.PARAMS:
        return f"{metric.say(value)} parameters"
    if metric.scale is words.gib:
        return f"{metric.say(value)} of {metric.name} {metric.where}"
    least = "at least " if metric.tag == BOUND else ""
    return f"{least}{metric.say(value)} for a {metric.name.lower()} {metric.where}"


def _study(cast: Cast) -> str:
    metric = spreads.candidates(cast)[0]
    each = [s for s in spreads.by_base(cast, metric) if s]
    if max(s.ratio for s in each) < CLEAR:
        return f"{spreads.turned(cast)} changes neither cache nor time nor size by more than {words.percent(CLEAR - 1)}"
    return _one_base(cast, each[0]) if len(each) == 1 else _many_bases(cast, metric, each)


def _one_base(cast: Cast, first: Spread) -> str:
    """'With n_kv_heads 1 instead of 8, the KV cache of gemma-2-9b at 128k tokens falls from 21.7 to 2.7 GiB'."""
    start, end = _ends(first)
    return f"With {_instead(cast, end, start)}, the {_change(first, start, end, f' of {start.base}')}"


def _ends(of: Spread) -> tuple[Point, Point]:
    """From the released shape to the least; to the largest where the released one is the least."""
    start, end = of.released or of.most, of.least
    return (start, end) if of.values[start] > of.values[end] * CLEAR else (start, of.most)


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


def _many_bases(cast: Cast, metric: Metric, each: Sequence[Spread]) -> str:
    """'With window 512, the KV cache at 128k tokens is 4.2 times smaller than released for A and ... for B'."""
    gains = spreads.gains(each)
    best = {tuple(s.least.values.items()) for s, _ in gains[:2]}
    start = f"With {spreads.axes_of(cast, gains[0][0].least)}, the" if len(best) == 1 else "The"
    against = "released" if all(s.released for s, _ in gains) else "the largest"
    can, is_ = ("", "are" if metric is metrics.PARAMS else "is") if len(best) == 1 else ("can ", "be")
    said = [f"{words.less(g, metric.less)} for {s.least.base}" for s, g in gains[:2]]
    said[0] = said[0].replace(" for ", f" than {against} for ", 1)
    more = f", and less so for {words.some(len(gains) - 2, 'other')}" if len(gains) > 2 else ""
    return f"{start} {metric.noun} {metric.where} {can}{is_} ".replace("  ", " ") + words.listing(said) + more


def _comparison(cast: Cast) -> str:
    metric = spreads.candidates(cast)[0]
    of = spreads.spread(cast, metric)
    assert of is not None
    pair = spreads.alike(cast, of)
    if pair:
        small, large, ratio = pair
        start = words.sentence(metric.where) + " the" if metric.where else "The"
        size = words.less(ratio, metric.less)
        return f"{start} {metric.noun} of {small.base} is {size} than that of {large.base}, a model of its size"
    if of.ratio < CLEAR:
        return f"All {len(of.values)} models need the same: {_amount(metric, of.values[of.least])}"
    least, most = of.least.base, of.most.base
    return f"{most} needs {_amount(metric, of.values[of.most])}, {words.times(of.ratio)} times as much as {least}"


def lede(cast: Cast) -> str:
    """What else follows, what was compared, what was held, at which workloads and on which devices."""
    question = [cast.run.meta["question"]] if cast.run.meta["question"] else []
    shapes = _study_lede(cast) if cast.run.is_study else _compare_lede(cast)
    if cast.run.is_thinned:
        return " ".join([*question, *large.shapes(cast), *_without(cast), *_held(cast), _conditions(cast)])
    return " ".join([*_aside(cast), *question, *shapes, _conditions(cast)])


def _aside(cast: Cast) -> list[str]:
    """What else changes between the two shapes of the heading, in a sentence."""
    if not cast.run.is_study:
        return _turn(cast)
    bases = {p.base for p in cast.ok}
    found = [s for s in (spreads.spread(cast, m) for m in spreads.candidates(cast)) if s]
    clear = [s for s in found if s.ratio >= CLEAR]
    if len(bases) != 1 or len(cast.ok) < 2 or not clear:
        return []
    start, end = _ends(clear[0])
    rest = [s for s in found if s is not clear[0] and start in s.values and end in s.values]
    rest = [s for s in rest if s.metric is not metrics.PARAMS]
    return [words.sentence(f"the {_change(s, start, end)}.") for s in rest[:1]]


def _turn(cast: Cast) -> list[str]:
    """Where short contexts turn round what the heading of a comparison says about the cache."""
    of = spreads.spread(cast, spreads.cache(cast))
    pair = spreads.alike(cast, of) if of else None
    if pair is None:
        return []
    small, large = ({r["context"]: r["kv_cache_bytes"] for r in cast.run.curve_rows.get(p.name, [])} for p in pair[:2])
    turned = [c for c in small if c in large and small[c] > large[c]]
    return [f"At {units.show_tokens(max(turned))} tokens it is the other way round."] if turned else []


def _study_lede(cast: Cast) -> list[str]:
    bases = list(dict.fromkeys(p.base for p in cast.all))
    turned = ", ".join(f"{a.label} {words.listing(_worked(cast, a))}" for a in cast.run.axes)
    shapes = words.sentence(words.some(len(cast.ok), "shape")) + f" of {words.listing(bases)}"
    more = len(cast.run.rows) - len(cast.all)
    left = f" {more:,} more are in {_elsewhere(cast)}." if more else ""
    return [shapes + (f": {turned}" if turned else "") + _lost(cast) + f".{left}", *_held(cast)]


def _elsewhere(cast: Cast) -> str:
    """Where the points are that have neither line nor row."""
    return "the picture of the front and in the downloads" if aims(cast.run) else "the downloads alone"


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


def _without(cast: Cast) -> list[str]:
    """How many rows of a large run do not stand."""
    lost = {k: n for k, n in cast.run.statuses.items() if k != "ok"}
    said = words.listing([f"{n:,} {status}" for status, n in lost.items()])
    return [f"Of its rows {said}."] if lost else []


def _held(cast: Cast) -> list[str]:
    held = cast.run.meta.get("hold")
    if not held:
        return []
    off = [abs(cast.run.value(p.name, "hold_residual") or 0) for p in cast.ok]
    what = {"params": "parameters", "flops": "FLOPs", "kv_cache": "KV cache", "memory": "memory"}.get(held, held)
    what = f"its base's {what}"
    multiple = cast.run.meta.get("hold_multiple")
    steps = f", in steps of {multiple}," if multiple else ""
    within = f", within {words.percent(max(off))}" if max(off, default=0) else " exactly"
    return [f"Each keeps {what}{within}: {cast.run.meta.get('hold_by') or 'mlp.d_ff'}{steps} pays."]


def _compare_lede(cast: Cast) -> list[str]:
    of = spreads.spread(cast, metrics.PARAMS)
    if of is None:
        return [words.sentence(words.some(len(cast.ok), "model")) + "."]
    ends = f", from {of.say(of.least)} to {of.say(of.most)} parameters" if of.ratio > 1 else ""
    return [words.sentence(words.some(len(cast.ok), "model")) + ends + "."]


def _conditions(cast: Cast) -> str:
    works = [metrics.work_words(cast.run, w) for w in metrics.by_reach(cast.run)]
    if len(works) > MOST:
        works = [f"{len(works)} workloads, from {works[0]} to {works[-1]}"]
    on = [metrics.device_title(cast.run, h) for h in metrics.devices(cast.run)]
    devices = f" on {words.listing(on)}" if 0 < len(on) <= 3 else f" on {len(on)} devices" if on else ""
    done = "Shown" if cast.run.is_thinned else "Computed"
    return f"{done} at {words.listing(works)}{devices}, in {words.listing(metrics.precisions(cast.run))}."
