"""The big numbers at the top of a report, each with a sentence made from the run."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from archlab import units
from archlab.report import beyond, fits, large, metrics, moves, servings, spreads, words
from archlab.report.columns import quantity
from archlab.report.metrics import Metric
from archlab.report.moves import Where
from archlab.report.parts import BOUND, CALCULATED, ESTIMATE, Finding
from archlab.report.points import Cast, Point
from archlab.report.spreads import CLEAR, TIE, Spread


def findings(cast: Cast) -> tuple[Finding, ...]:
    """Three numbers: the cache, a decode step's bound, the parameters or what fits; what the run lacks is left out."""
    if not cast.ok:
        return ()
    if cast.run.is_thinned and (found := large.findings(cast)):
        return found
    if found := _fewer_bits(cast):
        return found
    if fits.asked(cast.run) and not cast.run.is_study and not servings.contexts(cast):
        return tuple(finding for finding in (_classes(cast), _pairs(cast), _stretch(cast)) if finding)
    work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
    step = spreads.decode(cast) or next(iter(work), None)
    growth = None if cast.run.is_study else _growth(cast)
    made = (growth or _about(cast, spreads.cache(cast)), _about(cast, step), _size(cast))
    return tuple(finding for finding in made if finding)


def _size(cast: Cast) -> Finding | None:
    """The parameters of a study that changes them; else what fits on a device, where that differs."""
    changed = any(s and s.ratio >= CLEAR for s in spreads.by_base(cast, metrics.PARAMS))
    room = None if cast.run.is_study and changed else _room(cast)
    return room or _about(cast, metrics.PARAMS)


def _about(cast: Cast, metric: Metric | None) -> Finding | None:
    """One metric: the least against the released and the largest; the gains where a study has several bases."""
    if metric is None:
        return None
    each = [s for s in spreads.by_base(cast, metric) if s]
    if len(each) > 1:
        return _gain(cast, metric, each)
    held = [p for p in cast.ok if metric.tag != BOUND or metrics.fits(cast.run, p.name, metric.at)]
    all_held = cast.run.is_study or len(held) == len(cast.ok)
    of = spreads.spread(cast, metric, cast.ok if all_held else held or None)
    note = "" if all_held else ", of the models that it holds" if held else ", which cannot hold it"
    return _finding(cast, of, note) if of else None


def _gain(cast: Cast, metric: Metric, each: Sequence[Spread]) -> Finding:
    """'1/4 of the released is the KV cache of gemma-2-9b at 128k tokens with window 512: ...'."""
    gains = spreads.gains(each)
    best, ratio = gains[0]
    where = beyond.where(cast.run, metric, [best.least])
    if ratio < 1.005:
        text = escape(f"is all that {spreads.turned(cast)} can take off the {metric.noun} {where}".strip() + ".")
        return Finding("0", "%", text, metric.tag)
    number, unit = words.big(ratio, metric.less)
    start, usual = (best.released, f"the {cast.run.usual}") if best.released else (best.most, "the largest")
    verb = "are" if metric is metrics.PARAMS else "is"
    text = escape(f"{usual} {verb} the {metric.noun} ")
    text += escape("of ") + _strong(best.least.base) + escape(f" {where} with ".replace("  ", " "))
    text += _strong(spreads.axes_of(cast, best.least))
    text += escape(": {}, not {}".format(*words.alike([best.values[best.least], best.values[start]], metric.scale)))
    rest = [f"for {s.least.base} {words.less(g, metric.less)} {usual}" for s, g in gains[1:4]]
    return Finding(number, unit, text + escape("; ".join(["", *rest]) + "."), metric.tag)


def _strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)


def _what(cast: Cast, of: Spread, whose: Markup) -> Markup:
    """'is the KV cache with n_kv_heads 1 at 128k tokens', the point in bold."""
    metric, where = of.metric, beyond.where(cast.run, of.metric, of.values)
    if metric.tag == BOUND:
        return escape(f"is the least that a {metric.name.lower()}") + whose + escape(f" can take {where}")
    verb = "are the" if metric is metrics.PARAMS else "is the"
    return escape(f"{verb} {metric.noun}") + whose + escape(f" {where}" if where else "")


