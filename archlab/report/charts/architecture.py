"""The models as block diagrams, side by side; what differs between them, or what the study turns, is called out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from archlab.report import words
from archlab.report.charts import bars, pattern
from archlab.report.diagram import Key, boxes_of, drawing, summary
from archlab.report.parts import CALCULATED, Card, Cell, Column, Drawing, Row, Table
from archlab.report.points import Cast
from archlab.report.thin import evenly

MOST = 8
"""So many models are drawn."""
VALUES = 12
"""So many values of an axis are told."""
LISTED = 24
"""So many facts are named in a sentence."""

Json = Mapping[str, Any]
Facts = dict[Key, tuple[str, str, str]]
"""Key -> (what it is of, label, value)."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run describes no models."""
    known = [told for told in cast.run.meta["diagrams"] if _points(cast, told)]
    models = known[:MOST]
    if not models:
        return None
    facts = [facts_of(told) for told in models]
    differ = differing(facts)
    marked = differ | _turned(cast, facts)
    return Card(
        "Architecture", (CALCULATED,), _caption(cast, models), legend=bars.legend(_reaches(models), pattern.SAID),
        drawings=tuple(_drawing(cast, told, marked) for told in models), facts=tuple(_of_study(cast)),
        numbers=_table(models, facts), notes=tuple(_notes(facts, differ, len(known) - len(models), models)),
    )  # fmt: skip


def _points(cast: Cast, told: Json) -> tuple[int, ...]:
    """The points that this model stands for: itself, or those that a study made of it."""
    return tuple(p.index for p in cast.wide.all if told["name"] in (p.base, p.name))


def _reaches(models: Sequence[Json]) -> list[str]:
    return list(dict.fromkeys(sort["reach"] for told in models for s in told["stacks"] for sort in s["sorts"]))


def _drawing(cast: Cast, told: Json, marked: Collection[Key]) -> Drawing:
    pictures = tuple(drawing(told, i, marked) for i in range(len(told["stacks"])))
    return Drawing(told["name"], summary(told), _points(cast, told), pictures)


# ---------------------------------------------------------------- facts


def facts_of(told: Json) -> Facts:
    """Everything that the picture of a model says, in its order."""
    found: Facts = {}
    for stack in told["stacks"]:
        beside = "encoder's " if stack["name"] == "encoder" else ""
        for place, field, label, value in _of_stack(stack):
            found[stack["name"], place, field] = (beside + place.replace("_", " "), label, value)
    return found


def _of_stack(stack: Json) -> Iterator[tuple[str, str, str, str]]:
    """(place, field, label, value)."""
    yield "layers", "n_layers", "layers", f"{stack['n_layers']:,}"
    yield "layers", "pattern", "pattern", stack["pattern"]
    for told in (*stack["towers"], *stack["before"]):
        yield from _of_box(told["name"], told)
    for told in filter(None, [stack["around"]]):
        yield from _of_box(told["part"], told)
    for slot in (*stack["slots"], *stack["extra"]):
        for at, said in (("pre", "norm before"), ("post", "norm after"), ("joint", "norm of the sum")):
            if slot[at]:
                yield slot["name"], f"norm_{at}", said, slot[at]
        for told in boxes_of(slot):
            yield from _of_box(told["part"], told)
    for told in stack["after"]:
        yield from _of_box(told["name"], told)


def _of_box(place: str, told: Json) -> Iterator[tuple[str, str, str, str]]:
    kinds = [head.rpartition(" ×")[0] for head in told["columns"]]
    yield place, "title", "block", told["title"]
    for field, label, values in told["rows"]:
        several = len(values) > 1
        said = [f"{kind} {value}" for kind, value in zip(kinds, values, strict=True)] if several else values
        yield place, field, label, ", ".join(said)


def differing(facts: Sequence[Facts]) -> set[Key]:
    """What some models have otherwise than others. Of a block that a model lacks, that it is there, and no more."""
    places = [{key[:2] for key in told} for told in facts]
    everywhere = set.intersection(*places) if places else set()
    found = set()
    for key in dict.fromkeys(key for told in facts for key in told):
        values = {told[key][2] if key in told else None for told in facts}
        if len(values) > 1 and (key[:2] in everywhere or key[2] == "title"):
            found.add(key)
    return found


