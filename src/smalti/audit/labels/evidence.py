"""What a finished run says about its labelled images: read from its files, whichever networks made them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ...records import CohortRecord, Dynamics, Embeddings, Environment, RunFolder
from ...records.layout import DYNAMICS, EMBEDDINGS, OUT_OF_FOLD
from ...types import score_columns
from .neighbours import Neighbours, find_neighbours, regress_labels

LEAST_SCORE = 1e-6  # a score of 0 from rounding must not be an infinite loss


@dataclass(frozen=True, eq=False)
class Evidence:
    """Held-out scores of n labelled images and what else is known of them; labels are those that the run used.

    Attributes:
        images: names.
        cases: (n,).
        classes: in the order of the scores.
        labels: (n,) class given to each image.
        scores: (S, n, C) out-of-fold probabilities of each seed.
        dynamics: rows of all images, in their order; None where none were recorded.
        embeddings: (n, D) of a frozen backbone; None where there are none.
        label_by_case: whether a label belongs to its whole case in the data as they were read; None: as far as these
            labels say so.
    """

    images: tuple[str, ...]
    cases: NDArray[np.str_]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    dynamics: Dynamics | None = None
    embeddings: NDArray[np.floating] | None = None
    label_by_case: bool | None = None

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(n,) number of what one label is about: the image, or its case (there, of one label) where labels belong to
        cases."""
        pairs = np.stack([np.unique(self.cases, return_inverse=True)[1].ravel(), self.labels], axis=1)
        numbers = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
        by_case = self.label_by_case
        if by_case is None:
            by_case = len(np.unique(numbers)) == len(np.unique(self.cases)) < len(self.images)
        return numbers if by_case else np.arange(len(self.images))

    @cached_property
    def mean_scores(self) -> NDArray[np.float64]:
        """(n, C) probabilities, mean over seeds."""
        return np.asarray(self.scores.mean(axis=0))

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """(n,) cross-entropy of the given label, mean over seeds."""
        given = self.scores[:, np.arange(len(self.labels)), self.labels]
        return np.asarray(-np.log(np.maximum(given, LEAST_SCORE)).mean(axis=0))

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """Look-alikes; None without embeddings."""
        if self.embeddings is None or len(self.images) < 2:
            return None
        return find_neighbours(self.embeddings, self.labels, self.cases, classes=len(self.classes))

    @cached_property
    def regressed(self) -> NDArray[np.float64] | None:
        """(n, C) probabilities by regression on the embeddings, each case left out in turn; None without them."""
        if self.embeddings is None or len(self.images) < 2:
            return None
        return regress_labels(self.embeddings, self.labels, self.cases, classes=len(self.classes))

    def restrict(self, images: Collection[str]) -> Evidence:
        """Return the same about some of the images."""
        kept = np.array([i for i, name in enumerate(self.images) if name in images], dtype=np.int64)
        names = tuple(self.images[i] for i in kept)
        return replace(
            self,
            images=names,
            cases=self.cases[kept],
            labels=self.labels[kept],
            scores=self.scores[:, kept],
            dynamics=None if self.dynamics is None else order_dynamics(self.dynamics, names),
            embeddings=None if self.embeddings is None else self.embeddings[kept],
        )


def order_dynamics(dynamics: Dynamics, names: tuple[str, ...]) -> Dynamics | None:
    """Return the rows of some images, numbered in their order; None where an image has none."""
    position = {name: i for i, name in enumerate(names)}
    moved = np.array([position.get(name, -1) for name in dynamics.names], dtype=np.int64)[dynamics.image]
    rows = moved >= 0
    if len(np.unique(moved[rows])) < len(names):
        return None
    return replace(
        dynamics, names=names, image=moved[rows], seed=dynamics.seed[rows], epoch=dynamics.epoch[rows],
        logits=dynamics.logits[rows],
    )  # fmt: skip


def read_evidence(run: Path) -> Evidence:
    """Read what a run folder knows of its labelled images; what it lacks is None.

    Raises:
        RunError: there are no out-of-fold predictions, a file is damaged, or the run is of another version.
    """
    Environment.find(run)  # its version is that of the run
    cohort, table = CohortRecord.read(run), RunFolder(run).read_out_of_fold()
    classes = cohort.classes
    if absent := [name for name in score_columns(classes) if name not in table]:
        raise RunError(f"{run / OUT_OF_FOLD} lacks {', '.join(absent)}", fix=f"'smalti predict {run}'")
    seeds = [rows.set_index("image") for _, rows in table.groupby("seed")]
    images = tuple(seeds[0].index)
    if any(len(rows) != len(images) or set(rows.index) != set(images) for rows in seeds):
        raise RunError(f"{run / OUT_OF_FOLD} has other images in each seed", fix=f"'smalti predict {run}'")
    position = {name: i for i, name in enumerate(classes)}
    scores = np.stack([rows.loc[list(images), score_columns(classes)].to_numpy(dtype=np.float64) for rows in seeds])
    dynamics, embeddings = run / DYNAMICS, run / EMBEDDINGS
    return Evidence(
        images=images,
        cases=seeds[0]["case"].to_numpy(dtype=np.str_),
        classes=classes,
        labels=np.array([position[label] for label in seeds[0]["label"]], dtype=np.int64),
        scores=scores,
        dynamics=order_dynamics(Dynamics.read_file(dynamics), images) if dynamics.is_file() else None,
        embeddings=Embeddings.read_file(embeddings).order(images) if embeddings.is_file() else None,
        label_by_case=cohort.label_by_case,
    )
