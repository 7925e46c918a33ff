"""One table of scores from those of several runs on the same folds.

Everything that is fitted is fitted for each (seed, fold) on the inner rows of that same seed and fold, and applied to
its outer, unlabelled and sealed rows. The out-of-fold rows of the other folds are more numerous, but the networks that
made them have learned from the labels of this fold: what is fitted on them would leak.

Members are taken in the order of their names and rows in the order of seed, fold and image, so that no score depends
on the order in which either was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from ...errors import DataError
from ...records import FoldBlend
from ...registry import Registry
from ...types import PREDICTION_COLUMNS, score_columns
from .agreement import find_problems
from .members import KEYS, PARTS, Blend, Combined, Floats, Inner, Ints, Member, PartName, Table

PARTIAL = ("weighed",)  # methods whose members need not have the same inner rows; scores of others are NaN there


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of table of all members, rows sorted by `KEYS`, members by name."""

    head: Table  # without scores; its index is the position in the table of the first member
    scores: Floats  # (M, n, C)
    folds: dict[tuple[int, int], Ints]  # rows of each (seed, fold)


Fit = Callable[[Inner], Blend]
Ensemble = Callable[[Sequence[Member], tuple[str, ...], str], Combined]
ENSEMBLES: Registry[Ensemble] = Registry("ensemble")


def combine_members(members: Sequence[Member], *, classes: Sequence[str], method: str) -> Combined:
    """Combine the predictions of runs on the same folds into one.

    Args:
        members: at least one.
        classes: class names in score order.
        method: name of a registered ensemble.

    Raises:
        DataError: the tables do not fit together; with every problem at once.
        PartError: no ensemble is called ``method``.
        MissingExtraError: the method needs a library that is not installed.
    """
    ensemble = ENSEMBLES.build(method)
    if problems := list(find_problems(members, tuple(classes), partial=method in PARTIAL)):
        raise DataError("these runs cannot be combined:", problems)
    return ensemble(members, tuple(classes), method)


@ENSEMBLES.register("average", summary="mean of the members' scores, for each seed and fold", reference="Breiman 1996")
def build_average() -> Ensemble:
    """Nothing is fitted."""
    return partial(combine_folds, fit=None)


@ENSEMBLES.register(
    "average_seeds", summary="mean over members and seeds: one row per image", reference="Hansen & Salamon 1990"
)
def build_average_seeds() -> Ensemble:
    """Nothing is fitted."""
    return average_seeds


def combine_folds(members: Sequence[Member], classes: tuple[str, ...], method: str, *, fit: Fit | None) -> Combined:
    """Fit on the inner rows of each seed and fold, apply to all rows of that seed and fold; None: plain mean."""
    names = tuple(sorted(member.name for member in members))
    parts: dict[PartName, Part] = {}
    for name in PARTS:
        if getattr(members[0], name) is not None:
            ordered = {m.name: getattr(m, name).reset_index(drop=True).sort_values(KEYS) for m in members}
            stacked = [ordered[key][score_columns(classes)].to_numpy(dtype=np.float64) for key in names]
            head = ordered[members[0].name][list(PREDICTION_COLUMNS)]
            groups = head.groupby(["seed", "fold"]).indices.items()
            parts[name] = Part(head, np.stack(stacked), {(int(s), int(f)): rows for (s, f), rows in groups})
    filled = {name: np.empty(part.scores.shape[1:]) for name, part in parts.items()}
    whole = parts["inner"]
    record = []
    for key in sorted({key for part in parts.values() for key in part.folds}):
        rows = whole.folds.get(key, np.empty(0, dtype=np.int64))
        head = whole.head.iloc[rows]
        y_true = pd.Categorical(head["label"], categories=classes).codes.astype(np.int64)
        case = pd.factorize(head["case"], sort=True)[0].astype(np.int64)
        present = np.unique(y_true).size
        if fit is None:
            blend = average_members(names)
        elif present < 2:
            reason = "inner images of one class only" if present else "no inner images"
            blend = average_members(names, note=f"{reason}: mean of the members")
        else:
            blend = fit(Inner(names, whole.scores[:, rows], y_true, case))
        for name, scores in filled.items():
            if key in parts[name].folds:
                scores[parts[name].folds[key]] = blend.apply(parts[name].scores[:, parts[name].folds[key]])
        record.append(
            FoldBlend(
                seed=key[0], fold=key[1], method=method, n_inner=y_true.size, weights=blend.weights, C=blend.C,
                temperature=blend.temperature, note=blend.note,
            )
        )  # fmt: skip
    tables = {}
    for name, scores in filled.items():  # rows go back in the order of the first member
        head = parts[name].head
        columns = Table(scores, columns=score_columns(classes), index=head.index)
        tables[name] = pd.concat([head, columns], axis=1).sort_index()
    return Combined(tables["inner"], tables["outer"], tables.get("test"), tables.get("sealed"), tuple(record))


def average_seeds(members: Sequence[Member], classes: tuple[str, ...], method: str) -> Combined:
    """Return the mean over members and seeds: one row per image, of seed 0.

    The networks whose outer scores are averaged never saw the case, whatever their seed; the fold is that of the first
    (smallest) seed. Unlabelled and sealed images were seen by no network: all are averaged, as fold 0. The inner rows
    are those of the first seed, averaged over the members: a network of another seed that scores an inner image of
    this fold may have learned from the outer labels of this fold, so what is fitted on its score (a temperature,
    thresholds) would leak.
    """
    plain = combine_folds(members, classes, method, fit=None)
    first = plain.outer["seed"].min()
    outer = _average_images(plain.outer, classes, like=plain.outer[plain.outer["seed"] == first])
    test, sealed = (
        None if table is None else _average_images(table, classes, like=table.drop_duplicates("image").assign(fold=0))
        for table in (plain.test, plain.sealed)
    )
    inner = plain.inner[plain.inner["seed"] == first].assign(seed=0).reset_index(drop=True)
    note = f"outer scores: mean over {plain.outer['seed'].nunique()} seeds; inner scores: seed {first} alone"
    record = tuple(row.model_copy(update={"seed": 0, "note": note}) for row in plain.record if row.seed == first)
    return Combined(inner, outer, test, sealed, record)


def average_members(names: Sequence[str], *, note: str = "") -> Blend:
    """Return the mean of the members; nothing is fitted."""
    shares = np.full(len(names), 1 / len(names))
    return Blend(lambda scores: mix_members(shares, scores), dict(zip(names, shares.tolist(), strict=True)), note=note)


def mix_members(shares: Floats, scores: Floats) -> Floats:
    """Return the mean (n, C) of scores (M, n, C) by shares (M,), in each row of the members that have scores there."""
    parts = shares[:, None] * ~np.isnan(scores[..., 0])
    return np.einsum("mn,mnc->nc", parts / parts.sum(axis=0), np.nan_to_num(scores))


def _average_images(table: Table, classes: tuple[str, ...], *, like: Table) -> Table:
    """Return the rows of ``like``, as seed 0, with the mean scores of their images over all rows of the table."""
    columns = score_columns(classes)
    means = table.sort_values(KEYS).groupby("image")[columns].mean()
    rows = like.assign(seed=0).reset_index(drop=True)
    rows[columns] = means.loc[rows["image"]].to_numpy()
    return rows
