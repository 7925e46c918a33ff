"""A prediction table, checked and pooled: the predictions of all folds of a seed together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError, Problem
from ..metrics import METRICS
from ..types import score_columns

SHOWN = 5  # rows named per kind of problem
SUM_TOLERANCE = 0.02  # scores rounded to two decimals still pass


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """What is wrong with some rows of a prediction table; ``rows`` (n,) says with which."""

    code: str
    rows: NDArray[np.bool_]
    message: str
    fix: str


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
        """Return the images of each class in each case, (n_cases, C)."""
        counts = np.zeros((self.n_cases, len(self.classes)))
        np.add.at(counts, (self.case, self.y_true), 1)
        return counts


def pool_predictions(table: pd.DataFrame, *, classes: tuple[str, ...]) -> Pool:
    """Check an out-of-fold table and pool its folds.

    The table has ``image, label, score_<class>...``; ``case`` is the image where it is missing, ``fold`` and ``seed``
    are 0. The order of the rows does not matter.

    Raises:
        DataError: with every problem at once, each naming the lines of the CSV (the header is line 1).
    """
    filled = check_predictions(table, classes=classes, pooled=True).sort_values(["seed", "image"], kind="stable")
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


def score_by_seed(table: pd.DataFrame, metric: str, *, classes: tuple[str, ...]) -> float:
    """Return a registered metric of a prediction table, pooled by seed, mean over seeds.

    An image may occur in several folds of a seed. The table has every column of `pool_predictions`.
    """
    score, columns = METRICS.find(metric).call, score_columns(classes)
    seeds = [rows for _, rows in table.groupby("seed")]
    return float(
        np.mean([score(index_labels(r, classes=classes), r[columns].to_numpy(dtype=np.float64)) for r in seeds])
    )


def index_labels(table: pd.DataFrame, *, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class index of each row, (n,)."""
    position = {name: i for i, name in enumerate(classes)}
    return np.array([position[str(label)] for label in table["label"]], dtype=np.int64)


def check_predictions(table: pd.DataFrame, *, classes: tuple[str, ...], pooled: bool = False) -> pd.DataFrame:
    """Check a table of predictions, and fill its columns.

    Args:
        table: as in `pool_predictions`.
        classes: class names in score order.
        pooled: whether each seed must have each image once; without it an image may occur in several folds of a seed,
            as inner predictions do.

    Raises:
        DataError: with every problem at once, each naming the lines of the CSV.
    """
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
        for fault in find_faults(filled, classes) + (_find_pool_faults(filled) if pooled else []):
            rows = np.flatnonzero(fault.rows)
            shown = ", ".join(f"{row + 2} ({filled['image'].iloc[row]})" for row in rows[:SHOWN])
            more = f" and {rows.size - SHOWN} more" if rows.size > SHOWN else ""
            problems.append(Problem(fault.code, f"line {shown}{more}", fault.message, fault.fix))
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


def find_faults(table: pd.DataFrame, classes: tuple[str, ...], *, unscored: bool = False) -> list[Fault]:
    """Check labels, folds, seeds and scores of a table that `fill_columns` has filled.

    Args:
        table: it may lack score columns.
        classes: class names in score order.
        unscored: whether a row without any score is allowed.
    """
    columns = [name for name in score_columns(classes) if name in table]
    scores = table[columns].to_numpy(dtype=np.float64)
    numbers = table[["fold", "seed"]].to_numpy(dtype=np.float64)
    missing = np.isnan(scores).any(axis=1) & ~(unscored & np.isnan(scores).all(axis=1))
    outside = ~missing & ((scores < 0) | (scores > 1)).any(axis=1)
    complete = ~np.isnan(scores).any(axis=1) & ~outside & (len(columns) == len(classes))
    faults = (
        Fault("unknown-label", ~table["label"].isin(classes).to_numpy(), "the label is none of the classes.",
              f"correct it, or leave the row out; the classes are {', '.join(classes)}"),
        Fault("fold-or-seed", ~np.isfinite(numbers).all(axis=1) | (numbers % 1 != 0).any(axis=1),
              "fold or seed is no whole number.", "number them from 0, or drop the column"),
        Fault("missing-score", missing, "a score is empty or no number.",
              "predict these images again, or leave the rows out"),
        Fault("score-range", outside, "a score is outside 0 to 1.", "write probabilities (softmax of the outputs)"),
        Fault("score-sum", complete & (np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE), "the scores do not sum to 1.",
              "write probabilities (softmax of the outputs)"),
    )  # fmt: skip
    return [fault for fault in faults if fault.rows.any()]


def _find_pool_faults(table: pd.DataFrame) -> list[Fault]:
    def differs(column: str, by: list[str]) -> NDArray[np.bool_]:
        return np.asarray(table.groupby(by)[column].transform("nunique") > 1)

    n_seeds = table["seed"].nunique()
    misses = np.asarray(table.groupby("image")["seed"].transform("nunique") < n_seeds)
    faults = (
        Fault("repeated-image", table.duplicated(["seed", "image"]).to_numpy(),
              "the image was predicted before in the same seed.",
              "keep one row per image and seed: the one of its outer fold"),
        Fault("image-misses", misses, f"the image is not predicted in each of the {n_seeds} seeds.",
              "predict it in every seed, or in none"),
        Fault("two-labels", differs("label", ["image"]), "the image has different labels.", "give it one label"),
        Fault("two-cases", differs("case", ["image"]), "the image has different cases.", "give it one case"),
        Fault("leak", differs("fold", ["seed", "case"]),
              "images of one case were held out in different folds, so the model had seen the case.",
              "split by case and predict again"),
    )  # fmt: skip
    return [fault for fault in faults if fault.rows.any()]
