"""A prediction table, checked and pooled: the predictions of all folds of a seed side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, Problem
from ..types import score_columns

SHOWN = 5  # rows named per kind of problem
SUM_TOLERANCE = 0.02  # scores rounded to two decimals still pass


@dataclass(frozen=True, slots=True)
class Pool:
    """Out-of-fold predictions of the same n images by S seeds.

    Attributes:
        classes: names, in score order.
        images: (n,) names, sorted.
        y_true: (n,) class index.
        case: (n,) case index, 0 to ``n_cases - 1``.
        fold: (S, n) fold in which the image was held out.
        scores: (S, n, C) probabilities.
        cases: names of the cases, sorted.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    y_true: NDArray[np.int64]
    case: NDArray[np.int64]
    fold: NDArray[np.int64]
    scores: NDArray[np.float64]
    cases: tuple[str, ...]

    @property
    def n_cases(self) -> int:
        """Number of cases."""
        return len(self.cases)

    def count_labels(self) -> NDArray[np.float64]:
        """Images of each class in each case, (n_cases, C)."""
        counts = np.zeros((self.n_cases, len(self.classes)))
        np.add.at(counts, (self.case, self.y_true), 1)
        return counts


def pool_predictions(table: pd.DataFrame, *, classes: tuple[str, ...]) -> Pool:
    """Check an out-of-fold table and pool its folds.

    The table has ``image, label, score_<class>...``; ``case`` is the image where it is missing, ``fold`` and ``seed``
    are 0. The order of the rows plays no role.

    Raises:
        DataError: with every problem at once, each naming the lines of the CSV (the header is line 1).
    """
    filled = _check_table(table, classes, pooled=True).sort_values(["seed", "image"], kind="stable")
    n_seeds = filled["seed"].nunique()
    first = filled.iloc[: len(filled) // n_seeds]
    cases, case = np.unique(first["case"].to_numpy(dtype=str), return_inverse=True)
    return Pool(
        classes=classes,
        images=tuple(first["image"]),
        y_true=index_labels(first, classes=classes),
        case=case.astype(np.int64),
        fold=filled["fold"].to_numpy(dtype=np.int64).reshape(n_seeds, -1),
        scores=filled[score_columns(classes)].to_numpy(dtype=np.float64).reshape(n_seeds, -1, len(classes)),
        cases=tuple(str(name) for name in cases),
    )


def check_predictions(table: pd.DataFrame, *, classes: tuple[str, ...]) -> pd.DataFrame:
    """Check a table in which an image may occur in several folds of a seed (inner predictions); fill its columns.

    Raises:
        DataError: as `pool_predictions`, but for images that repeat or miss.
    """
    return _check_table(table, classes, pooled=False)


def index_labels(table: pd.DataFrame, *, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class index of each row, (n,)."""
    position = {name: i for i, name in enumerate(classes)}
    return np.array([position[label] for label in table["label"]], dtype=np.int64)


def _check_table(table: pd.DataFrame, classes: tuple[str, ...], *, pooled: bool) -> pd.DataFrame:
    columns = ", ".join(str(name) for name in table)
    problems = [
        Problem("missing-column", "header", f"there is no column '{name}'.", f"add or rename it; found: {columns}")
        for name in ("image", "label", *score_columns(classes))
        if name not in table
    ]
    if table.empty:
        problems.append(Problem("empty-table", "table", "there are no rows.", "write one row per image and seed"))
    elif {"image", "label"} <= set(table):
        filled = fill_columns(table, classes)
        problems += _find_problems(filled, classes)
        problems += _find_pool_problems(filled) if pooled else []
    if problems:
        kind = "out-of-fold" if pooled else "inner"
        raise DataError(f"the table of {kind} predictions cannot be scored:", problems)
    return filled.astype({"fold": np.int64, "seed": np.int64})


def fill_columns(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Fill ``case``, ``fold`` and ``seed`` where they are missing; texts as texts, numbers as numbers."""
    filled = table.reset_index(drop=True)
    for name in ("image", "label"):
        filled[name] = filled[name].astype(str)
    filled["case"] = filled["case"].astype(str) if "case" in filled else filled["image"]
    for name in ("fold", "seed"):
        filled[name] = pd.to_numeric(filled[name], errors="coerce") if name in filled else 0
    for name in score_columns(classes):
        if name in filled:
            filled[name] = pd.to_numeric(filled[name], errors="coerce").astype(np.float64)
    return filled


def _find_problems(table: pd.DataFrame, classes: tuple[str, ...]) -> list[Problem]:
    columns = [name for name in score_columns(classes) if name in table]
    scores = table[columns].to_numpy(dtype=np.float64)
    numbers = table[["fold", "seed"]].to_numpy(dtype=np.float64)
    missing = np.isnan(scores).any(axis=1)
    outside = ~missing & ((scores < 0) | (scores > 1)).any(axis=1)
    complete = ~missing & ~outside & (len(columns) == len(classes))
    return _list_problems(table, (
        ("unknown-label", ~table["label"].isin(classes), "the label is none of the classes.",
         f"correct it, or leave the row out; the classes are {', '.join(classes)}"),
        ("fold-or-seed", ~np.isfinite(numbers).all(axis=1) | (numbers % 1 != 0).any(axis=1),
         "fold or seed is no whole number.", "number them from 0, or drop the column"),
        ("missing-score", missing, "a score is empty or no number.",
         "predict these images again, or leave the rows out"),
        ("score-range", outside, "a score is outside 0 to 1.", "write probabilities (softmax of the outputs)"),
        ("score-sum", complete & (np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE), "the scores do not sum to 1.",
         "write probabilities (softmax of the outputs)"),
    ))  # fmt: skip


def _find_pool_problems(table: pd.DataFrame) -> list[Problem]:
    def count_distinct(column: str, by: list[str]) -> pd.Series:
        return table.groupby(by)[column].transform("nunique")

    n_seeds = table["seed"].nunique()
    return _list_problems(table, (
        ("repeated-image", table.duplicated(["seed", "image"]), "the image was predicted before in the same seed.",
         "keep one row per image and seed: the one of its outer fold"),
        ("image-misses", count_distinct("seed", ["image"]) < n_seeds,
         f"the image is not predicted in each of the {n_seeds} seeds.", "predict it in every seed, or in none"),
        ("two-labels", count_distinct("label", ["image"]) > 1, "the image has different labels.", "give it one label"),
        ("two-cases", count_distinct("case", ["image"]) > 1, "the image has different cases.", "give it one case"),
        ("leak", count_distinct("fold", ["seed", "case"]) > 1,
         "images of one case were held out in different folds, so the model had seen the case.",
         "split by case and predict again"),
    ))  # fmt: skip


def _list_problems(table: pd.DataFrame, checks: Iterable[tuple[str, ArrayLike, str, str]]) -> list[Problem]:
    """One problem per check that fails, naming its first rows."""
    problems = []
    for code, wrong, message, fix in checks:
        rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
        if rows.size:
            shown = ", ".join(f"{row + 2} ({table['image'].iloc[row]})" for row in rows[:SHOWN])
            more = f" and {rows.size - SHOWN} more" if rows.size > SHOWN else ""
            problems.append(Problem(code, f"line {shown}{more}", message, fix))
    return problems
