"""Sparse non-negative factorisation of densities into two stains (Vahadane et al. 2016)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPARSITY = 0.1  # weight of the amounts' sum beside the squared residual, in density, as in the paper
MOST_PIXELS = 4_000
MOST_STEPS = 100
TOLERANCE = 1e-5  # of a unit vector's change in one step

Floats = NDArray[np.float64]


def factorise(densities: Floats, *, start: Floats) -> Floats:
    """Two non-negative unit vectors (3, 2) that make up the densities (n, 3) with few and non-negative amounts.

    Minimises ``sum(|density - stains @ amounts|^2 / 2 + SPARSITY * sum(amounts))`` in turn over the amounts, which
    have a closed form for two stains, and over the vectors, one after the other (Mairal et al. 2010), from ``start``.
    Zeros where a stain is not needed.
    """
    seen = densities[:: -(-len(densities) // MOST_PIXELS)]
    stains = _shorten(np.maximum(start, 0))
    for _ in range(MOST_STEPS):
        before = stains.copy()
        amounts = solve_amounts(seen, stains)
        inner, outer = amounts.T @ amounts, seen.T @ amounts
        for k in range(2):
            step = (outer[:, k] - stains @ inner[:, k]) / max(inner[k, k], 1e-12)
            stains[:, k] = _shorten(np.maximum(stains[:, k] + step, 0))
        if np.abs(stains - before).max() < TOLERANCE:
            break
    return stains


def solve_amounts(densities: Floats, stains: Floats) -> Floats:
    """The best non-negative amounts (n, 2) of two unit vectors (3, 2), each paying `SPARSITY`."""
    wanted = densities @ stains - SPARSITY
    overlap = min(float(stains[:, 0] @ stains[:, 1]), 1 - 1e-9)
    # Column by column: an image has some thousand rows of two, and a step of the factorisation is nothing but this.
    first, second = np.ascontiguousarray(wanted.T)
    both_first, both_second = (
        (one - overlap * other) / (1 - overlap**2) for one, other in ((first, second), (second, first))
    )
    lacks_first, lacks_second = both_first < 0, both_second < 0
    alone_first, alone_second = np.maximum(first, 0), np.maximum(second, 0)
    # Beside a negative amount the other stands alone; of two negative ones the better does.
    better = alone_first >= alone_second
    keep_first = lacks_second & (better | ~lacks_first)
    keep_second = lacks_first & ~(better & lacks_second)
    inside = (both_first >= 0) & (both_second >= 0)
    return np.column_stack(
        [
            np.where(inside, both_first, alone_first * keep_first),
            np.where(inside, both_second, alone_second * keep_second),
        ]
    )


def _shorten(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-12))
