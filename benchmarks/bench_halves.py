"""Does the interval of one half of the patients hold what the other half scores? Real cohorts, cheap models.

    python benchmarks/bench_halves.py DATA/idc279-a DATA/hif-a [--draws 200] [--folds 5] [--seeds 1]

Patients are halved at random, class by class. In each half a logistic regression is trained and scored out of fold (21
statistics of the colours of a tile; or the columns of features.csv): networks, cases and folds of the two halves share
nothing. The score of half B stands for another training on other cases, but it is as unsure as that of half A. The
patients are finite: a half lies about the score of all of them with half the variance that the interval speaks of
(1 - n/N = 1/2), and the other half lies as far on the other side. So the variance of A - B is 4 * 1/2 = 2 times that
variance, as of two endless samples, and the interval of A must be widened by the root of 2 (on the logit scale) before
it is asked whether it holds B. The share is printed so, and as it is without the correction (about 0.83 is right then).
Draws share patients, so the share itself is less sure than as many independent draws would make it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti.evaluate import measure_margins
from smalti.stats import pool_predictions
from smalti.types import score_columns

NUMBERS = {"idc279-a": 1.0, "hif-a": 0.001}  # inverse strength of the penalty


def read_cohort(folder: Path) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """``image, label, case`` and features (n, D)."""
    if (folder / "features.csv").is_file():
        table = pd.read_csv(folder / "features.csv")
        known = ["image", "label", "patient", "site", "hrd_high"]
        values = table.drop(columns=known).to_numpy(dtype=np.float64)
        values = np.where(np.isfinite(values), values, np.nanmedian(values, axis=0))
    else:
        table = pd.read_csv(folder / "samples.csv")
        values = np.array([measure_colours(folder / image) for image in table["image"]])
    return table.rename(columns={"patient": "case"})[["image", "label", "case"]].astype(str), values


def measure_colours(path: Path) -> NDArray[np.float64]:
    """Mean, spread and five quantiles of each channel, (21,)."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    quantiles = np.quantile(pixels, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
    return np.concatenate([pixels.mean(axis=0), pixels.std(axis=0), quantiles.ravel()])


def score_half(
    table: pd.DataFrame, values: NDArray[np.float64], strength: float, *, folds: int, seeds: int, random: int
) -> pd.DataFrame:
    """Out-of-fold predictions of every seed."""
    parts = []
    for seed in range(seeds):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=random * seeds + seed)
        for fold, (learn, test) in enumerate(splitter.split(values, table["label"], groups=table["case"])):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
            model.fit(values[learn], table["label"].iloc[learn])
            part = table.iloc[test].assign(fold=fold, seed=seed)
            part[score_columns(list(model.classes_))] = model.predict_proba(values[test])
            parts.append(part)
    return pd.concat(parts)


def halve_cases(table: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Rows of a random half of the cases, class by class (a case has the class of most of its images)."""
    of_case = table.groupby("case")["label"].agg(lambda labels: labels.mode().iloc[0])
    chosen: list[str] = []
    for _, cases in of_case.groupby(of_case):
        names = rng.permutation(cases.index.to_numpy())
        chosen += list(names[: (len(names) + int(rng.integers(2))) // 2])
    return table["case"].isin(chosen).to_numpy()


def widen(value: float, end: float, factor: float) -> float:
    """An end of an interval so many times as far from the value on the logit scale."""
    logits = [math.log(p / (1 - p)) for p in (np.clip(x, 1e-6, 1 - 1e-6) for x in (value, end))]
    return 1 / (1 + math.exp(-(logits[0] + factor * (logits[1] - logits[0]))))


def measure_cohort(folder: Path, *, draws: int, folds: int, seeds: int) -> None:
    """Print one line per metric."""
    table, values = read_cohort(folder)
    classes = tuple(sorted(table["label"].unique()))
    rng = np.random.default_rng(0)
    inside: dict[str, list[tuple[bool, bool]]] = {}
    scores: dict[str, list[float]] = {}
    trusted = 0
    for draw in range(draws):
        half = halve_cases(table, rng)
        margins = []
        for side in (half, ~half):
            found = score_half(table[side], values[side], NUMBERS[folder.name], folds=folds, seeds=seeds, random=draw)
            margins.append(measure_margins(pool_predictions(found, classes=classes), confidence=0.95))
        trusted += margins[0]["macro_f1"].trustworthy
        for name in ("macro_f1", "balanced_accuracy", "accuracy", "auc"):
            for a, b in (margins, margins[::-1]):
                mine, other = a[name], b[name].value
                low, high = (widen(mine.value, end, math.sqrt(2)) for end in (mine.low, mine.high))
                inside.setdefault(name, []).append((low <= other <= high, mine.low <= other <= mine.high))
                scores.setdefault(name, []).append(mine.value)
    cases = table["case"].nunique()
    print(
        f"{folder.name}: {len(table)} images, {cases} cases; {draws} halvings, {folds} folds, {seeds} seed(s); "
        f"macro-F1 trusted in {trusted / draws:.0%}"
    )
    for name, pairs in inside.items():
        corrected, plain = np.mean(pairs, axis=0)
        print(
            f"  {name}: mean {np.mean(scores[name]):.3f}; the interval of a half holds the other half's score in "
            f"{corrected:.3f}, uncorrected {plain:.3f}", flush=True,
        )  # fmt: skip


def main() -> None:
    """One block of lines per cohort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    for folder in args.cohorts:
        measure_cohort(folder, draws=args.draws, folds=args.folds, seeds=args.seeds)


if __name__ == "__main__":
    main()