def _finding(cast: Cast, of: Spread, note: str = "") -> Finding:
    """The least, then the released and the largest where they are others; the note stands before these."""
    number, unit = words.split(of.say(of.least))
    if len(of.values) > 1 and of.ratio < 1.005:
        same = "the same" if of.ratio < TIE else f"within {words.percent(of.ratio - 1)}"
        text = _what(cast, of, Markup("")) + escape(f", {same} at {words.every(len(of.values), 'point')}.")
        return Finding(number, unit, text, of.metric.tag)
    whose = escape(" with " if cast.run.axes else " of ") + _strong(of.least.short)
    rest = _against(cast, of) if len(of.values) > 1 else Markup("")
    return Finding(number, unit, _what(cast, of, whose) + escape(note) + rest + escape("."), of.metric.tag)


def _against(cast: Cast, of: Spread) -> Markup:
    """'; released: 21.66 GiB; the most: n_kv_heads 16, 43.31 GiB'."""
    text = Markup("")
    released = of.released if len({p.base for p in of.values}) == 1 else None
    if released is of.least:
        text += escape(f", the {cast.run.usual} shape")
    elif released is not None:
        text += escape(f"; {cast.run.usual}: {of.say(released)}")
    if of.most is not released:
        text += escape("; the most: ") + _strong(of.most.tag) + escape(f", {of.say(of.most)}")
    return text


def _room(cast: Cast) -> Finding | None:
    """How many points leave room on the smallest device that not all of them fill, or that not all fit."""
    run, reach = cast.run, metrics.longest(cast.run)
    at = {"workload": reach, "precision": next(iter(metrics.precisions(run)), None)}
    parts = {p: [run.value(p.name, c, **at) for c in ("weights_bytes", "kv_cache_bytes")] for p in cast.ok}
    needs = {p: sum(found) for p, found in parts.items() if None not in found}
    for memory, title in metrics.rooms(run):
        inside = [p for p in needs if needs[p] <= memory]
        if 0 < len(inside) < len(needs):
            verb = "keeps" if len(inside) == 1 else "keep"
            at_work = f"{metrics.work_words(run, reach)}{beyond.note(run, reach, inside)}"
            where = f"at {at_work} within the {units.show_gib(memory)} of"
            text = escape(f"{verb} weights and KV cache {where} {title}, activations aside: ")
            return Finding(str(len(inside)), f"of {len(needs)}", text + _strong(_few(inside)) + escape("."), CALCULATED)
    return None


def _few(points: Sequence[Point]) -> str:
    """All names, or four and how many more."""
    more = [f"{len(points) - 4} more"] if len(points) > 5 else []
    return words.listing([p.tag for p in (points[:4] if more else points)] + more)


# ---------------------------------------------------------------- fewer bits a weight


def _fewer_bits(cast: Cast) -> tuple[Finding, ...]:
    """Of one model in several precisions: its memory, its step and its context in that which needs the least."""
    pair = servings.bits(cast)
    if pair is None:
        return ()
    found = moves.moved(cast.run, servings.NUMBERS, *pair)
    return (*(_move(cast, m, *pair) for m in found), *_reach(cast, *pair))


def _move(cast: Cast, found: moves.Move, first: Where, least: Where) -> Finding:
    """'25.72 GiB is the memory needed in int4 at 128k tokens; in bf16: 61.11 GiB.'"""
    of, step = quantity(found.column), found.steps[-1]
    before, after = words.alike((step.before, step.after), of.scale)
    number, unit = words.split(after)
    on = f" on {metrics.device_title(cast.run, first[1]['hardware'])}" * (of.tag == BOUND)
    text = escape(f"is the {found.noun} in ") + _strong(str(least[1]["precision"]))
    return Finding(number, unit, text + escape(f" {step.where}{on}; in {first[1]['precision']}: {before}."), of.tag)


def _reach(cast: Cast, first: Where, least: Where) -> list[Finding]:
    """'105k tokens are the longest context in int4 on the smallest device that ...; in q4_k_m: 99k; in bf16: none.'"""
    point = first[0]
    for device in fits.by_room(cast.run):
        held = {p: servings.longest(cast, (point, {"precision": p}), device) for p in metrics.precisions(cast.run)}
        known = {p: n for p, n in held.items() if n is not None}
        most = known.get(str(least[1]["precision"]))
        if most and len(set(known.values())) > 1:
            others = [f"in {p}: {words.about(n) if n else 'none'}" for p, n in known.items() if n != most]
            text = escape("tokens are the longest context in ") + _strong(str(least[1]["precision"]))
            text += escape(f" on {metrics.device_title(cast.run, device)}; {'; '.join(others)}.")
            return [Finding(words.about(most), "", text, ESTIMATE)]
    return []


