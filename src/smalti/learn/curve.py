"""The points of a learning curve: heads solved on growing parts of each fold's cases, scored on the same outer ones."""

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
from ..stats import Pool, pool_predictions
from ..store import build_once, read_table, write_table
from ..types import PREDICTION_COLUMNS, Split, score_columns
from .subsets import Order, choose_shares, order_cases, take_cases

if TYPE_CHECKING:
    from ..train import Experiment

SCORES, TAUGHT = "scores.csv", "taught.csv"
TAUGHT_COLUMNS = ("size", "cases", "images", "macro_f1")


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured.

    Attributes:
        shares: (K,) of the learning cases of each fold, growing; the last is 1.
        cases, images: (K,) that taught, mean over folds, seeds and orders.
        pools: (K,) out-of-fold predictions, one for each order of the cases; of all cases there is one order.
        taught: (K,) macro-F1 of the images that taught, mean over networks.
    """

    shares: tuple[float, ...]
    cases: tuple[float, ...]
    images: tuple[float, ...]
    pools: tuple[tuple[Pool, ...], ...]
    taught: tuple[float, ...]


def trace_curve(
    experiment: Experiment, splits: tuple[Split, ...], *, orders: int, folder: Path, tell: Callable[[int, int], None]
) -> Curve:
    """Solve and score the head at each size; what an earlier call has left in ``folder`` is not done again.

    Args:
        experiment: with frozen embeddings and a head that is solved.
        splits: outer folds; their inner cases teach too, as solved heads hold out each case in turns.
        orders: of the cases of each fold, in each of which the parts are nested.
        folder: takes one folder for each fold, seed and order.
        tell: hears of progress.
    """
    drawn = {
        (split.name, number): _draw_order(experiment, split, number) for split in splits for number in range(orders)
    }
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
                parts.append(_read_part(place, experiment, split, sizes=len(own)))
                taught.append(read_table(place / TAUGHT, *TAUGHT_COLUMNS))
    tell(1, 1)
    means = pd.concat(taught).groupby("size")[list(TAUGHT_COLUMNS[1:])].mean()
    classes = experiment.cohort.classes
    whole = [pd.concat(parts, ignore_index=True) for parts in tables if parts]
    pools = tuple(
        tuple(pool_predictions(t[t["size"] == k], classes=classes) for t in whole if (t["size"] == k).any())
        for k in range(len(shares))
    )
    columns = (tuple(map(float, means[name])) for name in TAUGHT_COLUMNS[1:])
    cases, images, scores = columns
    return Curve(shares, cases, images, pools, scores)


def list_learning(split: Split) -> NDArray[np.int64]:
    """Positions of the labelled images that are not outer."""
    return np.union1d(split.train, split.inner)


def _number_cases(experiment: Experiment, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    names = [experiment.cohort.labelled[i].case for i in rows]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _draw_order(experiment: Experiment, split: Split, number: int) -> Order:
    rows = list_learning(split)
    seed = [split.seed, split.fold, number]
    return order_cases(experiment.cohort.targets[rows], _number_cases(experiment, rows), seed=seed)


def _solve_parts(experiment: Experiment, split: Split, order: Order, *, shares: tuple[float, ...], path: Path) -> None:
    """Predictions of the outer images at each share, and what taught them."""
    from ..predict import predict_outer
    from ..train import train_split

    rows, targets = list_learning(split), experiment.cohort.targets
    cases = _number_cases(experiment, rows)
    tables, taught = [], []
    for size, share in enumerate(shares):
        part = rows[take_cases(order, cases, share=share)]
        run = RunFolder(path / f"size{size}")
        run.path.mkdir()
        own = replace(experiment, run=run)
        train_split(own, replace(split, train=part, inner=part[:0]))
        # The images that taught are scored beside the outer ones, in one go.
        table = predict_outer(own, (replace(split, outer=np.concatenate([split.outer, part])),))
        tables.append(table.iloc[: len(split.outer)].assign(size=size))
        scores = table.iloc[len(split.outer) :][score_columns(experiment.cohort.classes)].to_numpy(dtype=np.float64)
        number = len(np.unique(cases[np.searchsorted(rows, part)]))
        taught.append((size, number, len(part), macro_f1(targets[part], scores)))
        shutil.rmtree(run.path)
    write_table(path / SCORES, pd.concat(tables, ignore_index=True))
    write_table(path / TAUGHT, pd.DataFrame(taught, columns=list(TAUGHT_COLUMNS)))


def _read_part(place: Path, experiment: Experiment, split: Split, *, sizes: int) -> pd.DataFrame:
    """The predictions of one fold and order, which must be those of its outer images at every size.

    Raises:
        RunError: they are not.
    """
    columns = (*PREDICTION_COLUMNS, *score_columns(experiment.cohort.classes))
    table = read_table(place / SCORES, "size", *columns)
    names = [experiment.cohort.labelled[i].image for i in split.outer]
    if list(table["image"]) != names * sizes or list(table["size"]) != list(np.repeat(np.arange(sizes), len(names))):
        raise RunError(f"{place / SCORES} has not the rows of its fold. Fix: delete {place} and run again")
    return table
