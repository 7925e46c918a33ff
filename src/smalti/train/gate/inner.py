"""The inner cases of a fold in turns: all that a verdict gets to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import SplitError
from ...samples import deal_cases, number_sites
from ...samples.splits import LEAST_INNER_SITES
from ...types import Cohort, Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_TURNS = 5


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of the inner images that is held out together.

    Attributes:
        repeat: the dealing that it belongs to.
        seed: of whatever is drawn for it.
        learned, held: positions among the inner images; no case is in both.
    """

    repeat: int
    seed: int
    learned: Ints
    held: Ints


@dataclass(frozen=True, slots=True)
class Inner:
    """All labelled images of a fold that are not outer.

    Attributes:
        classes: their names.
        images: (n,) positions among the labelled images of the cohort.
        targets: (n,) class index.
        cases: (n,) case index, 0 to the number of cases - 1.
        turns: each repeat holds every image out once; empty where a class has a single case.
    """

    split: Split
    classes: tuple[str, ...]
    images: Ints
    targets: Ints
    cases: Ints
    turns: tuple[Turn, ...]

    @property
    def repeats(self) -> int:
        """Number of times that the cases were dealt."""
        return 1 + max((turn.repeat for turn in self.turns), default=-1)


def open_inner(
    cohort: Cohort, split: Split, *, repeats: int, most_turns: int = MOST_TURNS, by_site: bool = False
) -> Inner:
    """Deal all labelled images of a fold that are not outer to turns, whole cases at a time, ``repeats`` times.

    Raises:
        SplitError: an outer case is among them.
    """
    images = np.union1d(split.train, split.inner)
    names = np.array([s.case for s in cohort.labelled])
    if shared := set(names[images]) & set(names[split.outer]):
        raise SplitError(f"{split.name}: {len(shared)} outer cases would choose what is kept, such as {min(shared)}")
    targets = cohort.targets[images]
    cases = np.unique(names[images], return_inverse=True)[1].astype(np.int64)
    sites = number_sites(cohort)[images]
    groups = [sites, cases] if by_site and len(np.unique(sites)) >= LEAST_INNER_SITES else [cases]
    turns: list[Turn] = []
    for repeat in range(repeats):
        seed = (split.seed * 1000 + split.fold) * 100 + repeat
        dealt = (deal_cases(targets, by, folds=folds, seed=seed) for by in groups for folds in range(most_turns, 1, -1))
        parts: list[Ints] = next((parts for parts in dealt if parts is not None), [])
        everything = np.arange(len(images))
        turns += [
            Turn(repeat, seed * 10 + number, np.setdiff1d(everything, held), held) for number, held in enumerate(parts)
        ]
    return Inner(split, cohort.classes, images, targets, cases, tuple(turns))


def hold_out(inner: Inner, learn: Callable[[Turn], Floats]) -> Floats:
    """Return what ``learn`` gives for the images that a turn holds out, (m, C), for all repeats, (R, n, C)."""
    scores = np.full((inner.repeats, len(inner.images), len(inner.classes)), np.nan)
    for turn in inner.turns:
        scores[turn.repeat, turn.held] = learn(turn)
    return scores
