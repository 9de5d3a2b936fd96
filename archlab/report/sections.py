"""Which sections a run has data for, in reading order. A section without data is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from archlab.report import findings, fits, outcomes, tables, timed, times, trust, words
from archlab.report.charts import (
    architecture,
    bounds,
    context_batch,
    effect,
    fit,
    given,
    kv_context,
    kv_ratio,
    latency_scaling,
    main_effects,
    measured,
    measured_predicted,
    memory,
    parallel,
    parameters,
    pareto,
    pattern,
    per_character,
    position,
    published,
    roofline,
    speed_throughput,
    time_by_part,
)
from archlab.report.parts import BOUND, CALCULATED, EXTRAPOLATED, MEASURED, PREDICTED, Card, Section, Table
from archlab.report.points import Cast


def sections(cast: Cast) -> tuple[Section, ...]:
    """The sections that have at least one card."""
    made = (make(cast) for make in _ALL)
    return tuple(s for s in made if s is not None)


def _section(id_: str, title: str, question: str, *cards: Card | None) -> Section | None:
    present = tuple(c for c in cards if c is not None)
    return Section(id_, title, question, present) if present else None


def _summary(cast: Cast) -> Section | None:
    found = findings.findings(cast)
    return _section("summary", "Summary", "What is worth remembering?", Card(findings=found) if found else None)


def _fit_first(cast: Cast) -> Section | None:
    """Before all else, where it is what the run asks."""
    return _fit(cast) if fits.asked(cast.run) else None


def _fit_later(cast: Cast) -> Section | None:
    return None if fits.asked(cast.run) else _fit(cast)


def _fit(cast: Cast) -> Section | None:
    question = "Which model fits which device, and how long a context?"
    return _section(
        "fit",
        "Does it fit",
        question if fits.asked(cast.run) else "What fits which device?",
        fit.card(cast),
        context_batch.card(cast),
    )


def _differences(cast: Cast) -> Section | None:
    table = tables.main(cast.wide if cast.run.is_thinned else cast)
    notes = ["A bar runs from zero to the largest of its column. Select a heading to sort.", *_beyond(table)]
    title = table.label
    card = Card(title, (CALCULATED,), table=table, raw=_RAW[cast.run.is_thinned], notes=tuple(notes))
    said = cast.run.meta.get("special") or {}
    apart = Card("What sets them apart", facts=tuple((name, text, False) for name, text in said.items()))
    blocks = None if cast.run.is_study else architecture.card(cast)
    return _section("differences", "What differs", _question(cast), card, blocks, apart if said else None)


_RAW = {False: ("All columns, CSV", "Whole run, JSON"), True: ("All columns, CSV", "The page's rows, JSON")}


def _beyond(table: Table) -> list[str]:
    """What the dagger says, where there is one."""
    marks = "".join(cell.mark for row in table.rows for cell in row.cells)
    return ["† longer than the context that the model was trained for."] * ("†" in marks)


def _question(cast: Cast) -> str:
    if not cast.run.is_study:
        return "What are the models, and where do they differ?"
    return f"What changes with {words.listing([a.label for a in cast.run.axes]) or 'the shape'}?"


def _front(cast: Cast) -> Section | None:
    return _section("front", "Trade-offs", pareto.question(cast), *pareto.cards(cast))


def _axes(cast: Cast) -> Section | None:
    question = "Which axis moves the numbers most?"
    return _section("axes", "Main effects", question, main_effects.card(cast), parallel.card(cast))


def _text(cast: Cast) -> Section | None:
    question = "What does the same text cost at each vocabulary?"
    return _section("text", "Cost of text", question, per_character.card(cast))


def _quality(cast: Cast) -> Section | None:
    cited = published.card(cast)
    question = "What is published about the quality that this costs?" if cited else "What does quality cost?"
    return _section("quality", "Quality", question, cited, given.card(cast))


def _effect(cast: Cast) -> Section | None:
    """Each metric against each axis, point by point; of a sample the points differ in every axis at once."""
    if cast.run.is_thinned:
        return None
    named = [a.label for a in cast.run.axes]
    ask = "What do {} buy, and what do they cost?" if len(named) > 1 else "What does {} buy, and what does it cost?"
    return _section("effect", "Effect", ask.format(words.listing(named)), effect.card(cast))


def _parameters(cast: Cast) -> Section | None:
    card = _derived(cast, parameters.card(cast), "params")
    return _section("parameters", "Parameters", "Where are the parameters?", card)


def _cache(cast: Cast) -> Section | None:
    question = "How does the cache grow with context, and what else has to be in memory?"
    growth = _derived(cast, kv_context.card(cast), "kv_cache")
    return _section("kv-cache", "KV cache", question, growth, kv_ratio.card(cast), memory.card(cast))


def _compute(cast: Cast) -> Section | None:
    question = "What does one more token cost, deep in the context?"
    return _section("compute", "Compute", question, _derived(cast, position.card(cast), "flops_decode"))


def _latency(cast: Cast) -> Section | None:
    table = times.times(cast)
    all_times = Card("All times", times.tags(table), table=table, notes=_time_notes(cast, table)) if table else None
    cards = (
        speed_throughput.card(cast), bounds.card(cast), roofline.card(cast), time_by_part.card(cast),
        *latency_scaling.device_cards(cast), measured.card(cast),
        *latency_scaling.timed_cards(cast), time_by_part.timed_card(cast), measured_predicted.card(cast), all_times,
    )  # fmt: skip
    return _section("latency", "Latency", _how_fast([card for card in cards if card]), *cards)


def _how_fast(cards: Sequence[Card]) -> str:
    """The question, as far as the run can answer it."""
    tags = {tag for card in cards for tag in card.tags}
    asked = ["can it be at best"] * (BOUND in tags) + ["should it be"] * bool(tags & {PREDICTED, EXTRAPOLATED})
    *first, last = [f"how fast {what}" for what in [*asked, *["was it"] * (MEASURED in tags)]] or ["how fast is it"]
    return words.sentence(f"{', '.join(first)}, and {last}?" if first else f"{last}?")


def _time_notes(cast: Cast, table: Table) -> tuple[str, ...]:
    first = "A bound is the least that the device's rates allow, operation by operation: calculated, not measured."
    nothing = "" if MEASURED in timed.tags(timed.timings(cast)) else " Nothing was measured in this run."
    predicted = trust.predicted_rows(cast)
    return (
        first + nothing, *[trust.held_out(predicted)] * bool(predicted), *times.left_out(cast), *_beyond(table),
        *bounds.misfits(cast),
    )  # fmt: skip


def _layers(cast: Cast) -> Section | None:
    blocks = architecture.card(cast) if cast.run.is_study else None
    question = ("What does a layer do, and which" if blocks else "Which") + " layers see the whole context?"
    return _section("layers", "Layers", question, blocks, pattern.card(cast))


def _refused(cast: Cast) -> Section | None:
    table = outcomes.refused(cast)
    apart = outcomes.excluded(cast)
    title = "Excluded, refused or failed" if apart else "Without numbers"
    card = Card(title, caption=outcomes.said(cast), table=table) if table else None
    question = "What was left out, and why?" if apart else "What could not be computed or measured, and why?"
    return _section("refused", "Left out" if apart else "Refused", question, card)


def _method(cast: Cast) -> Section | None:
    meta, devices = cast.run.meta, outcomes.hardware(cast)
    facts = [(f["what"], _formula(f), True) for f in meta["formulas"]]
    formulas = Card("Formulas", (CALCULATED,), "As they were evaluated.", facts=tuple(facts)) if facts else None
    said = meta["assumptions"]
    assumptions = Card("Assumptions", facts=tuple(("", str(text), False) for text in said)) if said else None
    card = Card(
        "Devices",
        caption="Dense peaks of the data sheets; memory as the driver reports it, and what a program can have.",
        table=devices,
    )
    question = "Which formulas and which assumptions stand behind the numbers?"
    return _section("method", "Method", question, formulas, assumptions, card if devices else None)


def _derived(cast: Cast, card: Card | None, metric: str) -> Card | None:
    """The card with the formulas of a metric, where the run has them."""
    found = tuple((f["what"], _formula(f), True) for f in cast.run.meta["formulas"] if f.get("metric") == metric)
    return replace(card, formulas=found) if card and found else card


def _formula(formula: dict[str, str]) -> str:
    letters = formula.get("letters")
    return formula["text"] + (f"    ({letters})" if letters else "")


def _provenance(cast: Cast) -> Section | None:
    origin = cast.run.meta["provenance"]
    packages = ", ".join(f"{k} {v}" for k, v in (origin.get("packages") or {}).items())
    software = [f"archlab {origin.get('archlab', '?')}", f"commit {origin.get('commit') or 'unknown'}"]
    software += [f"Python {origin.get('python')}"] * bool(origin.get("python")) + [packages] * bool(packages)
    took = origin.get("seconds")
    facts = [
        ("Command", origin.get("command"), True), ("Software", " · ".join(software), False),
        ("Host", origin.get("host"), False), ("Device", origin.get("device"), False),
        ("Started", words.moment(origin.get("started_utc")), False),
        ("Took", f"{took:,.1f} s" if isinstance(took, int | float) else None, False),
        ("Configuration", origin.get("config_hash"), True),
    ]  # fmt: skip
    card = Card(facts=tuple((k, str(v), code) for k, v, code in facts if v))
    return _section("provenance", "Provenance", "What made these numbers, and how are they made again?", card)


_ALL: tuple[Callable[[Cast], Section | None], ...] = (
    _summary, _fit_first, _front, _axes, _differences, _effect, _parameters, _cache, _fit_later, _compute, _text,
    _latency, _layers, _quality, _refused, _method, _provenance,
)  # fmt: skip
