"""The points of a learning curve: heads solved on growing parts of each fold, scored on the same outer cases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import RunError
from ..metrics import macro_f1
from ..records import RunFolder
from ..records.layout import PART_SCORES, PART_TAUGHT
from ..stats import Pool, pool_predictions
from ..store import build_once, read_table, write_table
from ..types import PREDICTION_COLUMNS, Split, score_columns
from .subsets import Order, choose_shares, order_cases, take_cases

if TYPE_CHECKING:
    from ..train import Experiment

TAUGHT_COLUMNS = ("size", "cases", "images", "macro_f1")


@dataclass(frozen=True, slots=True)
class Curve:
    """The measured learning curve.

    Attributes:
        shares: (K,) of the learning cases of each fold, growing; the last is 1.
        cases, images: (K,) numbers that were trained on, mean over folds, seeds and orders.
        pools: (K,) out-of-fold predictions, one for each order of the cases; of all cases there is one order.
        taught: (K,) macro-F1 of the training images, mean over networks.
    """

    shares: tuple[float, ...]
    cases: tuple[float, ...]
    images: tuple[float, ...]
    pools: tuple[tuple[Pool, ...], ...]
    taught: tuple[float, ...]


def trace_curve(experiment: Experiment, *, orders: int, folder: Path, tell: Callable[[int, int], None]) -> Curve:
    """Solve and score the head at each size; sizes that an earlier call left in ``folder`` are read.

    Args:
        experiment: with frozen embeddings and a head that is solved; the inner cases of its folds are trained on too,
            as solved heads hold out each case in turn.
        orders: of the cases of each fold, in each of which the parts are nested.
        folder: gets one folder for each fold, seed and order.
        tell: hears of progress.

    Raises:
        RunError: a table in ``folder`` has other rows than those of its fold.
    """
    splits = experiment.splits
    drawn = {}
    for split in splits:
        rows = list_learning(split)
        cases = _number_cases(experiment, rows)
        for number in range(orders):
            seed = [split.seed, split.fold, number]
            drawn[split.name, number] = order_cases(experiment.cohort.targets[rows], cases, seed=seed)
    shares = choose_shares(list(drawn.values()))
    tables: list[list[pd.DataFrame]] = [[] for _ in range(orders)]
    taught = []
    for done, split in enumerate(splits):
        for number, parts in enumerate(tables):
            tell(done * orders + number, len(splits) * orders)
            own = shares if number == 0 else shares[:-1]  # of all cases there is one order

            def build(path: Path, split: Split = split, number: int = number, own: tuple[float, ...] = own) -> None:
                _solve_parts(experiment, split, drawn[split.name, number], shares=own, path=path)

            if len(own):
                place = build_once(folder / f"{split.name}-order{number}", build)
                columns = (*PREDICTION_COLUMNS, *score_columns(experiment.cohort.classes))
                table = read_table(place / PART_SCORES, "size", *columns)
                names = [experiment.cohort.labelled[i].image for i in split.outer]
                sizes = list(np.repeat(np.arange(len(own)), len(names)))
                if list(table["image"]) != names * len(own) or list(table["size"]) != sizes:
                    raise RunError(
                        f"{place / PART_SCORES} has not the rows of its fold", fix=f"delete {place} and run again"
                    )
                parts.append(table)
                taught.append(read_table(place / PART_TAUGHT, *TAUGHT_COLUMNS))
    tell(1, 1)
    means = pd.concat(taught).groupby("size")[list(TAUGHT_COLUMNS[1:])].mean()
    classes = experiment.cohort.classes
    whole = [pd.concat(parts, ignore_index=True) for parts in tables if parts]
    pools = tuple(
        tuple(pool_predictions(t[t["size"] == k], classes=classes) for t in whole if (t["size"] == k).any())
        for k in range(len(shares))
    )
    n_cases, n_images, scores = (tuple(map(float, means[name])) for name in TAUGHT_COLUMNS[1:])
    return Curve(shares, n_cases, n_images, pools, scores)


def list_learning(split: Split) -> NDArray[np.int64]:
    """Return positions of the labelled images that are not outer."""
    return np.union1d(split.train, split.inner)


def _number_cases(experiment: Experiment, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    names = [experiment.cohort.labelled[i].case for i in rows]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _solve_parts(experiment: Experiment, split: Split, order: Order, *, shares: tuple[float, ...], path: Path) -> None:
    """Write the predictions of the outer images at each share, and scores of the training images."""
    from ..predict import predict_outer
    from ..train import train_split

    rows, targets = list_learning(split), experiment.cohort.targets
    cases = _number_cases(experiment, rows)
    tables, taught = [], []
    for size, share in enumerate(shares):
        part = rows[take_cases(order, cases, share=share)]
        run = RunFolder(path / f"size{size}")
        run.path.mkdir()
        # Training images are scored together with the outer ones.
        scored = replace(split, outer=np.concatenate([split.outer, part]))
        own = replace(experiment, run=run, splits=(scored,))
        train_split(own, replace(split, train=part, inner=part[:0]))
        table = predict_outer(own)
        tables.append(table.iloc[: len(split.outer)].assign(size=size))
        scores = table.iloc[len(split.outer) :][score_columns(experiment.cohort.classes)].to_numpy(dtype=np.float64)
        number = len(np.unique(cases[np.searchsorted(rows, part)]))
        taught.append((size, number, len(part), macro_f1(targets[part], scores)))
        shutil.rmtree(run.path)
    write_table(path / PART_SCORES, pd.concat(tables, ignore_index=True))
    write_table(path / PART_TAUGHT, pd.DataFrame(taught, columns=list(TAUGHT_COLUMNS)))
