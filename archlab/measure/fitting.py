"""Least squares for laws: constants that cannot be negative, errors that are relative, points that are far off.

scipy would do it and is no dependency; these are its textbook algorithms on a handful of constants.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDS = 8
"""Of weighing points anew by how far off they are."""
FAR = 2.0
"""Robust deviations beyond which a point pulls no harder (Huber)."""
LEAST_DEVIATION = 1e-3
"""Of relative errors: below it nothing is far."""


def nonnegative(a: Array, y: Array) -> Array:
    """x >= 0 that brings a x nearest to y: Lawson and Hanson, Solving Least Squares Problems, chapter 23."""
    n = a.shape[1]
    x, passive = np.zeros(n), np.zeros(n, dtype=bool)
    tolerance = 1e-10 * np.abs(a.T @ y).max(initial=1e-300)
    for _ in range(10 * n):
        gradient = np.where(passive, -np.inf, a.T @ (y - a @ x))
        if gradient.max(initial=-np.inf) <= tolerance:
            break
        passive[int(gradient.argmax())] = True
        while True:
            best = np.zeros(n)
            best[passive] = np.linalg.lstsq(a[:, passive], y, rcond=None)[0]
            negative = passive & (best <= 0)
            if not negative.any():
                break
            along = (x[negative] / (x[negative] - best[negative])).min()
            x = x + along * (best - x)
            passive &= x > 1e-12 * np.abs(x).max(initial=1e-300)
        x = best
    return x


def relative(a: Array, y: Array, prior: Array | None = None, trust: Array | None = None) -> Array:
    """x >= 0 that makes the relative errors of a x against y small; far points weigh less.

    prior, trust  what x is drawn to, and how many exact points of relative error that is worth; for columns of a that
                  the points do not tell apart
    """
    scale = np.abs(a / y[:, None]).max(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    rows, target = a / y[:, None] / scale, np.ones(len(y))
    pull = np.zeros((0, a.shape[1])) if trust is None else np.diag(np.sqrt(trust) / np.maximum(prior * scale, 1e-300))
    drawn = np.zeros(0) if trust is None else np.sqrt(trust)
    weights = np.ones(len(y))
    x = np.zeros(a.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        x = nonnegative(np.vstack((rows * root[:, None], pull)), np.concatenate((target * root, drawn)))
        weights = huber(rows @ x - target)
    return x / scale


def positive(law: Callable[[Array], Array], y: Array, start: Array, pull: float = 1e-4) -> Array:
    """Constants above 0 for which law(constants) is nearest to y, in logarithms: Levenberg and Marquardt.

    `pull` draws each constant to its start, as weakly as that: for what the points do not tell.
    """
    origin = np.log(start)
    at, damping = origin.copy(), 1e-2

    def errors(p: Array) -> Array:
        return np.log(law(np.exp(p))) - np.log(y)

    def cost(p: Array, weights: Array) -> float:
        return float(weights @ errors(p) ** 2 + pull * ((p - origin) ** 2).sum())

    for _ in range(200):
        found = errors(at)
        weights = huber(found)
        jacobian = np.stack([(errors(at + d) - errors(at - d)) / 2e-5 for d in 1e-5 * np.eye(len(at))], axis=1)
        normal = jacobian.T @ (weights[:, None] * jacobian) + pull * np.eye(len(at))
        slope = jacobian.T @ (weights * found) + pull * (at - origin)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope)
        step *= min(1.0, 2.0 / np.abs(step).max(initial=1e-300))
        if cost(at + step, weights) < cost(at, weights):
            at, damping = at + step, damping / 3
            if np.abs(step).max() < 1e-6:
                break
        else:
            damping *= 4
            if damping > 1e9:
                break
    return np.exp(at)


def huber(errors: Array) -> Array:
    """Weights: 1 for the near, less for those beyond FAR robust deviations."""
    deviation = max(1.4826 * float(np.median(np.abs(errors))), LEAST_DEVIATION)
    return np.minimum(1.0, FAR * deviation / np.maximum(np.abs(errors), 1e-300))
