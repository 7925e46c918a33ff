"""One table of scores from those of several runs on the same folds.

Everything that is fitted is fitted for each (seed, fold) on the inner rows of that same seed and fold, and applied to
its outer, unlabelled and sealed rows. The out-of-fold rows of the other folds are more numerous, but the networks that
made them have learned from the labels of this fold: what is fitted on them would leak.

Members are taken in the order of their names and rows in the order of seed, fold and image, so that no score depends
on the order in which either was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError, Problem
from ..metrics import SMALLEST_PROBABILITY, macro_f1_of_confusions, predict_classes
from ..records import FoldBlend
from ..records.layout import INNER, OUT_OF_FOLD, name_prediction
from ..registry import Registry
from ..stats.pool import fill_columns, find_faults
from ..types import PREDICTION_COLUMNS, SCORE_PREFIX, score_columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = pd.DataFrame
PartName = Literal["inner", "outer", "test", "sealed"]

KEYS = ["seed", "fold", "image"]
PARTS: tuple[PartName, ...] = ("outer", "inner", "test", "sealed")
SHOWN = 3  # names listed per problem
PARTIAL = ("weighed",)  # methods whose members need not have the same inner rows; scores of others are NaN there
BAGS = 20  # bootstrap draws of the inner cases
ROUNDS = 20  # members added after the start


@dataclass(frozen=True, slots=True)
class Member:
    """The prediction tables of one finished run; ``test`` and ``sealed`` are None where there are no such images."""

    name: str
    inner: Table
    outer: Table
    test: Table | None = None
    sealed: Table | None = None


@dataclass(frozen=True, slots=True)
class Combined:
    """Prediction tables of an ensemble, rows in the order of the first member.

    Attributes:
        inner: its scores of the rows that it was fitted on, which are optimistic; they give the optimism.
        outer, test, sealed: its scores of rows that had no say.
        record: how the members were combined in each seed and fold.
    """

    inner: Table
    outer: Table
    test: Table | None
    sealed: Table | None
    record: tuple[FoldBlend, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """The inner rows of one seed and fold, which is all that a fit gets to see.

    Attributes:
        names: (M,) names of the members.
        scores: (M, n, C) their scores.
        y_true: (n,) class index.
        case: (n,) case index, 0 to the number of cases - 1.
    """

    names: tuple[str, ...]
    scores: Floats
    y_true: Ints
    case: Ints


@dataclass(frozen=True, slots=True)
class Blend:
    """What was fitted: ``apply`` maps scores of the members (M, n, C) to (n, C); the rest is for the record."""

    apply: Callable[[Floats], Floats]
    weights: dict[str, float] | None = None
    C: float | None = None
    note: str = ""
    temperature: float = 1.0  # of what the members make together


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
    if problems := list(_find_problems(members, tuple(classes), method in PARTIAL)):
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


@ENSEMBLES.register(
    "greedy", summary="forward selection of members by macro-F1 of inner images", reference="Caruana et al. 2004"
)
def build_greedy() -> Ensemble:
    """Weights of the members, see `fit_greedy`."""
    return partial(combine_folds, fit=fit_greedy)


def combine_folds(members: Sequence[Member], classes: tuple[str, ...], method: str, *, fit: Fit | None) -> Combined:
    """Fit on the inner rows of each seed and fold, apply to all rows of that seed and fold; None: plain mean."""
    parts = {name: _stack_part(members, name, classes) for name in PARTS}
    filled = {name: np.empty(part.scores.shape[1:]) for name, part in parts.items() if part is not None}
    record = []
    for key in sorted({key for part in parts.values() if part is not None for key in part.folds}):
        inner = _take_inner(cast(Part, parts["inner"]), key, members=members, classes=classes)
        blend = _fit_inner(inner, fit)
        for name, scores in filled.items():
            part = cast(Part, parts[name])
            if key in part.folds:
                scores[part.folds[key]] = blend.apply(part.scores[:, part.folds[key]])
        record.append(
            FoldBlend(
                seed=key[0],
                fold=key[1],
                method=method,
                n_inner=inner.y_true.size,
                weights=blend.weights,
                C=blend.C,
                temperature=blend.temperature,
                note=blend.note,
            )
        )
    tables = {name: _write_table(cast(Part, parts[name]).head, scores, classes) for name, scores in filled.items()}
    return Combined(tables["inner"], tables["outer"], tables.get("test"), tables.get("sealed"), tuple(record))


def average_seeds(members: Sequence[Member], classes: tuple[str, ...], method: str) -> Combined:
    """Mean over members and seeds: one row per image, of seed 0.

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
    """The mean of the members; nothing is fitted."""
    shares = np.full(len(names), 1 / len(names))
    return Blend(lambda scores: mix_members(shares, scores), dict(zip(names, shares.tolist(), strict=True)), note=note)


