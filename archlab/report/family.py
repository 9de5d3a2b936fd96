"""The page of a family of models: its generations, what changed with each, and the claims that are wrong of it.

All is said from the run's tables: run.json has which models are a generation's and which are compared, points.parquet
their numbers. The pictures are those of any comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup, escape

from archlab.report import beyond, metrics, sections, spreads, words
from archlab.report.claims import claims
from archlab.report.family_changes import generations, share
from archlab.report.family_table import models_table
from archlab.report.load import Record, Run
from archlab.report.parts import CALCULATED, Card, Finding, Section
from archlab.report.points import Cast, Point

FAMILY = "family"
"""The kind of such a run."""


def headline(cast: Cast) -> str:
    """'From Gemma 1 to Gemma 4, the KV cache at ... falls from 56.00 GiB for A to 2.02 GiB for B, ...'."""
    metric, ends = spreads.cache(cast), _ends(cast)
    if metric is None or ends is None:
        return str(cast.run.meta["question"])
    first, last = ends
    said = words.alike([metric.of(cast.run, p) for p in ends], metric.scale)
    names = [_generation(cast.run, p.base)["name"] for p in ends]
    verb = "falls" if metric.of(cast.run, last) < metric.of(cast.run, first) else "rises"
    where = beyond.where(cast.run, metric, ends)
    return (
        f"From {names[0]} to {names[1]}, the {metric.noun} {where} {verb} from {said[0]} for {first.base} "
        f"to {said[1]} for {last.base}, the nearest to it in size"
    )


def lede(cast: Cast) -> str:
    """The question, how many models and generations, and at what they were computed."""
    run = cast.run
    told, found = run.meta["generations"], run.meta.get("claims") or []
    count = f"{words.sentence(words.some(len(cast.ok), 'model'))} of {words.some(len(told), 'generation')}"
    works = words.listing([metrics.work_words(run, w) for w in metrics.by_reach(run)])
    settled = f" {words.sentence(words.some(len(found), 'claim'))} that explainers make are settled." if found else ""
    at = f"computed at {works} in {words.listing(metrics.precisions(run))}"
    return f"{run.meta['question']} {count}, {at}.{settled}"


def family_sections(cast: Cast) -> tuple[Section, ...]:
    """The sections of the page: its own, and those of any comparison."""
    common = {section.id: section for section in sections.sections(cast)}
    models = replace(common["differences"].cards[0], table=models_table(cast))
    made = {
        "summary": _summary(cast), "generations": generations(cast), "claims": claims(cast.run),
        "differences": replace(common["differences"], cards=(models, *common["differences"].cards[1:])),
    }  # fmt: skip
    order = ("summary", "generations", "differences", "claims", "parameters", "kv-cache", "compute", "layers", "method",
             "provenance")  # fmt: skip
    found = (made.get(name) or common.get(name) for name in order)
    return tuple(section for section in found if section is not None)


# ---------------------------------------------------------------- who is compared


def _generation(run: Run, model: str) -> Record:
    return next(g for g in run.meta["generations"] if model in g["models"])


def _ends(cast: Cast) -> tuple[Point, Point] | None:
    """The largest model of the first generation, and the one of the last that is nearest to its size."""
    told = cast.run.meta["generations"]
    sizes = metrics.PARAMS.known(cast.run, cast.ok)
    first = [p for p in sizes if p.base in told[0]["models"]]
    last = [p for p in sizes if p.base in told[-1]["models"]]
    if not first or not last or len(told) < 2:
        return None
    start = max(first, key=lambda p: sizes[p])
    return start, _nearest(start, last, sizes)


def _nearest(to: Point, points: Sequence[Point], sizes: Mapping[Point, float]) -> Point:
    return min(points, key=lambda p: max(sizes[p] / sizes[to], sizes[to] / sizes[p]))


def like_the_first(cast: Cast) -> dict[str, Point]:
    """Generation -> its model that is nearest in size to the first one's largest."""
    ends, sizes = _ends(cast), metrics.PARAMS.known(cast.run, cast.ok)
    if ends is None:
        return {}
    found = {g["name"]: [p for p in sizes if p.base in g["models"]] for g in cast.run.meta["generations"]}
    return {name: _nearest(ends[0], points, sizes) for name, points in found.items() if points}


# ---------------------------------------------------------------- summary


def _summary(cast: Cast) -> Section | None:
    found = tuple(f for f in (_cache_finding(cast), _share_finding(cast), _claims_finding(cast.run)) if f)
    return Section("summary", "Summary", "What is worth remembering?", (Card(findings=found),)) if found else None


def _cache_finding(cast: Cast) -> Finding | None:
    metric, ends = spreads.cache(cast), _ends(cast)
    if metric is None or ends is None:
        return None
    first, last = (metric.of(cast.run, p) for p in ends)
    number, unit = words.big(first / last, metric.less)
    text = escape("that of ") + _strong(ends[0].base) + escape(f", a model of its size, is the {metric.noun} of ")
    text += _strong(ends[1].base) + escape(f" {beyond.where(cast.run, metric, ends)}.")
    return Finding(number, unit, text, CALCULATED)


def _share_finding(cast: Cast) -> Finding | None:
    """The model that has the largest share of its parameters in tables of embeddings."""
    shares = {p: share(cast.run, p) for p in cast.ok}
    known = {p: v for p, v in shares.items() if v is not None}
    if not known:
        return None
    most, least = max(known, key=lambda p: known[p]), min(known, key=lambda p: known[p])
    number, _, unit = words.percent(known[most]).partition(" ")
    text = escape("of the parameters of ") + _strong(most.base) + escape(" are tables of embeddings; the least have ")
    return Finding(number, unit, text + _strong(least.base) + escape(f": {words.percent(known[least])}."), CALCULATED)


def _claims_finding(run: Run) -> Finding | None:
    found = run.meta.get("claims") or []
    counted = [c for c in found if c["calculations"]]
    if not found:
        return None
    text = (
        "claims that explainers make are settled by a calculation; the others, on training and software, by a source."
    )
    return Finding(str(len(counted)), f"of {len(found)}", escape(text), CALCULATED)


def _strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)
