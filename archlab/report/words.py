"""Numbers as people read them: a scale for each axis and column, and the small words of sentences.

GiB, ms and GFLOP exist here and in `archlab.units`; the run has bytes, seconds and FLOPs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from archlab import units

NONE = "–"
"""What stands where there is no number."""


@dataclass(frozen=True)
class Scale:
    """A unit that suits a set of values, and how many decimals they need beside one another."""

    divisor: float
    unit: str
    decimals: int

    def of(self, value: float | None) -> float | None:
        """The value in this unit, to five significant figures."""
        return None if value is None else significant(value / self.divisor)

    def show(self, value: float | None) -> str:
        """'21.66', without the unit."""
        return NONE if value is None else f"{value / self.divisor:,.{self.decimals}f}"

    def full(self, value: float | None) -> str:
        """'21.66 GiB'."""
        return NONE if value is None else f"{self.show(value)} {self.unit}".strip()


Scaler = Callable[[Iterable[float | None]], Scale]


HELD = {"params": "parameters", "flops": "FLOPs", "kv_cache": "KV cache", "memory": "memory"}
"""What a study holds -> its name."""

AS_USUAL = {"released": "as released", "original": "as in the file"}
"""What a base's own shape is called (Run.usual) -> the same after a shape: 'window 4,096, as released'."""


def gib(values: Iterable[float | None]) -> Scale:
    """Bytes as GiB, whatever the size, so that columns compare."""
    return _scale(values, units.GIB, "GiB")


def seconds(values: Iterable[float | None]) -> Scale:
    """Seconds as s, ms or us: the unit of the largest."""
    known = _known(values)
    return _suited(known, (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)))


def count(values: Iterable[float | None]) -> Scale:
    """A count as billions, millions or as it is."""
    known = _known(values)
    if max(known, default=0) < 10**6:
        return Scale(1, "", 0)
    return _suited(known, (("B", 1e9), ("M", 1e6)))


def flop(values: Iterable[float | None]) -> Scale:
    """FLOPs as PFLOP, TFLOP, GFLOP or MFLOP."""
    return _suited(_known(values), (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)))


def size(values: Iterable[float | None]) -> Scale:
    """Bytes in the unit of the largest: what is a few KiB for each character is read in KiB."""
    return _suited(_known(values), (("GiB", units.GIB), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1)))


def number(values: Iterable[float | None]) -> Scale:
    """Any numbers, to about four significant figures."""
    most = max((abs(v) for v in _known(values)), default=0.0)
    return Scale(1, "", max(0, min(6, 3 - math.floor(math.log10(most)))) if most else 0)


def plain(values: Iterable[float | None]) -> Scale:
    """Whole numbers as they are."""
    return Scale(1, "", 0)


def _suited(known: Sequence[float], steps: Sequence[tuple[str, float]]) -> Scale:
    """The largest unit in which the largest value is at least 1."""
    unit, divisor = next((s for s in steps if max(known, default=0) >= s[1]), steps[-1])
    return _scale(known, divisor, unit)


def _scale(values: Iterable[float | None], divisor: float, unit: str) -> Scale:
    """As many decimals as `archlab.units` gives the largest, and enough that the smallest is not shown as zero."""
    sizes = [abs(v) / divisor for v in _known(values) if v] or [1.0]
    most = max(sizes)
    suits = 0 if most >= 1000 else 1 if most >= 100 else 2 if most >= 1 else 3
    return Scale(divisor, unit, min(6, max(suits, -math.floor(math.log10(min(sizes))))))


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


# ---------------------------------------------------------------- in sentences


LEAST_GIB = 0.1 * units.GIB
"""Bytes from which a sentence says GiB."""


def say_bytes(n: float) -> str:
    """'21.66 GiB'; below a tenth of a GiB '41.00 MiB'."""
    return units.show_gib(n) if n >= LEAST_GIB else units.show_bytes(n)


def alike(values: Sequence[float], of: Scaler) -> list[str]:
    """Amounts that are compared, in the unit of the largest, each to its own figures.

    >>> alike([16.44 * 2**20, 0.2 * 2**30], gib), alike([0.0009, 0.0012], seconds)
    (['0.016 GiB', '0.20 GiB'], ['0.90 ms', '1.20 ms'])
    """
    small = of is gib and max(values) < LEAST_GIB
    scale = (size if small else of)(values)
    if not scale.unit:
        return [scale.full(v) for v in values]
    return [f"{_figures(v / scale.divisor)} {scale.unit}" for v in values]


def _figures(x: float) -> str:
    """As many decimals as `archlab.units` gives a number, and two figures of what is under a tenth."""
    small = 1 - math.floor(math.log10(abs(x))) if x else 0
    return f"{x:,.{0 if x >= 1000 else 1 if x >= 100 else max(2, small)}f}"


def say_flop(n: float) -> str:
    """'18.40 GFLOP'."""
    return flop([n]).full(n)


def split(text: str) -> tuple[str, str]:
    """'21.66 GiB' -> ('21.66', 'GiB')."""
    number, _, unit = text.partition(" ")
    return number, unit


