"""Generations of a family of models: in sentences, how each differs from the one before, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archlab import units
from archlab.report import beyond, metrics, words
from archlab.report.load import Record, Run
from archlab.report.parts import CALCULATED, Card, Section
from archlab.report.points import Cast, Point


def generations(cast: Cast) -> Section:
    """A card a generation."""
    cards = tuple(_card(cast, told) for told in cast.run.meta["generations"])
    return Section("generations", "Generations", "What changed with each generation, and what follows?", cards)


def _card(cast: Cast, told: Record) -> Card:
    """A generation: its models, and how each that is compared differs from the one before it."""
    points = [p for p in cast.ok if p.base in told["models"]]
    caption = words.listing([f"{p.base} ({metrics.PARAMS.say(metrics.PARAMS.of(cast.run, p))})" for p in points])
    pairs = [tuple(_point(cast, model) for model in pair) for pair in told.get("pairs") or []]
    said = [fact for a, b in pairs if a and b for fact in _changes(cast, a, b)]
    facts = tuple((name, text, False) for name, text in said or [_alone(cast, p) for p in points])
    return Card(f"{told['name']}, {told['year']}", (CALCULATED,), caption, facts=facts)


def _point(cast: Cast, model: str) -> Point | None:
    return next((p for p in cast.ok if p.base == model), None)


def _alone(cast: Cast, point: Point) -> tuple[str, str]:
    """A model that came first: its shape, its parameters, its cache."""
    row = cast.run.rows[point.name][0]
    shape = ", ".join(_say(key, row.get(key)) for key in _SHAPE if row.get(key) is not None)
    caches = [f"{m.say(v)} {m.where}" for m in metrics.kv_cache(cast.run) if (v := m.of(cast.run, point)) is not None]
    tables = f"{words.percent(share(cast.run, point) or 0)} of its parameters are embeddings"
    return point.base, f"{words.sentence(shape)}. {tables}. Its KV cache holds {words.listing(caches)}."


def _changes(cast: Cast, new: Point, old: Point) -> Iterator[tuple[str, str]]:
    """What follows in cache and work, in size, and the shape behind it, for a model and the one before it."""
    yield f"{new.base} after {old.base}", f"{_caches(cast.run, new, old)} {_work(cast.run, new, old)}".strip()
    yield "in size", _size(cast.run, new, old)
    yield "in shape", _shape(cast.run, new, old)


def _caches(run: Run, new: Point, old: Point) -> str:
    """'The KV cache is 44 % smaller at 8k tokens and 61 % smaller at 128k tokens: 21.66 GiB, not 56.00 GiB.'"""
    known = [(m, now, before) for m in metrics.kv_cache(run) if (now := m.of(run, new)) and (before := m.of(run, old))]
    if not known:
        return ""
    said = [f"{_against(now, before)} {beyond.where(run, m, (new, old))}" for m, now, before in known]
    metric, now, before = known[-1]
    source = " It holds the keys of a source as long as the context, too." * bool(
        run.value(new.name, "kv_source_bytes")
    )
    return f"The KV cache is {words.listing(said)}: {metric.say(now)} there, not {metric.say(before)}.{source}"


def _work(run: Run, new: Point, old: Point) -> str:
    metric = next(iter(metrics.flops(run, "decode")), None)
    now, before = (metric.of(run, p) if metric else None for p in (new, old))
    if metric is None or not now or not before:
        return ""
    where, against = beyond.where(run, metric, (new, old)), _against(now, before)
    return f"The {metric.noun} {where} is {against}: {metric.say(now)}, not {metric.say(before)}."


def _against(now: float, before: float) -> str:
    """'44 % smaller', 'a third as large', '9.0 % larger', 'the same'."""
    if max(now, before) < min(now, before) * 1.0005:
        return "the same"
    if now < before:
        part = words.fraction(now / before)
        return f"{part} as large" if part else f"{words.percent(1 - now / before)} smaller"
    return (
        f"{words.times(now / before)} times as large"
        if now >= before * 1.95
        else f"{words.percent(now / before - 1)} larger"
    )


def _size(run: Run, new: Point, old: Point) -> str:
    sizes = [metrics.PARAMS.say(metrics.PARAMS.of(run, p)) for p in (new, old)]
    shares = [words.percent(share(run, p) or 0) for p in (new, old)]
    return f"{sizes[0]} parameters, not {sizes[1]}; {shares[0]} of them are embeddings, not {shares[1]}."


def _shape(run: Run, new: Point, old: Point) -> str:
    """'42 layers, not 28; width 3,584, not 3,072; new: QK-norm.'"""
    now, before = (run.rows[p.name][0] for p in (new, old))
    turned = [f"{_say(k, now.get(k))}, not {_bare(k, before.get(k))}" for k in _SHAPE if now.get(k) != before.get(k)]
    special = run.meta.get("special") or {}
    had, has = (str(special.get(p.base, "")).split(", ") for p in (old, new))
    added, gone = [x for x in has if x and x not in had], [x for x in had if x and x not in has]
    more = [f"new: {', '.join(added)}"] * bool(added) + [f"no longer: {', '.join(gone)}"] * bool(gone)
    return words.sentence("; ".join([*(turned or ["the decoder's sizes as before"]), *more])) + "."


_SHAPE: Mapping[str, str] = {
    "n_layers": "{} layers", "pattern": "{}", "window": "window {}", "d_model": "width {}", "d_ff": "d_ff {}",
    "heads": "heads {}", "vocab_size": "{} rows of vocabulary", "trained_context": "trained for {} tokens",
}  # fmt: skip
"""Column -> how its value is said."""


def _say(key: str, value: Any) -> str:
    return "no window" if key == "window" and value is None else _SHAPE[key].format(_bare(key, value))


def _bare(key: str, value: Any) -> str:
    return units.show_tokens(value) if key == "trained_context" and value else words.axis_value(value)


def share(run: Run, point: Point) -> float | None:
    """How much of the parameters are tables that are looked up, those of each layer included."""
    row = run.rows[point.name][0]
    held = [row.get(f"params_{part}") for part in ("embedding", "per_layer")]
    return sum(n for n in held if n) / row["params"] if row.get("params") else None
