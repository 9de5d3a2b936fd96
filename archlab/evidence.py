"""What is published on the quality of each design axis: conf/evidence.yaml. Cited facts, none measured by archlab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from archlab import yamlfile
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.fields import FieldType, check_fields, choice, names, size, text
from archlab.paths import data_dir

KINDS = {
    "recomputed": "computed again from what the source published",
    "report_text": "read in a copy of the source",
    "excerpt": "read in an excerpt of the source",
    "transcription": "noted down by others",
    "recalled": "from memory",
}
"""How well a number was checked against its source, the best first, and in words."""

NEAR_PRIMARY = ("recomputed", "report_text")


def _is_entry(x: Any) -> bool:
    return x is None or isinstance(x, int | float | str)


def _is_values(x: Any) -> bool:
    return (
        isinstance(x, dict)
        and bool(x)
        and all(all(map(_is_entry, v)) if isinstance(v, list) else _is_entry(v) for v in x.values())
    )


@dataclass(frozen=True)
class Source:
    """A paper, a report, a post."""

    title: str = text("its title, and where it is kept")
    cite: str = text("how a sentence names it")
    year: int = size("when it came out", least=1990, most=2100)
    url: str = text("where it can be read")


@dataclass(frozen=True)
class Fact:
    """One published result on a design axis."""

    id: str = text("short name of the fact")
    axis: str = text("the design axis")
    setting: str = text("what was compared")
    metric: str = text("what was scored")
    values: Mapping[str, Any] = field(
        kw_only=True,
        metadata={
            "type": FieldType("a table of label: number, text, null or a list of them", _is_values),
            "doc": "label: number, text, null (not published), or a list with an entry for each of the parts",
        },
    )
    parts: Sequence[str] = names("what the entries of a list are, in their order", ())
    model_size: str = text("parameters of the models")
    tokens: str = text("tokens of training")
    source: str = text("a key of sources")
    where: str | None = text("table, figure, section; left out where it is not known", None)
    kind: str = choice("how well it was checked", tuple(KINDS))
    reading: str = text("what an architect may take from it")
    caveat: str | None = text("what one may not", None)

    @property
    def cited(self) -> Source:
        """The source of the fact."""
        return _file().sources[self.source]

    @property
    def year(self) -> int:
        """When the source came out."""
        return self.cited.year

    @property
    def url(self) -> str:
        """Where the source can be read."""
        return self.cited.url

    @property
    def near_primary(self) -> bool:
        """Whether the numbers were read in the source's own text, or computed again from its data."""
        return self.kind in NEAR_PRIMARY

    @property
    def sentence(self) -> str:
        """Setting, metric, values, source with its year, and how well that was checked."""
        parts = f" ({' / '.join(self.parts)})" if self.parts else ""
        values = ", ".join(_said(label, value) for label, value in self.values.items())
        where = f", {self.where}" if self.where else ""
        return (
            f"{self.setting}; {self.metric}{parts}: {values} "
            f"({self.cited.cite}, {self.year}{where}; {KINDS[self.kind]})."
        )


@dataclass(frozen=True)
class Claim:
    """A wrong statement that is met, and what is right."""

    id: str = text("short name of the claim")
    source: str = text("a key of sources, where what is right is said")
    claim: str = text("what is said")
    right: str = text("what is so")
    why: str = text("why the mistake is made")
    evidence: str = text("where in the sources what is right is said")

    @property
    def cited(self) -> Source:
        """The source of what is right."""
        return _file().sources[self.source]


@dataclass(frozen=True)
class _File:
    sources: Mapping[str, Source]
    facts: tuple[Fact, ...]
    claims: tuple[Claim, ...]


def evidence(axis: str) -> tuple[Fact, ...]:
    """The facts on a design axis, in the file's order. Raises UnknownNameError for an axis that has none."""
    found = tuple(fact for fact in _file().facts if fact.axis == axis)
    if not found:
        known = evidence_axes()
        raise UnknownNameError(
            f"unknown axis {axis!r} of published evidence{nearest(axis, known)} (known: {', '.join(known)})"
        )
    return found


def evidence_axes() -> tuple[str, ...]:
    """The design axes that something is published on, in the file's order."""
    return tuple(dict.fromkeys(fact.axis for fact in _file().facts))


def wrong_claims() -> tuple[Claim, ...]:
    """Wrong statements about Gemma, with what is right."""
    return _file().claims


def _said(label: str, value: Any) -> str:
    """'MHA = 50.3', '31B = 96.8 / 96.4 / 79.5', 'gains go on up to 30 layers', 'ablation of quality not published'."""
    if value is None:
        return f"{label} not published"
    if isinstance(value, str):
        return f"{label} {value}"
    entries = value if isinstance(value, list) else [value]
    return f"{label} = {' / '.join(map(_shown, entries))}"


def _shown(entry: Any) -> str:
    if entry is None:
        return "not given"
    return entry if isinstance(entry, str) else f"{entry:,}"


@lru_cache(maxsize=1)
def _file() -> _File:
    path = data_dir("conf") / "evidence.yaml"
    with yamlfile.naming(path):
        given = yamlfile.read(path)
        sources = {key: _one(Source, f"sources.{key}", entry) for key, entry in given["sources"].items()}
        facts = tuple(_fact(entry, sources) for entry in given["facts"])
        return _File(sources, facts, tuple(_claim(entry, sources) for entry in given["claims"]))


def _fact(entry: Mapping[str, Any], sources: Mapping[str, Source]) -> Fact:
    fact = _one(Fact, str(entry.get("id", "facts")), entry)
    _check_source(fact, sources)
    for label, value in fact.values.items():
        if isinstance(value, list) and len(value) != len(fact.parts):
            raise SpecError(f"{fact.id}.values.{label} must have {len(fact.parts)} entries, one for each of its parts")
    return fact


def _claim(entry: Mapping[str, Any], sources: Mapping[str, Source]) -> Claim:
    claim: Claim = _one(Claim, str(entry.get("id", "claims")), entry)
    _check_source(claim, sources)
    return claim


def _check_source(said: Fact | Claim, sources: Mapping[str, Source]) -> None:
    if said.source not in sources:
        raise SpecError(f"{said.id}.source={said.source!r} must be a key of sources{nearest(said.source, sources)}")


def _one(kind: type, path: str, entry: Mapping[str, Any]) -> Any:
    check_fields(kind, path, entry)
    return kind(**entry)
