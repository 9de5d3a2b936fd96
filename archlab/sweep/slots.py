"""Rules of placeholders: their conditions as results, and their sentences with slots where numbers will stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from archlab.columns.polynomial import key
from archlab.columns.traced import Traced
from archlab.fields import Rule


@dataclass(frozen=True)
class Said:
    """results: 'rule:n' -> condition, 'said:n' -> a number; sentences: 'rule:n' -> text in which {n} is said:n."""

    results: dict[str, Any]
    sentences: dict[str, str]


def said(rules: Iterable[Rule]) -> Said:
    """The rules that depend on what is not known yet, each once."""
    results: dict[str, Any] = {}
    sentences: dict[str, str] = {}
    open_ = {key(c.poly): (c, sentence) for c, sentence in rules if isinstance(c, Traced)}
    for n, (condition, sentence) in enumerate(open_.values()):
        results[f"rule:{n}"] = condition
        slots = condition.graph.slots
        first = len(slots)
        sentences[f"rule:{n}"] = sentence()
        results |= {f"said:{i}": Traced(condition.graph, slots[i]) for i in range(first, len(slots))}
    return Said(results, sentences)