# ---------------------------------------------------------------- what fits


def _classes(cast: Cast) -> Finding | None:
    """The largest model of each class of devices: the middle one, then the others from the smallest on."""
    at = fits.usual(cast.run)
    best = {device: fits.largest(held) for device, held in fits.grid(cast, at).items()}
    firsts = {p: d for d, p in reversed(best.items()) if p is not None}  # the smallest device of each
    if not firsts:
        return None
    point = list(firsts)[len(firsts) // 2]
    number, unit = words.split(units.show_count(cast.run.value(point.name, "params")))
    text = escape("parameters are the most that fit ") + _strong(metrics.device_title(cast.run, firsts[point]))
    note = beyond.note(cast.run, at["workload"], firsts)
    text += escape(f" {fits.at_words(cast.run, at)}{note}: {point.tag}.")
    rest = [f"{metrics.device_title(cast.run, d)}: {p.tag}" for p, d in reversed(firsts.items()) if p is not point]
    return Finding(number, unit, text + escape(" " + "; ".join(rest) + "." if rest else ""), ESTIMATE)


def _pairs(cast: Cast) -> Finding | None:
    """How many pairs fit, in each precision, and the smallest device that holds all models."""
    usual = fits.usual(cast.run)
    counted: dict[str, tuple[int, int]] = {}
    whole = None
    for precision in metrics.precisions(cast.run):
        columns = fits.grid(cast, {**usual, "precision": precision})
        verdicts = [v for held in columns.values() for v in held.values()]
        counted[precision] = sum(v.fits for v in verdicts), len(verdicts)
        if precision == usual["precision"]:
            whole = next((d for d, held in columns.items() if held and all(v.fits for v in held.values())), None)
    (_, (n, of)), *others = counted.items()
    if not of:
        return None
    text = escape("pairs of a model and a device fit ") + _strong(fits.at_words(cast.run, usual))
    text += escape(beyond.note(cast.run, usual["workload"], cast.ok))
    text += escape("".join(f"; {m} in {precision}" for precision, (m, _) in others) + ".")
    every = f" The smallest device that holds {words.every(len(cast.ok))} is {metrics.device_title(cast.run, whole)}."
    return Finding(f"{n}", f"of {of}", text + escape(every if whole else " No device holds all."), ESTIMATE)


def _stretch(cast: Cast) -> Finding | None:
    """The longest context of the largest model, on the smallest device that it fits; and on the next ones."""
    at = fits.usual(cast.run)
    columns = fits.grid(cast, at)
    point = next((p for p in reversed(fits.by_size(cast)) if any(h[p].fits for h in columns.values() if p in h)), None)
    if point is None:
        return None
    room = [(d, held[point]) for d, held in columns.items() if point in held and held[point].fits]
    device, first = room[0]
    text = escape("tokens are the longest context of ") + _strong(point.tag)
    text += escape(f" in {at['precision']} on {metrics.device_title(cast.run, device)}")
    text += escape(f", of the {words.about(first.row['trained_context'])} that it was trained for")
    other = [f"{metrics.device_title(cast.run, d)}: {v.reach()}" for d, v in room[1:4]]
    return Finding(words.about(first.longest or 0), "", text + escape("; ".join(["", *other]) + "."), ESTIMATE)


def _growth(cast: Cast) -> Finding | None:
    """Bytes by which the cache grows for each further token, at the long end of the curves."""
    growth: dict[Point, float] = {}
    for point in cast.ok:
        rows = cast.run.curve_rows.get(point.name, [])[-2:]
        if len(rows) == 2:
            more, tokens = (rows[1][k] - rows[0][k] for k in ("kv_cache_bytes", "context"))
            growth[point] = more / tokens
    if len(growth) < 2:
        return None
    of = Spread(Metric("kv_cache_bytes", "KV cache", "a token", words.gib), growth)
    number, unit = words.split(of.say(of.least))
    text = escape("is what the cache of ") + _strong(of.least.tag)
    text += escape(" grows by for each further token, the least; the most: ") + _strong(of.most.tag)
    return Finding(number, unit, text + escape(f", {of.say(of.most)}."), of.metric.tag)
