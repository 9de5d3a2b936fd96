"""What is published about quality: others' results, cited, with how well each was checked."""

from __future__ import annotations

from typing import Any

from archlab.report import words
from archlab.report.parts import Card, Cite
from archlab.report.points import Cast

GRADES = {
    "recomputed": "computed again from the source's data",
    "report_text": "read in the source's text",
    "excerpt": "read in an excerpt",
    "transcription": "noted down by others",
    "recalled": "from memory",
}
"""How well a number was checked, the best first, in words."""
FIRST = ("recomputed", "report_text")


def card(cast: Cast) -> Card | None:
    """The card, or None where the run cites nothing."""
    found = [x for x in cast.run.meta["evidence"] if isinstance(x, dict) and x.get("sentence")]
    if not found:
        return None
    near = sum(x.get("kind") in FIRST for x in found)
    return Card(
        "Measured by others", (),
        "Each result is its authors' own, with their models, their text and their tokenizer. archlab measured none of "
        "them, and no number here enters its computations.",
        cites=tuple(_cite(x) for x in found),
        notes=(f"{_near(near, len(found))} Perplexities of different papers do not compare.",),
    )  # fmt: skip


def _near(near: int, n: int) -> str:
    if near == n:
        return "All were read in the source's own text, or computed again from its data."
    some = words.sentence(words.some(near, "result"))
    verb = "was" if near == 1 else "were"
    return f"{some} of {n} {verb} read in the source's own text or computed again from its data; the others less well."


def _cite(entry: dict[str, Any]) -> Cite:
    kind = str(entry.get("kind") or "")
    url = str(entry.get("url") or "")
    link = url if url.startswith(("https://", "http://")) else ""
    grade = GRADES.get(kind, kind)
    return Cite(str(entry["sentence"]), str(entry.get("title") or url), link, str(entry.get("year") or ""), grade,
                kind in FIRST)  # fmt: skip
