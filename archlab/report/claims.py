"""Claims that are wrong, each with what is right, the numbers that settle it, and a source."""

from __future__ import annotations

from typing import Any

from archlab import units
from archlab.report import words
from archlab.report.load import Record, Run
from archlab.report.parts import CALCULATED, Calculation, Card, Claim, Section

_SAY = {"bytes": units.show_bytes, "tokens": units.show_tokens, "ratio": words.times}
"""Kind of a number -> how it is said; counts of anything else with their kind."""


def claims(run: Run) -> Section | None:
    """A card of claims, or None where the run settles none."""
    found = tuple(_claim(told) for told in run.meta.get("claims") or [])
    if not found:
        return None
    caption = "What is said, what is so, and the numbers behind it, computed from the models when the run was made."
    card = Card("Claims and calculations", (CALCULATED,), caption, claims=found)
    return Section("claims", "Wrong claims", "What do explainers get wrong, and what settles it?", (card,))


def _claim(told: Record) -> Claim:
    cited = told["cited"]
    found = tuple(_calculation(c) for c in told["calculations"])
    link = str(cited["url"]) if str(cited["url"]).startswith("https://") else ""
    return Claim(told["id"], told["claim"], told["right"], told["why"], found, cited["title"], link, cited["where"])


def _calculation(told: Record) -> Calculation:
    value, claimed, kind = told["value"], told.get("claimed"), told["kind"]
    return Calculation(
        told["what"], told["formula"], _said(value, kind), "" if claimed is None else _said(claimed, kind),
        claimed is not None and claimed != value,
    )  # fmt: skip


def _said(value: Any, kind: str) -> str:
    if kind in _SAY:
        return _SAY[kind](value) + (" tokens" if kind == "tokens" else "")
    return f"{value:,}" if kind == "count" else f"{value:,} {kind.removesuffix('s') if value == 1 else kind}"
