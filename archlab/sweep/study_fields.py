"""What the fields of a study may be: tables of axes, spaces to search, texts, sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.errors import SpecError, nearest
from archlab.fields import FieldType, check_fields, choice, names, size
from archlab.sweep.axes import PLACE_KEYS
from archlab.units import tokens

MEASURE = ("auto", "never")
ROWS = ("auto", "all", "kept")
SAMPLERS = ("nsga2", "tpe")

SPACE_KEYS = ("base", "workload", *PLACE_KEYS)
"""Keys of a space to search whose values are names: models, files of conf/workload, conf/hardware ..."""

RATE = FieldType("a number above 0", lambda x: _is_number(x) and x > 0)
"""What hardware.peak_flops.bf16 and the like must be."""

RANGE = ("low", "high", "step", "log")
"""What a range of a space may say."""


def declared(doc: str, default: Any, words: str, test: Callable[[Any], bool], options: tuple[str, ...] = ()) -> Any:
    """A field of any type that may be left out: `words` say what it must be, null among it where the default is."""
    kind = FieldType(words, test, none=default is None, choices=options)
    return field(kw_only=True, default=default, metadata={"type": kind, "doc": doc})


def grid(doc: str) -> Any:
    """A field that is a table of axes; a file must give it, if only as {}."""
    kind = FieldType("a table of key: [values], none of them empty", lambda x: x == {} or _is_grid(x))
    return field(kw_only=True, default_factory=dict, metadata={"type": kind, "doc": doc})


def space(doc: str) -> Any:
    """A field that is a table of what is searched, or null."""
    words = "a table of key: [values] or key: {low:, high:, step: or log:}, or null"
    return declared(doc, None, words, lambda x: isinstance(x, dict) and bool(x) and all(map(_is_dimension, x.values())))


def texts(doc: str, what: str) -> Any:
    """A field that is a list of texts, such as conditions; it may be empty."""
    test = lambda x: isinstance(x, list | tuple) and all(isinstance(t, str) and t.strip() for t in x)  # noqa: E731
    return declared(doc, (), f"a list of {what}", test)


def word(doc: str, what: str = "text") -> Any:
    """A field that is a name or a path, or null."""
    return declared(doc, None, f"{what} or null", lambda x: isinstance(x, str) and bool(x.strip()))


def chosen(doc: str, options: tuple[str, ...]) -> Any:
    """A field that is one of a few words, or null."""
    return declared(doc, None, ", ".join(options) + " or null", lambda x: x in options, options)


def section(doc: str) -> Any:
    """A field that is a section of its own, or null."""
    return declared(doc, None, "a section", lambda x: isinstance(x, dict))


def _is_grid(x: Any) -> bool:
    return isinstance(x, dict) and bool(x) and all(isinstance(v, list) and v for v in x.values())


def _is_dimension(x: Any) -> bool:
    return isinstance(x, dict) or (isinstance(x, list) and bool(x))


@dataclass(frozen=True)
class OnCPU:
    """What a CPU can time within a minute and a half, in place of the study's own points."""

    base: list[str] = names("models to time")
    grid: Mapping[str, list[Any]] = grid("axes to time")
    workloads: list[str] = names("workloads to time", ("short-512",))


@dataclass(frozen=True)
class Search:
    """How `archlab search` goes through a study's space."""

    space: Mapping[str, Any] | None = space("what is searched; null: the study's grid")
    trials: int = size("points to try, those of an earlier run counted", 200, most=1_000_000)
    sampler: str = choice("nsga2: a population that is bred; tpe: a model of good and bad regions", SAMPLERS, "nsga2")
    seed: int = size("of the sampler: the same seed, the same trials", 0, least=0, most=2**32 - 1)


def search_from(data: Mapping[str, Any] | None) -> Search:
    """The section as it is or as it is by default. Raises SpecError."""
    check_fields(Search, "search", data or {})
    return Search(**(data or {}))


def range_from(key: str, given: Mapping[str, Any], kind: FieldType | None) -> dict[str, Any]:
    """A range, {low: 8, high: 64, step: 8} or {..., log: true}, with its tokens read (8k is 8192).

    `kind` is what the key's values must be, where it is known: both ends are held against it. Raises SpecError.
    """
    if key == "workload.context":
        given = {name: tokens(v, f"{key}: {name}") if isinstance(v, str) else v for name, v in given.items()}
    for name in given:
        if name not in RANGE:
            raise SpecError(f"{key}: unknown key {name}{nearest(name, RANGE)} (a range takes {', '.join(RANGE)})")
    for name in ("low", "high"):
        if not _is_number(given.get(name)):
            raise SpecError(f"{key}: {name}={given.get(name)!r} must be a number, as in {{low: 8, high: 64}}")
        if kind is not None:
            kind.check(f"{key}: {name}", given[name])
    for sentence in _odd(given["low"], given["high"], given.get("step"), given.get("log", False)):
        raise SpecError(f"{key}: {sentence}")
    return dict(given)


def _odd(low: Any, high: Any, step: Any, log: Any) -> Iterator[str]:
    """What of a range cannot be."""
    if low > high:
        yield f"low={low} must not exceed high={high}"
    if not isinstance(log, bool):
        yield f"log={log!r} must be true or false"
    if step is not None and not (_is_number(step) and step > 0):
        yield f"step={step!r} must be a number above 0"
    if step is not None and log:
        yield "a range has a step or log: true, not both"
    if log and low <= 0:
        yield f"low={low} must be above 0 where log is true"
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, float):
        yield f"step={step} must be whole, as low and high are; write low={low}.0 for other numbers"


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < float("inf")
