"""What a run of unchanged models answers: fewer bits a weight of one, or a longer context of several on few devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archlab import units
from archlab.report import beyond, fits, metrics, spreads, words
from archlab.report.fits import Verdict
from archlab.report.growth import varied
from archlab.report.load import Record
from archlab.report.moves import Where, moved, numbers, together
from archlab.report.parts import Answer
from archlab.report.points import Cast, Point

FEW = 3
"""On so many devices a study asks how far, not which."""
NUMBERS = ("memory_bytes", "decode_bound_s")


# ---------------------------------------------------------------- fewer bits


def precisions(cast: Cast) -> Answer | None:
    """One model in the first precision and in the one that needs the least memory; None of other runs."""
    pair = bits(cast)
    if pair is None:
        return None
    first, least = pair
    found = moved(cast.run, NUMBERS, first, least)
    names = [at["precision"] for _, at in (least, first)]
    own = together(found, f" of {least[0].base}")
    reach = next(_reaches(cast, first, least), "")
    said = f"In {names[0]} instead of {names[1]}, {own}{'; ' * bool(reach)}{reach}"
    return Answer(said, (numbers(found, metrics.device_title(cast.run, first[1]["hardware"])),))


def bits(cast: Cast) -> tuple[Where, Where] | None:
    """The places that are compared, of a run of one unchanged model in several precisions."""
    run = cast.run
    known = metrics.precisions(run)
    if run.is_study or len(cast.ok) != 1 or len(known) < 2:
        return None
    point, at = cast.ok[0], {"hardware": next(iter(metrics.roomiest(run)), None)}
    needs = {p: run.value(point.name, "memory_bytes", precision=p, status="ok", **at) for p in known}
    there = {p: n for p, n in needs.items() if n}
    least = min(there, key=lambda p: there[p], default=known[0])
    if known[0] not in there or least == known[0]:
        return None
    return (point, {**at, "precision": known[0]}), (point, {**at, "precision": least})


def _reaches(cast: Cast, first: Where, least: Where) -> Iterator[str]:
    """'A holds 105k tokens instead of none', of the devices that hold another context, the smallest first."""
    for device in fits.by_room(cast.run):
        a, b = (longest(cast, end, device) for end in (first, least))
        if a is not None and b is not None and a != b:
            than = words.about(a) if a else "none"
            yield f"{metrics.device_title(cast.run, device)} holds {words.about(b)} tokens instead of {than}"


def longest(cast: Cast, end: Where, device: str) -> int | None:
    """The longest context of a place on a device, as far as the model was trained."""
    point, at = end
    found = fits.verdict(cast.run, point, {"hardware": device, "precision": at["precision"]})
    return found.longest if found else None


# ---------------------------------------------------------------- a longer context


def contexts(cast: Cast) -> Answer | None:
    """What the longest context needs of several models, and which of few devices hold it; None of other runs."""
    run = cast.run
    devices = metrics.devices(run)
    asked = fits.asked(run) and [a.key for a in varied(cast)] == ["context"] and len(devices) <= FEW
    if run.is_study or not asked or len(cast.ok) < 2:
        return None
    works = metrics.by_reach(run)
    ends = works[0], works[-1]
    grown = {p: _grown(cast, "memory_bytes", p, ends) for p in cast.ok}
    known = sorted((p for p in grown if grown[p]), key=lambda p: grown[p])
    if not known:
        return None
    told = list(dict.fromkeys((known[0], known[-1])))
    said = [_needs(cast, p, grown[p], ends[-1], p is told[0]) for p in told]
    at = f"At {metrics.work_words(run, ends[1])}{beyond.note(run, ends[1], told)} instead of "
    start = at + metrics.work_words(run, ends[0]).removesuffix(" tokens")
    return Answer(f"{start}, {', '.join(said)}", tuple(_slower(cast, told, ends)))


def _grown(cast: Cast, column: str, point: Point, ends: tuple[str, str], **at: str | None) -> float:
    before, after = (cast.run.value(point.name, column, workload=w, status="ok", **at) for w in ends)
    return after / before if before and after else 0.0


def _needs(cast: Cast, point: Point, grown: float, work: str, first: bool) -> str:
    """'A needs 2.3 times as much memory (139.4 GiB) and fits NVIDIA H200 SXM 141GB alone'."""
    every = {d: fits.verdict(cast.run, point, {**fits.usual(cast.run), "workload": work, "hardware": d}) for d in
             fits.by_room(cast.run)}  # fmt: skip
    known = {d: v for d, v in every.items() if v is not None}
    needed = words.say_bytes(next(iter(known.values())).needed) if known else ""
    verb, what = ("needs ", " as much memory") if first else ("", "")
    return f"{point.base} {verb}{words.times(grown)} times{what}{f' ({needed})' * bool(needed)} and {_on(cast, known)}"


def _on(cast: Cast, known: dict[str, Verdict]) -> str:
    held = [metrics.device_title(cast.run, d) for d, v in known.items() if v.fits]
    if not held:
        return "fits neither device" if len(known) == 2 else "fits no device"
    return f"fits {words.listing(held)}{' alone' * (len(held) < len(known))}"


def _slower(cast: Cast, told: Sequence[Point], ends: tuple[str, str]) -> Iterator[str]:
    """'The bound on a decode step is 2.4 times as high for A and 9.5 times for B.'"""
    step = spreads.decode(cast)
    if step is None:
        return
    at = {"hardware": step.at["hardware"], "precision": step.at["precision"]}
    for column, noun in (("decode_bound_s", "decode step"), ("prefill_bound_s", "prefill")):
        said = []
        for p in told:
            grown, row = _grown(cast, column, p, ends, **at), _row(cast, p, ends[-1], at)
            if grown and row and row.get("fits") is not False:
                said.append(f"{words.times(grown)} times for {p.base}, {units.show_seconds(row[column])}")
        if said:
            said[0] = said[0].replace(" times for", " times as high for", 1)
            yield f"The bound on a {noun} on {metrics.device_title(cast.run, at['hardware'])} is {'; '.join(said)}."


def _row(cast: Cast, point: Point, work: str, at: dict[str, str | None]) -> Record | None:
    return cast.run.row(point.name, workload=work, status="ok", **at)
