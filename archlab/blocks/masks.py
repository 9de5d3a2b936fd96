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


def two_sided_pairs(n: Number, behind: Number | None = None, ahead: Number | None = None) -> Number:
    """Pairs of n tokens that see so many tokens before and after themselves (None: all of them)."""
    if behind is None and ahead is None:
        return n * n
    return n + _reach(n, behind) + _reach(n, ahead)


def _reach(n: Number, r: Number | None) -> Number:
    """Q(r) = mn - m(m + 1)/2 with m = min(r, n - 1): pairs over one side. An empty sequence (n = 0) has none."""
    m = n - 1 if r is None else minimum(r, n - 1)
    return m * n - triangle(m)


def image_pairs(tokens: Number) -> Number:
    """What an image adds to a causal mask, windowed or not: each of its tokens sees those after it, b(b - 1)/2."""
    return triangle(tokens) - tokens


def prefix_pairs(length: Number, window: Number | None = None) -> Number:
    """What a prefix adds: all p * p pairs, those before the window too, less what the causal mask has of them."""
    return length * length - causal_pairs(length, length, window)


def keys_seen(new: Number, context: Number, window: Number | None = None) -> Number:
    """U: distinct keys that the T new tokens see between them, T + min(S - T, W - 1)."""
    return context if window is None else new + minimum(context - new, window - 1)
