"""Classes that come from so few cases that class and case cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...stats.permutation import BLOCK, PERMUTATIONS, code_groups
from ...types import Sample

CONCENTRATED = 3.0  # one case to learn from, one to choose with, one to score on
SPREAD = 4.0  # pure cases: what half of all patients have parts two classes of k cases by chance in 2 of 4^k cohorts


@dataclass(frozen=True, slots=True)
class Concentration:
    """How a class lies over the cases.

    Attributes:
        label: the class.
        images, cases: how many.
        case, largest: the case with most of its images, and how many those are.
        effective: cases of equal size that would be as diverse, 1 / sum of squared shares (Simpson 1949).
        expected: the same, had labels nothing to do with cases; mean over permutations of the images.
        p: share of those permutations that lie on as few cases; times the number of classes.
        mixed: True where one of its cases holds another class too.
    """

    label: str
    images: int
    cases: int
    case: str
    largest: int
    effective: float
    expected: float
    p: float
    mixed: bool

    @property
    def tied(self) -> bool:
        """Whether too few cases stand for the class: fewer still where none of them holds another class too."""
        return self.effective < (CONCENTRATED if self.mixed else SPREAD)


def measure_concentration(samples: Sequence[Sample], classes: Sequence[str]) -> list[Concentration]:
    """One record for each class that has images."""
    names = [s.case for s in samples]
    cases, labels = code_groups(names), np.array([classes.index(str(s.label)) for s in samples])
    found = []
    for code in np.unique(labels):
        member = labels == code
        counts = np.bincount(cases, weights=member)
        observed = _count_effective(member[None], cases)[0]
        chance = _permute_effective(member, cases, times=PERMUTATIONS * (1 + len(classes) // 10))
        found.append(
            Concentration(
                label=classes[code],
                images=int(member.sum()),
                cases=int((counts > 0).sum()),
                case=sorted(set(names))[int(counts.argmax())],
                largest=int(counts.max()),
                effective=float(observed),
                expected=float(chance.mean()),
                p=min(1.0, len(classes) * float((1 + (chance <= observed + 1e-9).sum()) / (1 + len(chance)))),
                mixed=bool(np.isin(cases[~member], np.flatnonzero(counts)).any()),
            )
        )
    return found


def _permute_effective(member: NDArray[np.bool_], cases: NDArray[np.int64], *, times: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    sizes = [min(BLOCK, times - start) for start in range(0, times, BLOCK)]
    return np.concatenate([_count_effective(rng.permuted(np.tile(member, (k, 1)), axis=1), cases) for k in sizes])


def _count_effective(members: NDArray[np.bool_], cases: NDArray[np.int64]) -> NDArray[np.float64]:
    """Effective number of cases (P,) of the images that are members, (P, n)."""
    order = np.argsort(cases, kind="stable")
    starts = np.flatnonzero(np.diff(cases[order], prepend=-1))
    counts = np.add.reduceat(members[:, order].astype(np.float64), starts, axis=1)
    return np.asarray(counts.sum(axis=1) ** 2 / np.maximum((counts**2).sum(axis=1), 1))
