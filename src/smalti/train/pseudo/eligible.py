"""Which unlabelled images may teach a fold, and what a head sees of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ...types import Cohort, Sample, Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]

CHUNK_ROWS = 1000  # of distances at a time


@dataclass(frozen=True, slots=True)
class Candidates:
    """Unlabelled images that may teach a fold.

    Attributes:
        samples: the images.
        left_out: why others may not -> how many.
    """

    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a head sees of the labelled images of a fold and of the candidates.

    Attributes:
        x: (views, n, D) standardised embeddings of the labelled images.
        y: (n,) their classes, each of which is there.
        weights: (n,) what each counts.
        cases, sites: (n,) names.
        free: (views, u, D) embeddings of the candidates.
        noisy: (views, u, D) as a student sees them.
        free_cases, free_sites: (u,) names.
    """

    x: Floats
    y: Ints
    weights: Floats
    cases: Texts
    sites: Texts
    free: Floats
    noisy: Floats
    free_cases: Texts
    free_sites: Texts

    def may_teach(self, learned: Ints, held: Ints) -> NDArray[np.bool_]:
        """Tell of each candidate (u,) whether it may teach where labelled images are held out."""
        return tell_apart(self.free_cases, self.free_sites, (self.cases[held], self.sites[held]), self.sites[learned])

    def take(self, kept: NDArray[np.bool_]) -> Seen:
        """Return the same with some of the candidates."""
        return replace(
            self, free=self.free[:, kept], noisy=self.noisy[:, kept], free_cases=self.free_cases[kept],
            free_sites=self.free_sites[kept],
        )  # fmt: skip


def list_candidates(cohort: Cohort, split: Split, *, unfit: Mapping[str, str]) -> Candidates:
    """List the unlabelled images that may teach a fold.

    Left out are images that the audit found unfit, of a case that is outer or sealed, and of a site that is held out as
    a whole: cases, and sites where they are held out, never straddle two parts.

    Args:
        cohort: sealed images are none of its unlabelled ones.
        split: the fold.
        unfit: image -> code of the finding against it.
    """
    rest = np.union1d(split.train, split.inner)
    held = [*(cohort.labelled[i] for i in split.outer), *cohort.sealed]
    names = np.array([s.case for s in held]), np.array([s.site for s in held[: len(split.outer)]])
    free = cohort.unlabelled
    apart = tell_apart(
        np.array([s.case for s in free]), np.array([s.site for s in free]), names,
        np.array([cohort.labelled[i].site for i in rest]),
    )  # fmt: skip
    reasons = [unfit.get(s.image, "" if may else "case or site held out") for s, may in zip(free, apart, strict=True)]
    return Candidates(
        tuple(s for s, why in zip(free, reasons, strict=True) if not why), Counter(why for why in reasons if why)
    )


def tell_apart(cases: Texts, sites: Texts, held: tuple[Texts, Texts], learned_sites: Texts) -> NDArray[np.bool_]:
    """Tell of images (u,) whether none is of a case that is held out, or of a site of which nothing is learned.

    Args:
        cases, sites: (u,) of the images.
        held: cases and sites of what is held out.
        learned_sites: of what is learned.
    """
    gone = np.setdiff1d(held[1], learned_sites)
    return np.asarray(~(np.isin(cases, held[0]) | np.isin(sites, gone)))


def find_unlike(seen: Seen, *, unlike_frac: float) -> NDArray[np.bool_]:
    """Find candidates (u,) whose nearest labelled image is farther than that of all but ``unlike_frac`` of the
    labelled, of which images of one case are no neighbours. No label is read.
    """
    known = seen.x[0]
    if unlike_frac == 0 or len(np.unique(seen.cases)) < 2:
        return np.zeros(len(seen.free_cases), dtype=np.bool_)
    own = np.concatenate([
        np.where(seen.cases[rows, None] == seen.cases, np.inf, cdist(known[rows], known)).min(axis=1)
        for rows in _chunk(len(known))
    ])  # fmt: skip
    others = [cdist(seen.free[0, rows], known).min(axis=1) for rows in _chunk(seen.free.shape[1])]
    return np.asarray(np.concatenate([*others, np.empty(0)]) > np.quantile(own, 1 - unlike_frac))


def _chunk(rows: int) -> Sequence[slice]:
    return [slice(start, start + CHUNK_ROWS) for start in range(0, rows, CHUNK_ROWS)]