def mix_members(shares: Floats, scores: Floats) -> Floats:
    """The mean (n, C) of scores (M, n, C) by shares (M,), in each row of the members that have scores there."""
    parts = shares[:, None] * ~np.isnan(scores[..., 0])
    return np.einsum("mn,mnc->nc", parts / parts.sum(axis=0), np.nan_to_num(scores))


def fit_greedy(inner: Inner) -> Blend:
    """Weights of the members by ensemble selection (Caruana, Niculescu-Mizil, Crew & Ksikes 2004).

    The paper lowers over-fitting by repeating the selection in random halves of a library of thousands of models. Half
    of a handful would mostly lack the best one, so here each repetition sees another bootstrap draw of the inner cases
    (Breiman 1996); the weights are the mean over the repetitions.
    """
    cases = int(inner.case.max()) + 1
    drawn = np.random.default_rng(0).multinomial(cases, np.full(cases, 1 / cases), size=BAGS)[:, inner.case]
    counts = select_members(inner.scores, inner.y_true, weights=drawn.astype(np.float64), rounds=ROUNDS)
    weights = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    by_member = dict(zip(inner.names, weights.tolist(), strict=True))
    return Blend(lambda scores: np.einsum("m,mnc->nc", weights, scores), weights=by_member)


def select_members(scores: Floats, y_true: Ints, *, weights: Floats, rounds: int) -> Floats:
    """How often forward selection with replacement takes each member, (B, M), for B weightings of the images.

    The members are sorted; the best 1, 2, ... of them together are tried and the best number starts. Then the member
    that helps most (or hurts least) is added ``rounds`` times, and the best ensemble met on the way is kept. Best is
    the highest macro-F1, of equals the lowest log loss, of equals the first.

    Args:
        scores: (M, n, C).
        y_true: (n,) class index.
        weights: (B, n) how often each image counts.
        rounds: members added after the start.
    """
    bags, members = np.arange(len(weights)), np.arange(len(scores))
    f1, loss = _rate_candidates(np.broadcast_to(scores, (len(weights), *scores.shape)), y_true, weights)
    ranked = np.lexsort((loss, -f1), axis=1)  # (B, M)
    totals = np.cumsum(scores[ranked], axis=1)  # (B, M, n, C)
    f1, loss = _rate_candidates(totals / (members[:, None, None] + 1), y_true, weights)
    start = _find_best(f1, loss)
    counts = np.zeros((bags.size, members.size))
    np.put_along_axis(counts, ranked, (members <= start[:, None]).astype(np.float64), axis=1)
    total, best = totals[bags, start], counts.copy()
    best_f1, best_loss = f1[bags, start], loss[bags, start]
    for _ in range(rounds):
        candidates = (total[:, None] + scores) / (counts.sum(axis=1) + 1)[:, None, None, None]
        f1, loss = _rate_candidates(candidates, y_true, weights)
        chosen = _find_best(f1, loss)
        counts[bags, chosen] += 1
        total = total + scores[chosen]
        f1, loss = f1[bags, chosen], loss[bags, chosen]
        better = (f1 > best_f1) | ((f1 == best_f1) & (loss < best_loss))
        best[better], best_f1[better], best_loss[better] = counts[better], f1[better], loss[better]
    return best


