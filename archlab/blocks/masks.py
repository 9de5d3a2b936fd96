"""How many (token, key) pairs a mask keeps, and how many keys a layer sees. Exact on ints, columns and symbols.

Conventions: the context S includes the T new tokens; token i (from 1) sees min(i, W) keys, itself included.
"""

from __future__ import annotations

from archlab.algebra import Number, minimum, triangle


def causal_pairs(new: Number, context: Number, window: Number | None = None) -> Number:
    """Pairs of T new tokens that end at S: C(S, W) - C(S - T, W); no window is W = S."""
    return _seen(context, window) - _seen(context - new, window)


def _seen(n: Number, window: Number | None) -> Number:
    """C(n, W): pairs over the first n tokens, m(m + 1)/2 + (n - m)W with m = min(n, W)."""
    if window is None:
        return triangle(n)
    m = minimum(n, window)
    return triangle(m) + (n - m) * window


def keys_seen(new: Number, context: Number, window: Number | None = None) -> Number:
    """U: distinct keys that the T new tokens see between them, T + min(S - T, W - 1)."""
    return context if window is None else new + minimum(context - new, window - 1)
