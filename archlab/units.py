"""Bytes, tokens and times as people write them. The only place where GiB, GB, '32k' and 'ms' exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from archlab.errors import SpecError

GIB = 2**30
GB = 10**9

_TOKENS = re.compile(r"^(\d+(?:[_,]\d{3})*|\d+(?:\.\d+)?)\s*([kKmM]?)$")
_BYTES = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B)$")
_SCALE = (
    {"B": 1}
    | {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}
    | {f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)}
)


SECONDS = {"s": Fraction(1), "ms": Fraction(1, 10**3), "us": Fraction(1, 10**6), "ns": Fraction(1, 10**9)}
BYTES: Mapping[str, int] = {unit: n for unit, n in _SCALE.items() if unit != "B"}
TOKENS = {"k": 1024, "K": 1024, "M": 1024**2}
COUNTS = {"k": 1024, "K": 1024, "M": 10**6, "B": 10**9, "T": 10**12}
"""Units of conditions (`memory_bytes <= 24 GiB`): k is 1024 of anything, M 2^20 of tokens alone."""


def tokens(text: Any, name: str = "context") -> int:
    """Tokens from 8192, '8k' (8 x 1024) or '1M' (1024 x 1024). Raises SpecError."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _TOKENS.match(text.strip()) if isinstance(text, str) else None
    if found:
        digits, scale = re.sub("[_,]", "", found[1]), 1024 ** " km".index(found[2].lower() or " ")
        count = float(digits) * scale if "." in digits else int(digits) * scale
        if count == int(count):
            return int(count)
    raise SpecError(f"{name}={text!r} is not a number of tokens; write it as 8192 or 8k")


def memory(text: Any, name: str = "memory") -> int:
    """Bytes from 85899345920, '80 GiB' or '80 GB'. Raises SpecError."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _BYTES.match(str(text).strip())
    if not found:
        raise SpecError(f"{name}={text!r} is not a number of bytes; write it as 24 GiB or 24 GB")
    return int(float(found[1]) * _SCALE[found[2]])


def show_gib(n_bytes: float) -> str:
    """'10.41 GiB': three or four significant figures, the unit always GiB so that columns compare."""
    return f"{n_bytes / GIB:,.{_decimals(n_bytes / GIB)}f} GiB"


def show_bytes(n_bytes: float) -> str:
    """The binary unit that suits the size: '496 KiB', '10.41 GiB'."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:,.{_decimals(n_bytes / scale)}f} {unit}"
    return f"{n_bytes:,.0f} B"


def show_count(n: float) -> str:
    """'27.01 B', '268.1 M', '75,776': counts of parameters or operations."""
    for unit, scale in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if n >= scale:
            return f"{n / scale:,.{_decimals(n / scale)}f} {unit}"
    return f"{n:,.0f}"


def show_seconds(seconds: float) -> str:
    """'3.21 ms', '18.4 s', '742 us'."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.{_decimals(seconds / scale)}f} {unit}"
    return f"{seconds * 1e9:,.0f} ns"


def show_tokens(n: int) -> str:
    """'128k' for 131,072; '1,480' where no unit divides it."""
    if n >= 1024 and n % 1024 == 0:
        return f"{n // 1024}k" if n < 2**20 or n % 2**20 else f"{n // 2**20}M"
    return f"{n:,}"


def _decimals(x: float) -> int:
    return 0 if x >= 1000 else 1 if x >= 100 else 2