def _rate_candidates(scores: Floats, y_true: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Macro-F1 and log loss (a sum), each (B, M), of scores (B, M, n, C) under weights (B, n)."""
    bags, members, images, classes = scores.shape
    cell = np.arange(bags * members).reshape(bags, members, 1) * classes + y_true
    cell = cell * classes + predict_classes(scores)
    repeated = np.broadcast_to(weights[:, None], (bags, members, images))
    counts = np.bincount(cell.ravel(), weights=repeated.ravel(), minlength=bags * members * classes**2)
    of_truth = np.clip(scores[..., np.arange(images), y_true], SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses: Floats = -(np.log(of_truth) * weights[:, None]).sum(axis=-1)
    return macro_f1_of_confusions(counts.reshape(bags, members, classes, classes)), losses


def _find_best(f1: Floats, loss: Floats) -> Ints:
    """Of each row of (B, M): the highest F1, of equals the lowest loss, of equals the first; (B,)."""
    return np.where(f1 == f1.max(axis=1, keepdims=True), loss, np.inf).argmin(axis=1)


def _fit_inner(inner: Inner, fit: Fit | None) -> Blend:
    """The fit, or the mean of the members where there is nothing to fit on."""
    if fit is None:
        return average_members(inner.names)
    present = np.unique(inner.y_true).size
    if present < 2:
        reason = "inner images of one class only" if present else "no inner images"
        return average_members(inner.names, note=f"{reason}: mean of the members")
    return fit(inner)


def _stack_part(members: Sequence[Member], name: PartName, classes: tuple[str, ...]) -> Part | None:
    tables = {member.name: getattr(member, name) for member in members}
    if tables[members[0].name] is None:
        return None
    ordered = {key: table.reset_index(drop=True).sort_values(KEYS) for key, table in tables.items()}
    scores = [ordered[key][score_columns(classes)].to_numpy(dtype=np.float64) for key in sorted(ordered)]
    head = ordered[members[0].name][list(PREDICTION_COLUMNS)]
    folds = {(int(seed), int(fold)): rows for (seed, fold), rows in head.groupby(["seed", "fold"]).indices.items()}
    return Part(head, np.stack(scores), folds)


def _take_inner(part: Part, key: tuple[int, int], *, members: Sequence[Member], classes: tuple[str, ...]) -> Inner:
    rows = part.folds.get(key, np.empty(0, dtype=np.int64))
    head = part.head.iloc[rows]
    y_true = pd.Categorical(head["label"], categories=classes).codes.astype(np.int64)
    case = pd.factorize(head["case"], sort=True)[0].astype(np.int64)
    return Inner(tuple(sorted(member.name for member in members)), part.scores[:, rows], y_true, case)


def _write_table(head: Table, scores: Floats, classes: tuple[str, ...]) -> Table:
    """Head and scores side by side, rows back in the order of the first member."""
    return pd.concat([head, Table(scores, columns=score_columns(classes), index=head.index)], axis=1).sort_index()


def _average_images(table: Table, classes: tuple[str, ...], *, like: Table) -> Table:
    """The rows of ``like``, as seed 0, with the mean scores of their images over all rows of the table."""
    columns = score_columns(classes)
    means = table.sort_values(KEYS).groupby("image")[columns].mean()
    rows = like.assign(seed=0).reset_index(drop=True)
    rows[columns] = means.loc[rows["image"]].to_numpy()
    return rows


# --- do the members fit together? ---------------------------------------------------------------------------------


def _find_problems(members: Sequence[Member], classes: tuple[str, ...], partial: bool) -> Iterator[Problem]:
    names = [member.name for member in members]
    if not names:
        yield Problem("no-members", "ensemble.members", "it names no run.", "name one or more finished runs")
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem("repeated-member", "ensemble.members", f"'{name}' is named twice.", "name it once")
    for part in PARTS:
        file = OUT_OF_FOLD if part == "outer" else name_prediction(part)
        usable = []
        for member in members:
            table, place = getattr(member, part), f"{member.name}/{file}"
            faults = [] if table is None else list(_find_faults(table, classes, part, partial))
            yield from (Problem(code, place, message, fix) for code, message, fix in faults)
            if "missing-column" not in (code for code, _, _ in faults):
                usable.append((member.name, place, table))
        for _, place, table in usable[1:]:
            yield from _compare_tables(usable[0][2], table, name=usable[0][0], place=place)
    yield from (problem for member in members[:1] for problem in _find_leaks(member))


def _find_faults(
    table: Table, classes: tuple[str, ...], part: PartName, partial: bool
) -> Iterator[tuple[str, str, str]]:
    """Code, message and fix of what is wrong with one table by itself; ``partial``: inner rows may lack scores."""
    columns = score_columns(classes)
    again = "predict this run again ('smalti predict')"
    if missing := [name for name in (*PREDICTION_COLUMNS, *columns) if name not in table]:
        yield "missing-column", f"there is no column {_quote(missing)}.", again
        return
    if strange := [name for name in table if str(name).startswith(SCORE_PREFIX) and name not in columns]:
        known = f"combine runs with the same classes, here {', '.join(classes)}"
        yield "unknown-class", f"there are scores of other classes: {_quote(strange)}.", known
    if (repeated := table.duplicated(["seed", "image"] if part == "outer" else KEYS)).any():
        yield "repeated-row", f"images occur twice in one place: {_quote(table['image'][repeated])}.", again
    for fault in find_faults(fill_columns(table, classes), classes, unscored=partial and part == "inner"):
        if fault.code != "unknown-label" or part in ("inner", "outer"):
            yield fault.code, f"{fault.message} It concerns {_quote(table['image'][fault.rows])}.", fault.fix


def _compare_tables(first: Table | None, other: Table | None, *, name: str, place: str) -> Iterator[Problem]:
    """Where a table of another member differs from that of the first member, called ``name``."""
    if first is None or other is None:
        if first is not other:
            message = f"there is {'no' if other is None else 'a'} table here, unlike in '{name}'."
            yield Problem("missing-table", place, message, "predict both runs again ('smalti predict')")
        return
    fix = f"run it again with the data, decisions and split of '{name}', or take one of the two out"
    differ = False
    for what, columns in (("seeds", ["seed"]), ("images", ["image"]), ("folds", KEYS)):
        mine, theirs = _list_rows(other, columns), _list_rows(first, columns)
        if mine != theirs and not (what == "folds" and differ):
            differ = True
            said = _describe_rows(mine, theirs, columns=columns)
            yield Problem(f"other-{what}", place, f"its {what} are not those of '{name}'; it {said}.", fix)
    for column in ("case", "label"):
        mine, theirs = (_list_rows(t[~t[column].isin(["", np.nan])], ["image", column]) for t in (other, first))
        if moved := sorted({image for image, _ in mine ^ theirs} & set(first["image"]) & set(other["image"])):
            message = f"{len(moved)} images have another {column} than in '{name}': {_quote(moved)}."
            yield Problem(f"other-{column}s", place, message, fix)


def _list_rows(table: Table, columns: list[str]) -> set[tuple[Any, ...]]:
    return set(zip(*(table[column].tolist() for column in columns), strict=True))


def _describe_rows(mine: set[tuple[Any, ...]], theirs: set[tuple[Any, ...]], *, columns: list[str]) -> str:
    """What one of two tables has and the other has not, in words."""
    said = []
    for verb, rows in (("lacks", theirs - mine), ("has in addition", mine - theirs)):
        if rows:
            names = (" ".join(f"{c} {v}" for c, v in zip(columns, row, strict=True)) for row in sorted(rows))
            said.append(f"{verb} {len(rows)}: {_quote(names)}")
    return ", and ".join(said)


def _find_leaks(member: Member) -> Iterator[Problem]:
    """Cases that are inner and outer in the same seed and fold."""
    columns = ["seed", "fold", "case"]
    whole = set(columns) <= set(member.inner) & set(member.outer)
    if whole and (both := _list_rows(member.inner, columns) & _list_rows(member.outer, columns)):
        said = _quote(f"{case} (seed {seed}, fold {fold})" for seed, fold, case in sorted(both))
        message = f"{len(both)} cases are both inner and outer: {said}."
        yield Problem("leak", f"{member.name}/{INNER}", message, "split by case and train again")


def _quote(names: Iterable[Any]) -> str:
    """The first few names, and how many more there are."""
    listed = [f"'{name}'" for name in names]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
