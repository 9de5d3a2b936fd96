"""What a page is made of: plain data between those who compute it and the templates that write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from archlab.report.palette import Look
from archlab.report.points import Point

CALCULATED, BOUND, MEASURED, ESTIMATE = "calculated", "bound", "measured", "estimate"
PREDICTED, EXTRAPOLATED, GIVEN = "predicted", "extrapolated", "given"
"""How a number came to be. A bound is the least that a device's rates allow; it is neither measured nor a forecast. An
estimate is memory that no formula gives exactly. A prediction is what a device's calibration expects. What was timed of
a few layers alone is extrapolated, and not measured, where nothing shows that it holds for the whole model. What a
table beside the run said is given."""


@dataclass(frozen=True)
class Answer:
    """What a run says to its question: the heading, and sentences for the lines below it."""

    said: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """What is shown, what sorting and CSV use, the length of the bar behind it (0 to 1), a footnote's mark."""

    text: str
    value: Any = None
    share: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """`key` heads the CSV and carries the unit of the raw values; `head` and `unit` are what people read."""

    key: str
    head: str
    unit: str = ""
    tag: str = ""
    number: bool = True
    group: str = ""  # columns of one group have a common heading


@dataclass(frozen=True)
class Row:
    """A row with a heading; `point` ties it to the filter."""

    head: str
    cells: tuple[Cell, ...]
    point: Point | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts and downloads itself."""

    id: str
    label: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Swatch:
    """An entry of a legend: a filled square, or a sample of a line. `colour` names a variable of the style sheet."""

    label: str
    colour: str
    look: Look | None = None


@dataclass(frozen=True)
class Figure:
    """A picture that the page draws: `variants` holds one for each state of the card's switches.

    A variant is {"data", "layout", "hints"}; hints are what only the page can settle (labels, rows, phone).
    """

    id: str
    title: str
    about: str
    variants: Mapping[str, Mapping[str, Any]]
    where: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Switch:
    """A row of buttons that chooses among variants; a menu where they are many, or where it says so."""

    name: str
    options: tuple[tuple[str, str], ...]  # (key, label)
    chosen: str
    menu: bool = False


@dataclass(frozen=True)
class Strip:
    """The layers of those points that share a pattern."""

    label: str
    points: tuple[int, ...]
    cells: int
    paths: tuple[tuple[str, str], ...]  # (variable of a colour, the outline of its cells)
    about: str


@dataclass(frozen=True)
class Drawing:
    """A model as pictures that are markup: one a stack, side by side below its name."""

    label: str
    about: str
    points: tuple[int, ...]
    pictures: tuple[Markup, ...]


@dataclass(frozen=True)
class Square:
    """A cell of a matrix: its kind is its colour; two lines, and all of it in words."""

    kind: str
    first: str
    second: str
    detail: str


@dataclass(frozen=True)
class Matrix:
    """A table of verdicts: `states` holds its cells for each state of the card's switches, by row."""

    id: str
    label: str
    head: str
    columns: tuple[tuple[str, str], ...]  # (what it is called, what stands below)
    rows: tuple[Point, ...]
    states: Mapping[str, Mapping[Point, tuple[Square, ...]]]
    chosen: str


@dataclass(frozen=True)
class Finding:
    """A big number, its unit, what it is, and how it came to be."""

    number: str
    unit: str
    text: Markup
    tag: str


@dataclass(frozen=True)
class Cite:
    """Somebody's published result: the sentence, its source, and how well it was checked, in words."""

    sentence: str
    title: str
    link: str  # '' where there is none
    year: str
    grade: str
    near: bool  # the numbers are the source's own


@dataclass(frozen=True)
class Calculation:
    """A number that settles a claim: of what, by which formula, what it is, and what the claim would make of it."""

    what: str
    formula: str
    value: str
    claimed: str  # '' where the claim gives none
    refuted: bool


@dataclass(frozen=True)
class Claim:
    """What is said and wrong, what is so, why the mistake is made, and where what is so can be read."""

    id: str
    said: str
    right: str
    why: str
    calculations: tuple[Calculation, ...]
    title: str
    link: str  # '' where there is none
    where: str


@dataclass(frozen=True)
class Card:
    """A box of a section: figures, a table, strips, or any of these; what it lacks is not drawn."""

    title: str = ""
    tags: tuple[str, ...] = ()
    caption: str = ""
    figures: tuple[Figure, ...] = ()
    small: bool = False  # figures side by side
    pairs: bool = False  # two of them at most
    switches: tuple[Switch, ...] = ()
    legend: tuple[Swatch, ...] = ()
    strips: tuple[Strip, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    matrix: Matrix | None = None
    table: Table | None = None  # the card's own
    numbers: Table | None = None  # the same as the figures, in words
    raw: tuple[str, ...] = ()  # offers the run's own tables, as CSV and as JSON: what the buttons say
    findings: tuple[Finding, ...] = ()
    facts: tuple[tuple[str, str, bool], ...] = ()  # (name, text, as code)
    cites: tuple[Cite, ...] = ()
    claims: tuple[Claim, ...] = ()
    formulas: tuple[tuple[str, str, bool], ...] = ()  # what stands behind the card's numbers, as facts
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A question and the cards that answer it."""

    id: str
    title: str
    question: str
    cards: tuple[Card, ...] = field(default_factory=tuple)
