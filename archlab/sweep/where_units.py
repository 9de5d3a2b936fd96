"""Which units may stand beside a column of a condition, by the column's name."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from archlab.units import BYTES, COUNTS, SECONDS, TOKENS

UNITS: dict[str, Mapping[str, int | Fraction]] = {
    "bytes": BYTES, "seconds": SECONDS, "a count": COUNTS, "tokens": TOKENS,
}  # fmt: skip
EXAMPLE = {"bytes": "24 GiB", "seconds": "20 ms", "a count": "9B", "tokens": "32k or 1M"}
_OF_TOKENS = {"context", "window", "max_context", "trained_context", "source", "prefix", "new"}


def measured_in(name: str) -> str:
    """What a column is in, by its name: bytes, seconds, tokens, a count, or a rate (any unit may stand beside it)."""
    last = name.rpartition(".")[2]
    words = last.split("_")
    if "per" in words:
        return "a rate"
    if last in _OF_TOKENS:
        return "tokens"
    return "bytes" if "bytes" in words else "seconds" if words[-1] == "s" else "a count"
