"""Stratified folds that keep cases, or whole sites, together, repeated over seeds, with an inner part that chooses.

scikit-learn's StratifiedGroupKFold proposes; what it proposes is checked, because with few cases it may leave a
training part without a class.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from .. import recipe
from ..errors import SplitError
from ..stats.permutation import join_groups
from ..types import FOLD_COLUMNS, Cohort, Role, Split

MOST_AUTO_FOLDS = 5
MOST_SITE_FOLDS = 10  # of more sites several are held out together
LEAST_INNER_SITES = 3  # of a training part; of fewer, whole sites are too much of it to be set apart
MOVES = 4  # of cases, for each case there is, before a proposal is given up
ATTEMPTS = 25  # reshuffles of one seed before a number of folds is said not to work

Indices = NDArray[np.int64]


def split_cases(cohort: Cohort, split: recipe.Split) -> tuple[Split, ...]:
    """Return outer folds of every seed, each with an inner part taken from its training cases.

    Every labelled image is in the outer part of exactly one fold of each seed. No case is in two parts of one fold.
    Every training part holds every class. Outer parts hold every class where there is a way; else one may lack some
    (`find_lacking`), as an inner part may, since scores are pooled. The inner part is
    empty where taking any case away would leave the training part without a class.

    With ``split.group=site`` no site is in two parts either: see `split_sites`.

    Raises:
        SplitError: the number of folds does not work; the message names the largest that does.
    """
    if split.group == "site":
        return split_sites(cohort, split, inner="site")
    folds = count_folds(cohort, seeds=split.seeds) if split.folds == "auto" else split.folds
    targets, cases = cohort.targets, _number_cases(cohort)
    splits: list[Split] = []
    for seed in split.seeds:
        parts = deal_cases(targets, cases, folds=folds, seed=seed)
        if parts is None:
            raise _explain(cohort, folds, split.seeds)
        for fold, outer in enumerate(parts):
            rest = np.setdiff1d(np.arange(len(targets)), outer)
            inner = _find_inner(targets, cases, rest, frac=split.inner_frac, seed=seed * 100 + fold)
            splits.append(Split(seed, fold, np.setdiff1d(rest, inner), inner, outer))
    for one in splits:
        _check_split(one, targets, cases)
    return tuple(splits)


def split_sites(cohort: Cohort, split: recipe.Split, *, inner: Literal["case", "site"]) -> tuple[Split, ...]:
    """Return folds as `split_cases` does whose outer parts are whole sites: one each, several where there are many.

    Args:
        cohort: whose samples have sites; those without one are held out together.
        split: ``folds`` is a number, or auto for as many as there are sites, at most ``MOST_SITE_FOLDS``.
        inner: what chooses: cases of the sites that teach, or whole sites of them where there are enough.

    Raises:
        SplitError: there are no two sites to part, or a class lies in one site alone.
    """
    targets, cases, sites = cohort.targets, _number_cases(cohort), number_sites(cohort)
    number = int(sites.max()) + 1
    if number < 2:
        raise _explain_sites(cohort)
    asked = range(min(number, MOST_SITE_FOLDS), 1, -1) if split.folds == "auto" else (split.folds,)
    dealt = ([deal_cases(targets, sites, folds=folds, seed=seed) for seed in split.seeds] for folds in asked)
    found = next(([p for p in parts if p is not None] for parts in dealt if all(p is not None for p in parts)), None)
    if found is None:
        raise _explain_sites(cohort)
    splits: list[Split] = []
    for seed, parts in zip(split.seeds, found, strict=True):
        for fold, outer in enumerate(parts):
            rest = np.setdiff1d(np.arange(len(targets)), outer)
            pick = partial(_find_inner, targets, rest=rest, frac=split.inner_frac, seed=seed * 100 + fold)
            chosen = np.empty(0, dtype=np.int64)
            if inner == "site" and len(np.unique(sites[rest])) >= LEAST_INNER_SITES:
                chosen = pick(cases=sites)
            chosen = chosen if len(chosen) else pick(cases=cases)
            one = Split(seed, fold, np.setdiff1d(rest, chosen), chosen, outer)
            _check_split(one, targets, cases)
            if shared := set(sites[outer]) & set(sites[rest]):
                raise SplitError(f"{one.name}: {len(shared)} sites are in its outer part and in another")
            splits.append(one)
    return tuple(splits)


def number_sites(cohort: Cohort) -> Indices:
    """Return the number of what is held out together for each labelled image, (n,): its site, with all sites that share
    a case with it; 0 for all where there are no sites.
    """
    return join_groups([s.site for s in cohort.labelled], [s.case for s in cohort.labelled])


def _explain_sites(cohort: Cohort) -> SplitError:
    """Return why no sites can be held out, and what to do."""
    sites = number_sites(cohort)
    names = {s.site for s in cohort.labelled} - {""}
    if len(names) < 2:
        found = f"the data names one site, {next(iter(names))}" if names else "the data names no sites"
        fix = "--set data.site=COLUMN, or --set split.group=case"
        return SplitError(f"no site can be held out: {found}", fix=fix)
    if sites.max() < 1:
        return SplitError(
            f"no site can be held out: cases lie in several of the {len(names)} sites, so that all of them belong "
            "together",
            fix="--set data.site=COLUMN with one site for each case, or --set split.group=case",
        )
    alone = [name for i, name in enumerate(cohort.classes) if len(np.unique(sites[cohort.targets == i])) < 2]
    why = f"class '{alone[0]}' lies in one of them alone" if alone else "some training part would lack a class"
    fix = "add cases of that class from another site, or --set split.group=case"
    return SplitError(f"no site of {int(sites.max()) + 1} can be held out: {why}", fix=fix)


def count_folds(cohort: Cohort, *, seeds: tuple[int, ...] = (0,), most: int = MOST_AUTO_FOLDS) -> int:
    """Return the largest number of folds, up to ``most``, in which every part of every seed holds every class.

    Where no number gives every outer part every class, the largest in which every training part has them all.

    Raises:
        SplitError: not even two folds work.
    """
    targets, cases = cohort.targets, _number_cases(cohort)
    working = 0
    for folds in range(min(most, int(cases.max()) + 1), 1, -1):
        found = [deal_cases(targets, cases, folds=folds, seed=seed) for seed in seeds]
        if all(parts is not None and _are_complete(targets, parts) for parts in found):
            return folds
        if all(parts is not None for parts in found):
            working = max(working, folds)
    if not working:
        raise _explain(cohort, 2, seeds)
    return working


def find_lacking(cohort: Cohort, splits: tuple[Split, ...]) -> dict[str, int]:
    """Count class -> number of outer parts that lack it; classes that all parts hold are left out."""
    targets = cohort.targets
    counts = {name: sum(not (targets[s.outer] == i).any() for s in splits) for i, name in enumerate(cohort.classes)}
    return {name: count for name, count in counts.items() if count}


def restrict_splits(splits: tuple[Split, ...], *, whole: Cohort, cohort: Cohort) -> tuple[Split, ...] | None:
    """Return folds of the whole cohort without the images that the smaller one lacks, as positions into the smaller
    one.

    Folds made before anything was left out do not depend on what is, so that runs with and without a purge share
    them. None where a training part would lose a class, or a part all its images.
    """
    position = {sample.image: i for i, sample in enumerate(cohort.labelled)}
    new = np.array([position.get(sample.image, -1) for sample in whole.labelled], dtype=np.int64)
    targets = cohort.targets

    def keep(indices: Indices) -> Indices:
        return np.sort(new[indices][new[indices] >= 0])

    kept = tuple(Split(s.seed, s.fold, keep(s.train), keep(s.inner), keep(s.outer)) for s in splits)
    for before, after in zip(splits, kept, strict=True):
        if not len(after.outer) or (len(before.inner) and not len(after.inner)) or not _holds_all(targets, after.train):
            return None
    cases = _number_cases(cohort)
    for one in kept:
        _check_split(one, targets, cases)
    return kept


def choose_sealed(cohort: Cohort, *, share: float) -> tuple[str, ...]:
    """Return labelled images to be sealed: whole cases, near ``share`` of all, stratified; every class stays outside
    too.

    Raises:
        SplitError: no cases can be sealed without taking a class away.
    """
    targets, cases = cohort.targets, _number_cases(cohort)
    chosen = _find_inner(targets, cases, np.arange(len(targets)), frac=share, seed=0)
    if not len(chosen):
        raise SplitError(
            f"no cases can be sealed ({share:.0%} asked for): some class would be left without a case outside the seal",
            fix="--set split.sealed_frac=0, or add cases",
        )
    return tuple(cohort.labelled[i].image for i in chosen)


def tabulate_folds(cohort: Cohort, splits: tuple[Split, ...]) -> pd.DataFrame:
    """Tabulate one row per seed, fold and labelled image, with its role: ``train``, ``inner`` or ``outer``."""
    roles: tuple[Role, ...] = ("train", "inner", "outer")
    rows = [
        (split.seed, split.fold, sample.image, sample.case, sample.label, role)
        for split in splits
        for role in roles
        for sample in (cohort.labelled[i] for i in getattr(split, role))
    ]
    return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def _number_cases(cohort: Cohort) -> Indices:
    return np.unique([s.case for s in cohort.labelled], return_inverse=True)[1].astype(np.int64)


def _propose(targets: Indices, cases: Indices, *, folds: int, seed: int) -> Iterator[list[Indices]]:
    """Yield shuffled proposals of ``folds`` outer parts; none where scikit-learn refuses the number."""
    empty = np.zeros((len(targets), 1))
    for attempt in range(ATTEMPTS):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed * ATTEMPTS + attempt)
        with warnings.catch_warnings():
            # It warns about classes smaller than the number of folds; the check below decides instead.
            warnings.simplefilter("ignore", UserWarning)
            try:
                yield [outer.astype(np.int64) for _, outer in splitter.split(empty, targets, cases)]
            except ValueError:
                return


def deal_cases(targets: Indices, cases: Indices, *, folds: int, seed: int) -> list[Indices] | None:
    """Deal images with ``targets`` and ``cases`` (n,) to folds: the indices of each outer part, stratified.

    The first proposal in which every outer part holds every class, as it is or after cases were moved for that. Where
    there is none, the first in which no outer part is empty and every training part holds every class; else None.
    """
    numbers = np.unique(cases)
    if folds > len(numbers) or any(len(np.unique(cases[targets == t])) < 2 for t in np.unique(targets)):
        return None
    everything = np.arange(len(targets))
    # As many folds as cases can only mean one case each; scikit-learn refuses that where the classes are smaller.
    alone = [np.flatnonzero(cases == number) for number in numbers]
    possible = all(len(np.unique(cases[targets == t])) >= folds for t in np.unique(targets))
    tried: list[list[Indices]] = []
    working: list[Indices] | None = None
    for parts in [alone] if folds == len(numbers) else _propose(targets, cases, folds=folds, seed=seed):
        if possible and _are_complete(targets, parts):
            return parts
        if working is None and all(len(p) and _holds_all(targets, np.setdiff1d(everything, p)) for p in parts):
            working = parts
        if working is not None and not possible:
            return working
        tried.append(parts)
    mended = (_complete(targets, cases, parts) for parts in tried if possible)
    return next((parts for parts in mended if _are_complete(targets, parts)), working)


def _are_complete(targets: Indices, parts: list[Indices]) -> bool:
    """Tell whether every outer part holds every class; of two and more, every training part does then too."""
    return all(_holds_all(targets, part) for part in parts)


def _complete(targets: Indices, cases: Indices, parts: list[Indices]) -> list[Indices]:
    """Return the parts with cases moved to where a class is missing, first the smallest that another part can spare.

    Where each case has one class, and no class fewer cases than there are parts, that always ends well.
    """
    part_of = np.zeros(len(targets), dtype=np.int64)
    for number, part in enumerate(parts):
        part_of[part] = number
    names, sizes = np.unique(cases, return_counts=True)
    row = np.searchsorted(names, cases)
    has = np.zeros((len(names), targets.max() + 1), dtype=bool)  # which case has an image of which class
    has[row, targets] = True
    has = has[:, has.any(axis=0)]
    where = np.zeros(len(names), dtype=np.int64)
    where[row] = part_of
    rng = np.random.default_rng(len(names))
    for _ in range(MOVES * len(names)):
        held = np.stack([has[where == number].sum(axis=0) for number in range(len(parts))])  # (folds, classes)
        short = np.argwhere(held == 0)
        if not len(short):
            break
        number, missing = short[0]
        holders = np.flatnonzero(has[:, missing])
        taken = (has & (held[where] == 1)).sum(axis=1)[holders]  # classes that its part would lose
        # Where no part can spare one, the way on is drawn, or two parts would pass one case to and fro.
        cost = np.where(taken, taken + rng.random(len(holders)), sizes[holders] / (1 + len(targets)))
        where[holders[cost.argmin()]] = number
    return [np.flatnonzero(where[row] == number) for number in range(len(parts))]


def _find_inner(targets: Indices, cases: Indices, rest: Indices, *, frac: float, seed: int) -> Indices:
    """Return the candidate with most classes, then nearest in size to ``frac``, that leaves every class for
    training."""
    # scikit-learn refuses more folds than the largest class has images.
    most = min(len(np.unique(cases[rest])), int(np.bincount(targets[rest]).max()))
    folds = min(max(2, round(1 / frac)), most)
    candidates: list[tuple[int, float, Indices]] = []
    if folds >= 2:
        for parts in _propose(targets[rest], cases[rest], folds=folds, seed=seed):
            for part in parts:
                inner = rest[part]
                if len(inner) and _holds_all(targets, np.setdiff1d(rest, inner)):
                    missing = len(np.unique(targets)) - len(np.unique(targets[inner]))
                    candidates.append((missing, abs(len(inner) / len(rest) - frac), inner))
            if candidates and candidates[-1][0] == 0:
                break
    return min(candidates, key=lambda c: c[:2])[2] if candidates else np.empty(0, dtype=np.int64)


def _holds_all(targets: Indices, chosen: Indices) -> bool:
    return len(np.unique(targets[chosen])) == len(np.unique(targets))


def _check_split(split: Split, targets: Indices, cases: Indices) -> None:
    """The contract, checked on what is used rather than on how it was made."""
    parts = {"train": split.train, "inner": split.inner, "outer": split.outer}
    names = list(parts)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if shared := set(cases[parts[first]]) & set(cases[parts[second]]):
                raise SplitError(f"{split.name}: {len(shared)} cases are in both its {first} and its {second} part")
    if not _holds_all(targets, split.train):
        raise SplitError(f"{split.name}: its training part lacks a class")


def _explain(cohort: Cohort, folds: int, seeds: tuple[int, ...]) -> SplitError:
    """Return why the cohort cannot be dealt to so many folds, and the number that works."""
    held = {name: sorted({s.case for s in cohort.labelled if s.label == name}) for name in cohort.classes}
    rarest = min(held, key=lambda name: len(held[name]))
    targets, cases = cohort.targets, _number_cases(cohort)
    number = len(np.unique(cases))
    reason = (
        f"{folds} folds do not work: "
        f"{'some training part would lack a class' if folds <= number else 'a case cannot be in two folds'}. "
        f"Class '{rarest}' has {len(held[rarest])} case(s): {', '.join(held[rarest][:5])}; {number} cases in all."
    )
    # More folds may work where fewer do not, and one case in each always works unless a class has a single case.
    for other in (*range(min(max(folds, MOST_AUTO_FOLDS), number), 1, -1), number):
        if all(deal_cases(targets, cases, folds=other, seed=seed) is not None for seed in seeds):
            return SplitError(reason, fix=f"--set split.folds={other} (the largest number that works)")
    fix = f"add cases of '{rarest}', or exclude or merge that class"
    return SplitError(f"{reason} No number of folds works", fix=fix)
