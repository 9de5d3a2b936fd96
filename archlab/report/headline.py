"""The heading of a report and the lines below it, made from its numbers.

Nothing here is typed for a study. What it varies decides who answers: a shape (shapes), a workload between models
(rivals), precisions or contexts (servings); the rest, and studies of several models, are answered here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archlab import units
from archlab.report import beyond, fits, growth, large, metrics, rivals, servings, shapes, spreads, words
from archlab.report.load import Axis, Run
from archlab.report.metrics import Metric
from archlab.report.objectives import aims
from archlab.report.parts import BOUND, Answer
from archlab.report.points import Cast, Point, axis_rank
from archlab.report.spreads import CLEAR, Spread

MOST = 6
"""So many workloads are named one by one."""


def headline(cast: Cast) -> str:
    """The finding, in a sentence."""
    return answer(cast).said


def answer(cast: Cast) -> Answer:
    """What a run says to its question, and the sentences that follow from it."""
    run = cast.run
    if not cast.ok:
        return Answer(_nothing(run))
    if run.is_thinned and (said := large.headline(cast)):
        return Answer(said)
    for made in (servings.precisions, servings.contexts, rivals.answer):
        if found := made(cast):
            return found
    if fits.asked(run) and not run.is_study and (said := _fitting(cast)):
        return Answer(said)
    if not spreads.candidates(cast):
        return Answer(run.meta["question"] or run.meta["name"])
    if len(cast.ok) == 1:
        return _alone(cast)
    return _study(cast) if run.is_study else Answer(_comparison(cast), tuple(_turn(cast)))


def _nothing(run: Run) -> str:
    """Of a run without a point that stands: whether its condition excluded them all, or some had no numbers."""
    lost = dict(run.statuses)
    if "excluded" not in lost:
        return f"No point of {run.meta['name']} could be computed"
    by = f"excluded by {_condition(run)}"
    if len(lost) == 1:
        return f"Every point of {run.meta['name']} was {by}"
    said = _counted({by if status == "excluded" else status: n for status, n in lost.items()})
    return f"No point of {run.meta['name']} stands: of its rows {said}"


def _counted(lost: Mapping[str, int]) -> str:
    """'11 were excluded and 1 refused'."""
    (first, n), *others = lost.items()
    start = f"{n:,} {'was' if n == 1 else 'were'} {first}"
    return words.listing([start, *[f"{k:,} {status}" for status, k in others]])


def _condition(run: Run) -> str:
    """'the condition kv_cache_bytes <= 1 GiB'."""
    asked = [str(c) for c in run.meta["where"]] if isinstance(run.meta.get("where"), list) else []
    return f"the condition{'s' * (len(asked) > 1)} {words.listing(asked)}" if asked else "its condition"


def _fitting(cast: Cast) -> str:
    """'With 32k tokens in q4_k_m, the largest model that fits is A on Jetson ... and B from NVIDIA L4 24GB up'."""
    at = fits.usual(cast.run)
    best = {device: fits.largest(held) for device, held in fits.grid(cast, at).items()}
    held = [(device, point) for device, point in best.items() if point is not None]
    if not held:
        return f"{words.sentence(fits.at_words(cast.run, at))}, no model fits any of the devices"
    most = fits.by_size(cast).index
    top = max((p for _, p in held), key=most)
    ends = list(dict.fromkeys((held[0], next((d, p) for d, p in held if p is top))))
    said = [f"{p.tag} {_from(cast, p, d, at)}" for d, p in ends]
    note = beyond.note(cast.run, at["workload"], [p for _, p in ends])
    start = f"{words.sentence(fits.at_words(cast.run, at))}{note}"
    return f"{start}, the largest model that fits is {words.listing(said)}"


def _from(cast: Cast, point: Point, device: str, at: Mapping[str, str | None]) -> str:
    """'from NVIDIA L4 24GB up', or 'on NVIDIA L4 24GB' where it is not the largest that some larger device holds."""
    order = fits.by_room(cast.run)
    columns = fits.grid(cast, at)
    larger = [fits.largest(columns[d]) is point for d in order[order.index(device) + 1 :]]
    title = metrics.device_title(cast.run, device)
    return f"from {title} up" if larger and all(larger) else f"on {title}"


def _alone(cast: Cast) -> Answer:
    if grown := growth.headings(cast):
        return Answer(grown[0], tuple(f"{said}." for said in grown[1:]))
    point = cast.ok[0]
    name = point.base if point.short.startswith(point.base) or not cast.run.axes else f"{point.base} with {point.short}"
    metric = spreads.candidates(cast)[0]
    verb = {"kv_cache_bytes": "keeps", "params": "has"}.get(metric.column, "takes")
    return Answer(f"{name} {verb} {_amount(cast, metric, point)}")


def _amount(cast: Cast, metric: Metric, point: Point) -> str:
    """'2.71 GiB of KV cache at 128k tokens', '9.24 B parameters', 'at least 4.3 ms for a decode step at ...'."""
    value, where = metric.of(cast.run, point), beyond.where(cast.run, metric, [point])
    if metric is metrics.PARAMS:
        return f"{metric.say(value)} parameters"
    if metric.scale is words.gib:
        return f"{metric.say(value)} of {metric.name} {where}"
    least = "at least " if metric.tag == BOUND else ""
    return f"{least}{metric.say(value)} for a {metric.name.lower()} {where}"


def _study(cast: Cast) -> Answer:
    if found := shapes.answer(cast):
        return found
    known = spreads.candidates(cast)
    metric = next((m for m in known if not shapes.is_held(cast, m.column)), known[0])
    each = [s for s in spreads.by_base(cast, metric) if s]
    if max(s.ratio for s in each) < CLEAR or len(each) == 1:
        most = words.percent(CLEAR - 1)
        return Answer(f"{spreads.turned(cast)} changes neither cache nor time nor size by more than {most}")
    return Answer(_many_bases(cast, metric, each))


def _many_bases(cast: Cast, metric: Metric, each: Sequence[Spread]) -> str:
    """'With window 512, the KV cache at 128k tokens is 76 % smaller than the released for A and 26 % smaller for B'."""
    gains = spreads.gains(each)
    best = {tuple(s.least.values.items()) for s, _ in gains[:2]}
    start = f"With {spreads.axes_of(cast, gains[0][0].least)}, the" if len(best) == 1 else "The"
    against = f"the {cast.run.usual}" if all(s.released for s, _ in gains) else "the largest"
    can, is_ = ("", "are" if metric is metrics.PARAMS else "is") if len(best) == 1 else ("can ", "be")
    where = beyond.where(cast.run, metric, [s.least for s, _ in gains[:2]])
    said = [_gained(g, metric, against * (s is gains[0][0])) + f" for {s.least.base}" for s, g in gains[:2]]
    more = f", and less so for {words.some(len(gains) - 2, 'other')}" if len(gains) > 2 else ""
    return f"{start} {metric.noun} {where} {can}{is_} ".replace("  ", " ") + words.listing(said) + more


def _gained(gain: float, metric: Metric, against: str) -> str:
    """'76 % smaller than the released'; where that stands before, '26 % smaller' or 'a third of it'."""
    less = words.less(gain, metric.less)
    return f"{less} {against}" if against else less.removesuffix(" than") if less.endswith("than") else f"{less} it"


def _comparison(cast: Cast) -> str:
    metric = spreads.candidates(cast)[0]
    of = spreads.spread(cast, metric)
    assert of is not None
    pair = spreads.alike(cast, of)
    if pair:
        small, large, ratio = pair
        where = beyond.where(cast.run, metric, (small, large))
        start = words.sentence(where) + " the" if where else "The"
        size = words.less(ratio, metric.less)
        return f"{start} {metric.noun} of {small.base} is {size} that of {large.base}, a model of its size"
    if of.ratio < CLEAR:
        models = words.sentence(words.every(len(of.values), "model"))
        return f"{models} need the same: {_amount(cast, metric, of.least)}"
    most = f"{of.most.base} needs {_amount(cast, metric, of.most)}"
    return f"{most}, {words.times(of.ratio)} times as much as {of.least.base}"


def lede(cast: Cast) -> str:
    """What else follows, what was compared, what was held, at which workloads and on which devices."""
    question = [cast.run.meta["question"]] if cast.run.meta["question"] else []
    compared = _study_lede(cast) if cast.run.is_study else _compare_lede(cast)
    if cast.run.is_thinned:
        return " ".join([*question, *large.shapes(cast), *_without(cast), *_held(cast), _conditions(cast)])
    return " ".join([*answer(cast).more, *question, *compared, _conditions(cast)])


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
    shapes = words.sentence(words.some(len(cast.ok or cast.all), "shape")) + f" of {words.listing(bases)}"
    more = len(cast.run.rows) - len(cast.all)
    left = f" {more:,} more are in {_elsewhere(cast)}." if more else ""
    return [shapes + (f": {turned}" if turned else "") + _lost(cast) + f".{left}", *_held(cast)]


def _elsewhere(cast: Cast) -> str:
    """Where the points are that have neither line nor row."""
    return "the picture of the front and in the downloads" if aims(cast.run) else "the downloads alone"


def _worked(cast: Cast, axis: Axis) -> list[str]:
    """The values of an axis that have a point that stands; all of them where none does."""
    there = {p.values[axis.key] for p in cast.ok or cast.all}
    return [words.axis_value(v) for v in sorted(there, key=lambda v: axis_rank(axis.values, v))]


def _lost(cast: Cast) -> str:
    lost = [p for p in cast.all if not p.ok]
    if not lost:
        return ""
    said = words.listing(list(dict.fromkeys(p.status for p in lost)))
    if not cast.ok:
        return f"; {words.every(len(lost)) if len(lost) > 1 else 'it'} {'were' if len(lost) > 1 else 'was'} {said}"
    return f"; {words.some(len(lost), 'other', 'others')} {'was' if len(lost) == 1 else 'were'} {said}"


def _without(cast: Cast) -> list[str]:
    """How many rows of a large run do not stand."""
    lost = {k: n for k, n in cast.run.statuses.items() if k != "ok"}
    return [f"Of its rows {_counted(lost)}."] if lost else []


def _held(cast: Cast) -> list[str]:
    held = cast.run.meta.get("hold")
    if not held or not cast.ok:
        return []
    off = [abs(cast.run.value(p.name, "hold_residual") or 0) for p in cast.ok]
    multiple = cast.run.meta.get("hold_multiple")
    steps = f", in steps of {multiple}," if multiple else ""
    within = f", within {words.percent(max(off))}" if max(off, default=0) else " exactly"
    return [f"Each keeps its base's {words.HELD.get(held, held)}{within}: {cast.run.pays}{steps} pays."]


def _compare_lede(cast: Cast) -> list[str]:
    of = spreads.spread(cast, metrics.PARAMS)
    if of is None:
        return [words.sentence(words.some(len(cast.ok or cast.all), "model")) + _lost(cast) * (not cast.ok) + "."]
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
