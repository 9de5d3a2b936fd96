"""The largest number that holds, looked for at every point of an array at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NEAR = 512
"""How far off rounding to blocks may put a guess."""

LINES = 8
"""Looks by which lines should have met 0: as many as a margin of a few straight pieces needs."""

BRIEF = 2
"""Looks of a brief search, beside the two at its ends."""

FEW = 0.125
"""Of the points, so few are looked for apart from the others."""

Places = tuple[np.ndarray, ...]
"""Where points stand, along each axis."""

Margin = Callable[[np.ndarray, Places | None], Any]
"""Of a number at each point, and at which points (None: all)."""


def search(margin: Margin, least: np.ndarray, most: float, ends: tuple[Any, Any], brief: bool = False) -> np.ndarray:
    """The largest whole number n from `least` to `most` with margin(n) >= 0, else 0: float64, of least's shape.

    ends   two numbers from least to most, of a point each or of all, at which to look first
    brief  ends after two more looks, with NaN where the answer is not closed in on by then
    The margin must not rise; where it is NaN the answer is 0. Where it is straight between the ends, the line through
    them meets 0 at the answer: four looks. Where it is bent (a window, another fullest moment) the slope at each guess
    leads on; where it has steps (blocks) the answer is bracketed and the bracket halved.
    """
    first, second = (np.broadcast_to(end, least.shape) for end in ends)
    value = _looked(margin, first, None)
    low = np.where(value >= 0, first, least - 1)  # it holds at low, as far as is known, and not at high
    high = np.where(value >= 0, most + 1, np.where(value < 0, np.maximum(first, least), least))
    state = _State(first, value, np.zeros_like(value), low, high).after(second, _looked(margin, second, None))
    found = _closed(margin, 0, None, state, brief)
    return np.where(found < least, 0.0, found)


@dataclass(frozen=True)
class _State:
    """Of each point: the last look, what the margin was there, its slope to the one before; and the bracket."""

    at: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def after(self, at: np.ndarray, value: np.ndarray) -> _State:
        """With another look, which moves an end of a bracket that it lies in."""
        inside = (at > self.low) & (at < self.high)
        low = np.where(inside & (value >= 0), at, self.low)
        high = np.where(inside & ~(value >= 0), at, self.high)
        with np.errstate(all="ignore"):
            return _State(at, value, (self.value - value) / (at - self.at), low, high)

    def some(self, places: Places) -> _State:
        """Some of the points."""
        return _State(*(x[places] for x in (self.at, self.value, self.slope, self.low, self.high)))


def _closed(margin: Margin, look: int, where: Places | None, state: _State, brief: bool) -> np.ndarray:
    """`low` once the brackets are closed; of the last few that are not, apart."""
    while True:
        still = state.high - state.low > 1
        left = int(np.count_nonzero(still))
        if not left:
            return state.low
        if brief and look == BRIEF:
            return np.where(still, np.nan, state.low)
        if left < FEW * still.size and not brief:
            some = np.nonzero(still)
            low = np.array(state.low)
            places = some if where is None else tuple(w[some[0]] for w in where)
            low[some] = _closed(margin, look, places, state.some(some), brief)
            return low
        guess = _guess(look, state)
        state = state.after(guess, _looked(margin, guess, where))
        look += 1


def _looked(margin: Margin, at: np.ndarray, where: Places | None) -> np.ndarray:
    return np.broadcast_to(margin(at, where), at.shape)


def _guess(look: int, state: _State) -> np.ndarray:
    """Where to look: where the line at the last look meets 0, and beside that; then a little further, and halfway."""
    if look % 2 and look < LINES:
        guess = np.where(state.value >= 0, state.at + 1, state.at - 1)
    elif look < LINES:
        with np.errstate(all="ignore"):
            guess = state.at + np.floor(state.value / state.slope)
    elif look == LINES:
        guess = np.where(state.value >= 0, state.low + NEAR, state.high - NEAR)
    else:
        guess = np.floor((state.low + state.high) / 2)
    guess = np.where(np.isfinite(guess), guess, np.floor((state.low + state.high) / 2))
    return np.clip(guess, state.low + 1, np.maximum(state.high - 1, state.low + 1))
