"""How times grow along an axis of the workload, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from archlab import units
from archlab.report import beyond, timed, words
from archlab.report.charts.timed_lines import BATCH, CONTEXT, Along, Line, lines, say
from archlab.report.parts import BOUND, PREDICTED
from archlab.report.points import Cast

_GROWS = {
    "": "a {} takes {} times as long",
    PREDICTED: "a {} is expected to take {} times as long",
    BOUND: "the bound on a {} is {} times as high",
}
"""Kind of line -> how it is said to grow."""


def caption(made: Sequence[Line], place: str) -> str:
    """'At 2k tokens instead of 128, a decode step takes 1.1 to 1.3 times as long and a prefill ...', of one place."""
    grown: dict[tuple[int, int], list[str]] = {}
    for phase in timed.phases(t for x in made for t in x.every):
        ends, mine = _longest([x for x in made if (x.place, x.phase) == (place, phase)])
        if mine:
            grown.setdefault(ends, []).append(_grows(mine))
    said = [f"{_step(made[0].along, *ends)}, {words.listing(texts)}." for ends, texts in grown.items()]
    if len({x.place for x in made}) == 1:
        return " ".join(said)
    return " ".join(f"On {place}, {text[0].lower()}{text[1:]}" for text in said)


def _longest(made: Sequence[Line]) -> tuple[tuple[int, int], list[Line]]:
    """The longest way along the axis that a line goes on a device that holds it all, and the lines that go it."""
    ends = {x: (x.reached[0][0], x.reached[-1][0]) for x in made if len(x.reached) > 1}
    longest = max(ends.values(), key=lambda e: e[1] / e[0], default=(0, 0))
    return longest, [x for x in ends if ends[x] == longest]


def headings(cast: Cast) -> list[str]:
    """How a decode step of a run's only point grows along each axis of its workload, in a sentence without its dot."""
    found = []
    for along in varied(cast):
        decode = [x for x in lines(along, timed.on_devices(cast)) if x.phase == "decode"]
        first = [x for x in decode if x.place == decode[0].place]
        ends, mine = _longest(sorted(first, key=lambda x: x.held))
        if mine:
            note = beyond.of_context(cast.run, ends[1], [mine[0].point]) if along is CONTEXT else ""
            found.append(f"{_step(along, *ends, note)}, the {_whose(mine[0])} is {words.listing(_each(cast, mine))}")
    return found


def _whose(line: Line) -> str:
    what = "prediction for" if line.kind == PREDICTED else "bound on"
    return f"{what} a decode step of {line.point.base} on {line.place}"


def _each(cast: Cast, mine: Sequence[Line]) -> list[str]:
    """'1.35 times as high with batch 1', '2.3 times with batch 4': of the least and the most that is held."""
    ends = dict.fromkeys((mine[0], mine[-1]))
    notes = {x: beyond.of_context(cast.run, x.held, [x.point]) if x.along is BATCH else "" for x in ends}
    said = [f"{words.times(_ratio(x))} times with {say(x.along.held, x.held)}{notes[x]}" for x in ends]
    return [said[0].replace(" times with", " times as high with", 1), *said[1:]]


def _ratio(line: Line) -> float:
    return line.reached[-1][1] / line.reached[0][1]


def varied(cast: Cast) -> list[Along]:
    """What of context and batch is an axis of the run."""
    keys = {str(axis["key"]).removeprefix("workload.") for axis in cast.run.meta["axes"]}
    return [along for along in (CONTEXT, BATCH) if along.key in keys]


def _step(along: Along, first: int, last: int, note: str = "") -> str:
    if along is CONTEXT:
        return f"At {units.show_tokens(last)} tokens{note} instead of {units.show_tokens(first)}"
    return f"With {last:,} sequences instead of {first:,}"


def _grows(mine: Sequence[Line]) -> str:
    ratios = [_ratio(x) for x in mine]
    grown = " to ".join(dict.fromkeys(words.times(r) for r in (min(ratios), max(ratios))))
    kind = mine[0].kind if mine[0].kind in _GROWS else ""
    return _GROWS[kind].format({"decode": "decode step"}.get(mine[0].phase, mine[0].phase), grown)
