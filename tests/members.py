"""Drawn prediction tables of the members of an ensemble."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smalti.predict import ENSEMBLES, Combined, Member

CLASSES = ("A", "B", "C", "D")
COLUMNS = [f"score_{name}" for name in CLASSES]
PARTS = ("inner", "outer", "test", "sealed")
METHODS = [entry.name for entry in ENSEMBLES]
FITTED = [name for name in METHODS if not name.startswith("average")]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def tabulate(rows: Ints, y: Ints, scores: Floats, *, fold: int, seed: int = 0, prefix: str = "i") -> pd.DataFrame:
    """A prediction table of images of which three share a case; unlabelled ones have a class of -1."""
    table = pd.DataFrame(
        {"image": [f"{prefix}{row:03d}" for row in rows], "case": [f"{prefix}c{r // 3}" for r in rows]}
    )
    table["fold"], table["seed"] = fold, seed
    table["label"] = [CLASSES[c] if c >= 0 else "" for c in y]
    table[COLUMNS] = scores
    return table


def draw_scores(y: Ints, quality: float, rng: np.random.Generator) -> Floats:
    """Softmax of noise plus ``quality`` at the true class."""
    logits = quality * np.eye(len(CLASSES))[y] + rng.normal(size=(y.size, len(CLASSES)))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def draw_members(*qualities: float, cases: int = 40, seeds: tuple[int, ...] = (0, 1), start: int = 0) -> list[Member]:
    """Members of given quality on three folds by case; every class is in every part."""
    rng = np.random.default_rng(start)
    y = np.repeat(np.arange(cases) % len(CLASSES), 3)
    hidden = np.repeat(rng.permutation(cases)[:8] % len(CLASSES), 3)
    tables: list[dict[str, list[pd.DataFrame]]] = [{part: [] for part in PARTS} for _ in qualities]
    for seed in seeds:
        of_case = np.empty(cases, dtype=np.int64)
        for c in range(len(CLASSES)):
            of_class = rng.permutation(np.arange(c, cases, len(CLASSES)))
            of_case[of_class] = np.arange(of_class.size) % 3
        fold_of = np.repeat(of_case, 3)
        for fold in range(3):
            outer, inner = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of == (fold + 1) % 3)
            for quality, member in zip(qualities, tables, strict=True):
                for part, rows in (("outer", outer), ("inner", inner)):
                    scores = draw_scores(y[rows], quality, rng)
                    member[part].append(tabulate(rows, y[rows], scores, fold=fold, seed=seed))
                for part in ("test", "sealed"):
                    scores, blank = draw_scores(hidden, quality, rng), np.full(hidden.size, -1)
                    rows = np.arange(hidden.size)
                    member[part].append(tabulate(rows, blank, scores, fold=fold, seed=seed, prefix=part))
    return [
        Member(f"m{n}", **{part: pd.concat(parts, ignore_index=True) for part, parts in member.items()})
        for n, member in enumerate(tables)
    ]


def list_tables(combined: Combined | Member) -> dict[str, pd.DataFrame]:
    return {part: getattr(combined, part) for part in PARTS}
