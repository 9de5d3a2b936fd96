"""What a page says of a run with more points than it shows: what was computed, what is shown, what the axes do."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from archlab.report import words
from archlab.report.columns import Quantity
from archlab.report.effects import PLACE, Effect, Effects, effects
from archlab.report.load import PLACES, Run
from archlab.report.parts import Finding
from archlab.report.points import Cast
from archlab.report.spreads import CLEAR

FINDINGS = ("kv_cache_bytes", "decode_bound_s", "params")
"""What the big numbers are about, as far as the run has it; then what else it has."""
FEW = 6
"""So many values of an axis are named one by one."""


def headline(cast: Cast) -> str:
    """What moves a number most, of the shape where an axis of it does; '' where the run does not say."""
    found = effects(cast.run)
    said = [] if found is None else _clear(found)
    if found is None or not said:
        return ""
    of, effect = said[0]
    least, most = (words.axis_tag(effect.values[i]) for i in effect.ends)
    whose, n = f" of {found.places[0][0]}", sum(effect.points)
    of_shape = "Of the shape, " if len(found.at(of.column, found.places[0])) > 1 and _varied(cast.run) else ""
    mean = f"the mean is {words.times(effect.ratio)} times as high at {most} as at {least}"
    return f"{of_shape}{effect.axis.label} moves the {_noun(of)}{whose} most: over {n:,} points {mean}"


def _noun(of: Quantity) -> str:
    """A number of which there is a mean."""
    return "parameter count" if of.column == "params" else of.noun


def _varied(run: Run) -> bool:
    """An axis is of the workload or of the place."""
    return any(str(a["key"]).startswith(PLACES) for a in run.meta["axes"])


def _clear(found: Effects) -> list[tuple[Quantity, Effect]]:
    """For each number the axis of the shape that moves it most, where that is worth a sentence."""
    made = []
    rank = {c: i for i, c in enumerate(FINDINGS)}
    for q in sorted(found.quantities, key=lambda q: rank.get(q.column, len(rank))):
        own = [e for e in found.at(q.column, found.places[0]) if not e.axis.key.startswith(PLACES)]
        made += [(q, e) for e in own[:1] if e.ratio >= CLEAR]
    return made


def findings(cast: Cast) -> tuple[Finding, ...]:
    """Three numbers: how many times as much something is at one end of an axis as at the other."""
    found = effects(cast.run)
    return () if found is None else tuple(_finding(found, q, e) for q, e in _clear(found)[:3])


def _finding(found: Effects, of: Quantity, effect: Effect) -> Finding:
    least, most = effect.ends
    low, high = min(effect.low), max(effect.high)
    ends = [f"{effect.axis.label} {words.axis_tag(effect.values[i])}" for i in (most, least)]
    text = escape("as high is the mean ") + escape(_noun(of)) + escape(" with ") + _strong(ends[0])
    text += escape(" as with ") + _strong(ends[1])
    text += escape(f": {of.say(effect.mean[most])}, not {of.say(effect.mean[least])}. ")
    text += escape(f"All points: {of.say(low)} to {of.say(high)}{_where(found)}.")
    return Finding(words.times(effect.ratio), "times", text, of.tag)


def _where(found: Effects) -> str:
    """The place, where the run has several: a finding is of the first."""
    first, *others = found.places
    apart = [i for i in range(len(PLACE)) if any(place[i] != first[i] for place in others)]
    return f" ({', '.join(str(first[i]) for i in apart)})" if apart else ""


def _strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)


# ---------------------------------------------------------------- what is shown


def shapes(cast: Cast) -> list[str]:
    """How many points were computed, of which models, along which axes."""
    run = cast.run
    turned = "; ".join(f"{a.get('label', a['key'])} {_values(a['values'])}" for a in run.meta["axes"])
    of = f"{run.computed:,} points of {words.listing([str(b) for b in run.meta['bases']])} were computed"
    return [of + (f": {turned}." if turned else "."), shown(cast)]


def shown(cast: Cast) -> str:
    """Which of them a page shows, and where the others are."""
    run = cast.run
    kinds = [
        (f"models {words.AS_USUAL[run.usual]}", any(p.released for p in cast.wide.all)),
        ("points on the front", _has_front(run)), ("extremes", True), ("an even sample", True),
    ]  # fmt: skip
    n = len(cast.wide.all)
    drawn = f"; {len(cast.all)} of them have lines and bars" if cast.others else ""
    rows = f"points.parquet has {len(run.every):,} rows"
    rest = ""
    if run.computed > len(run.every):
        rest = ", and the configurations in blocks/ make any of the others again"
    elif run.meta.get("sampled"):
        rest = ", and blocks/ has all of them"
    return f"Shown are {n:,} ({words.listing([k for k, there in kinds if there])}){drawn}; {rows}{rest}."


def _has_front(run: Run) -> bool:
    return "front" in run.points.columns and bool(run.points["front"].fillna(False).any())


def _values(values: Sequence[object]) -> str:
    """'1, 2, 4, 8 and 16'; '500 values from 4,096 to 20,064'."""
    if len(values) <= FEW:
        return words.listing([words.axis_value(v) for v in values])
    return f"{len(values)} values from {words.axis_value(values[0])} to {words.axis_value(values[-1])}"