def _turned(cast: Cast, facts: Sequence[Facts]) -> set[Key]:
    """The facts that the axes of a study turn."""
    axes = [axis.key.removeprefix("model.").split(".") for axis in cast.run.axes]
    return {key for told in facts for key in told for axis in axes if _is_of(key, axis)}


def _is_of(key: Key, axis: Sequence[str]) -> bool:
    """Whether a fact is what an axis turns: its field, in its section where that is a block's."""
    place, field = key[1:]
    section = axis[-2] if len(axis) > 1 else place
    return field == axis[-1] and (section == place or (place == "attention" and section not in _BLOCKS))


_BLOCKS = ("mlp", "moe", "embedding", "head", "cross_attention", "laurel", "altup")
"""Sections of a model file that are no kinds of layer."""


# ---------------------------------------------------------------- words


def _caption(cast: Cast, models: Sequence[Json]) -> str:
    first = "From the tokens up; the layer is drawn once. Beside a title: the parameters of all layers."
    if cast.run.is_study:
        return f"{'Each base' if len(models) > 1 else 'The base'}, as it is before the study. {first}"
    return first


def _notes(facts: Sequence[Facts], differ: set[Key], more: int, models: Sequence[Json]) -> Iterator[str]:
    if len(facts) > 1:
        every = list(dict.fromkeys(key for told in facts for key in told))
        shared = [key for key in every if key not in differ and key[2] != "title" and all(key in f for f in facts)]
        apart = [key for key in every if key in differ]
        yield f"In colour is what differs: {_named(facts, apart)}." if apart else "In what is drawn they are the same."
        yield from [f"The same in all: {_named(facts, shared)}."] * bool(apart and shared)
    if any(sort["changed"] for told in models for stack in told["stacks"] for sort in stack["sorts"]):
        yield "In the strip of layers, paler ones differ from the others of their kind; the boxes say in what."
    if more > 0:
        yield f"{words.sentence(words.some(more, 'model'))} more in the whole run's download."


def _of_study(cast: Cast) -> Iterator[tuple[str, str, bool]]:
    """What a study turns, and what sets its bases apart: beside the picture."""
    if not cast.run.is_study:
        return
    for axis in cast.run.axes:
        shown = ", ".join(words.axis_value(v) for v in evenly(axis.values, VALUES))
        more = f", of {len(axis.values)} values" if len(axis.values) > VALUES else ""
        yield f"Turned: {axis.label}", shown + more, False
    for name, text in (cast.run.meta.get("special") or {}).items():
        yield f"Special in {name}", str(text), False


def _named(facts: Sequence[Facts], keys: Sequence[Key]) -> str:
    """'layers, pattern, mlp (d_ff)': the labels of facts by what they are of; of a block that some lack, its title."""
    of: dict[str, list[str]] = {}
    for key in keys[:LISTED]:
        place, label, value = next(told[key] for told in facts if key in told)
        if key[2] == "title":
            of[f"encoder's {value}" if key[0] == "encoder" else value] = []
        elif key[1] == "layers":
            of[label] = []
        else:
            of.setdefault(place, []).append(label)
    said = [f"{place} ({', '.join(labels)})" if labels else place for place, labels in of.items()]
    return ", ".join(said) + f" and {len(keys) - LISTED} more" * (len(keys) > LISTED)


def _table(models: Sequence[Json], facts: Sequence[Facts]) -> Table:
    """A row a fact, a column a model: the pictures in words."""
    rows = []
    for place, keys in groupby(dict.fromkeys(key for told in facts for key in told), lambda key: key[:2]):
        for key in keys:
            of, label, _ = next(told[key] for told in facts if key in told)
            head = label if place[1] == "layers" else f"{of}: {label}"
            rows.append(Row(head, tuple(_cell(told, key) for told in facts)))
    columns = tuple(Column(told["name"], told["name"], number=False) for told in models)
    return Table("architecture-numbers", "Architecture", "Fact", columns, tuple(rows))


def _cell(told: Facts, key: Key) -> Cell:
    return Cell(told[key][2], told[key][2]) if key in told else Cell(words.NONE)