def about(tokens: int) -> str:
    """'88k' of 90,624 tokens: rounded down, so that so many do fit."""
    if tokens < 1024:
        return f"{tokens:,}"
    return f"{tokens // 1024:,}k" if tokens < 2**20 else f"{tokens / 2**20:.3g}M"


def times(ratio: float) -> str:
    """'8.0', '1.06', '46': how many times, without the sign."""
    return f"{ratio:,.0f}" if ratio >= 20 else f"{ratio:.1f}" if ratio >= 1.5 else f"{ratio:.2f}"


def less(ratio: float, word: str) -> str:
    """How the smaller of two stands to the larger, `ratio` times as large: 'a third of', '1/8 of', '56 % smaller than'.

    >>> [less(r, "smaller") for r in (8, 3.0, 2.28, 1.35)]
    ['1/8 of', 'a third of', '56 % smaller than', '26 % smaller than']
    """
    part = fraction(1 / ratio)
    return f"{part} of" if part else f"{percent(1 - 1 / ratio)} {word} than"


def big(ratio: float, word: str) -> tuple[str, str]:
    """The same for a big number: ('1/3', 'of'), ('56', '% smaller than')."""
    if fraction(1 / ratio):
        return f"1/{round(ratio):,}", "of"
    return split(less(ratio, word))


def fraction(share: float) -> str:
    """'half', 'a third', '1/8' of a share that is within 2 % of one, or under a tenth; '' of any other."""
    n = round(1 / share) if share else 0
    if n < 2 or (n < 10 and abs(share * n - 1) > NEAR):
        return ""
    return _FRACTIONS.get(n) or f"1/{n:,}"


NEAR = 0.02
"""Shares no farther than this from a fraction are called by it."""
_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}


def becomes(share: float) -> tuple[str, str]:
    """A verb, and how far it goes, of what becomes this share of what it was.

    >>> [becomes(x) for x in (0.25, 0.74, 1.15, 2.0, 3.1)]
    [('falls', 'to a quarter'), ('falls', 'by 26 %'), ('rises', 'by 15 %'), ('doubles', ''), ('rises', '3.1-fold')]
    """
    if share < 1:
        part = fraction(share)
        return "falls", f"to {part}" if part else f"by {percent(1 - share)}"
    if abs(share / 2 - 1) <= NEAR / 2:
        return "doubles", ""
    return "rises", f"{times(share).removesuffix('.0')}-fold" if share >= 1.95 else f"by {percent(share - 1)}"


def percent(share: float) -> str:
    """'0.10 %', '4.2 %', '37 %'."""
    x = abs(share) * 100
    return f"{x:.0f} %" if x >= 10 or x == 0 else f"{x:.1f} %" if x >= 1 else f"{x:.2f} %"


def listing(words: Sequence[str]) -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def some(n: int, one: str, many: str = "") -> str:
    """'one point', 'five points', '16 points'."""
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{names[n] if n < len(names) else n} {one if n == 1 else many or one + 's'}"


def every(n: int, one: str = "") -> str:
    """'both models', 'all 12 models'; 'both' or 'all 12' of nothing named."""
    return f"{'both' if n == 2 else f'all {n:,}'} {one + 's' * bool(one)}".strip()


def sentence(text: str) -> str:
    """The text with a capital at its start, unless that is a name such as n_kv_heads or gemma-2-9b."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def axis_value(value: Any) -> str:
    """'4,096', 'none', 'local*5 global'; 'last 10' of the layers '-10:'."""
    if value is None:
        return "none"
    if found := re.fullmatch(r"-(\d+):", str(value)):
        return f"last {found[1]}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if value == int(value) and abs(value) >= 1000 else f"{value:g}"


def axis_tag(value: Any) -> str:
    """The shortest that can still be read: '5:1' for 'local*5 global'."""
    found = re.fullmatch(r"local(?:\*(\d+))? global(?:\*(\d+))?", str(value))
    return f"{found[1] or 1}:{found[2] or 1}" if found else axis_value(value)


def workload(work: Mapping[str, Any]) -> str:
    """'8k tokens', or '32 × 8k tokens', or '512 tokens from a source of 8k', or '1k tokens with 1 image'."""
    batch, context = work.get("batch") or 1, work.get("context") or 0
    said = f"{units.show_tokens(context)} tokens"
    said = f"{batch} × {said}" if batch != 1 else said
    if work.get("source"):
        said += f" from a source of {units.show_tokens(work['source'])}"
    if work.get("images"):
        said += f" with {work['images']} image" + "s" * (work["images"] != 1)
    return said


def moment(utc: Any) -> str:
    """'21 November 2026, 08:00 UTC' from an ISO time; as it is where it is none."""
    try:
        at = datetime.fromisoformat(str(utc).replace("Z", "+00:00"))
    except ValueError:
        return str(utc or "")
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def significant(x: float, figures: int = 5) -> float:
    """Rounded to significant figures: what a picture needs, in a fifth of the text."""
    return float(f"{x:.{figures}g}")
