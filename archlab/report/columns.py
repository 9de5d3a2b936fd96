"""What a column of the points holds: its name for people, its unit, how it came to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archlab import units
from archlab.report import words
from archlab.report.parts import BOUND, CALCULATED, ESTIMATE, GIVEN, PREDICTED

QUALITY = "quality_"
"""How the columns begin that a user's own table gave."""
CHARACTER = "_per_character"


@dataclass(frozen=True)
class Quantity:
    """A column as people read it."""

    column: str
    name: str
    scale: words.Scaler
    tag: str = CALCULATED

    def say(self, value: float) -> str:
        """'21.66 GiB', '8.47 ms', '9.24 B': for a sentence."""
        if self.scale is words.gib:
            return words.say_bytes(value)
        return units.show_seconds(value) if self.scale is words.seconds else self.scale([value]).full(value)

    @property
    def head(self) -> str:
        """The name at the head of a column; a user's own name stays as it is."""
        return self.name if self.tag == GIVEN else words.sentence(self.name)

    @property
    def noun(self) -> str:
        """The name inside a sentence."""
        if self.tag == GIVEN:
            return self.name
        first = self.name.partition(" ")[0]
        return self.name if first.isupper() or not first.isalpha() else self.name[0].lower() + self.name[1:]


_KNOWN = (
    Quantity("params", "Parameters", words.count),
    Quantity("active_params", "Active parameters", words.count),
    Quantity("weights_bytes", "Weights", words.gib),
    Quantity("kv_cache_bytes", "KV cache", words.gib),
    Quantity("memory_bytes", "Memory needed", words.gib, ESTIMATE),
    Quantity("prefill_bound_s", "Prefill bound", words.seconds, BOUND),
    Quantity("decode_bound_s", "Decode bound", words.seconds, BOUND),
    Quantity("prefill_predicted_s", "Predicted prefill", words.seconds, PREDICTED),
    Quantity("decode_predicted_s", "Predicted decode step", words.seconds, PREDICTED),
    Quantity("flops_prefill", "Work of a prefill", words.flop),
    Quantity("flops_decode", "Work of a decode step", words.flop),
    Quantity("max_context", "Longest context", words.number, ESTIMATE),
    Quantity("max_batch", "Largest batch", words.number, ESTIMATE),
    Quantity("tokens_per_character", "Tokens a character", words.number),
)
_BY_NAME: Mapping[str, Quantity] = {q.column: q for q in _KNOWN}


def quantity(column: str) -> Quantity:
    """The quantity of a column; one that is not known is read by its name's ending."""
    if column in _BY_NAME:
        return _BY_NAME[column]
    if column.startswith(QUALITY):
        return Quantity(column, column.removeprefix(QUALITY).replace("_", " "), words.number, GIVEN)
    if CHARACTER in column and (whole := column.replace(CHARACTER, "")) in _BY_NAME:
        of = _BY_NAME[whole]
        return Quantity(column, f"{of.name}, a character", words.size if of.scale is words.gib else of.scale, of.tag)
    return Quantity(column, column.replace("_", " "), _scale(column), _tag(column))


def _scale(column: str) -> words.Scaler:
    if column.endswith("_bytes"):
        return words.size
    if column.endswith("_s"):
        return words.seconds
    return words.flop if column.startswith("flops") else words.number


def _tag(column: str) -> str:
    kinds = (("_bound", BOUND), ("_predicted", PREDICTED), ("memory_", ESTIMATE))
    return next((tag for word, tag in kinds if word in column), CALCULATED)


def tags(of: Iterable[Quantity]) -> tuple[str, ...]:
    """How some quantities came to be, each once."""
    there = {q.tag for q in of}
    return tuple(tag for tag in (CALCULATED, BOUND, PREDICTED, ESTIMATE, GIVEN) if tag in there)
