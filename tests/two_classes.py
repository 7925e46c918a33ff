"""Drawn predictions of two classes, whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

CLASSES = ("benign", "malignant")


def draw_tables(
    *, n_cases: int = 60, images: int = 2, skill: float = 1.5, shift: float = 0.0, seeds: int = 1, random: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outer and inner tables of drawn cases; the logit of an image is right about its label but for ``shift``."""
    generator = np.random.default_rng(random)
    ill = generator.random(n_cases) < 0.4
    outer, inner = [], []
    for seed in range(seeds):
        folds = generator.permutation(n_cases) % 4
        logits = skill * (2 * ill[:, None] - 1) + generator.normal(0, 1.5, (n_cases, images)) + shift
        scores = 1 / (1 + np.exp(-logits))
        rows = [
            (f"i{case}-{i}", f"c{case}", int(folds[case]), seed, CLASSES[int(ill[case])], scores[case, i])
            for case in range(n_cases)
            for i in range(images)
        ]
        outer += rows
        for fold in range(4):
            inner += [(*row[:2], fold, *row[3:]) for row in rows if row[2] != fold]
    return tabulate(outer), tabulate(inner)


def tabulate(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label", "score_malignant"])
    return table.assign(score_benign=1 - table["score_malignant"])
