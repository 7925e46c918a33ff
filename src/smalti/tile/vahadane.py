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
    both = (wanted - overlap * wanted[:, ::-1]) / (1 - overlap**2)
    alone = np.maximum(wanted, 0)
    # Beside a negative amount the other stands alone; of two negative ones the better does.
    keep = np.stack([both[:, 1] < 0, both[:, 0] < 0], axis=1)
    contested = keep.all(axis=1)
    first = alone[:, 0] >= alone[:, 1]
    keep[contested] = np.stack([first, ~first], axis=1)[contested]
    inside = both.min(axis=1, keepdims=True) >= 0
    return np.where(inside, both, alone * keep)


def _shorten(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-12))
