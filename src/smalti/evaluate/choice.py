"""What the best of several runs is worth, given that it was chosen on the cases that score it.

The best of many equal runs looks better than it is. Choosing is therefore repeated: a run is chosen on a bootstrap
sample of the cases and scored on the cases that the sample left out (Tsamardinos, Greasidou & Borboudakis 2018). What
is averaged is its lead over the mean of all runs on those cases, because macro-F1 itself is lower on few cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics import macro_f1_of_confusions
from ..stats.intervals import count_confusions, draw_weights
from ..stats.pool import Pool
from .comparison import check_alike

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The run with the highest macro-F1 of several.

    Attributes:
        best: its name.
        score: its macro-F1 on the cases that chose it.
        corrected: what choosing in this way is worth on cases that had no say.
        runs: how many there were to choose from.
    """

    best: str
    score: float
    corrected: float
    runs: int

    @property
    def optimism(self) -> float:
        """How much the choice flatters."""
        return self.score - self.corrected


def correct_choice(pools: Mapping[str, Pool], *, resamples: int = 2000, seed: int = 0) -> Choice:
    """Choose the highest macro-F1 and correct it for having been chosen; one run needs no correction.

    Raises:
        DataError: the runs were not scored on the same images, cases and labels.
    """
    check_alike(pools)
    names = list(pools)
    counts = [count_confusions(pool) for pool in pools.values()]  # each (S, n_cases, C, C)
    everything = _score(counts, np.ones((1, counts[0].shape[1])))[:, 0]
    best = int(everything.argmax())
    score = float(everything[best])
    if len(names) == 1:
        return Choice(names[0], score, score, 1)
    leads = []
    for weights in draw_weights(counts[0].shape[1], resamples=resamples, seed=seed):
        chosen = _score(counts, weights).argmax(axis=0)
        left_out = _score(counts, (weights == 0).astype(np.float64))
        lead = left_out[chosen, np.arange(len(chosen))] - left_out.mean(axis=0)
        leads.append(lead[~np.isnan(lead)])
    corrected = float(everything.mean() + np.concatenate(leads).mean())
    return Choice(names[best], score, min(score, corrected), len(names))


def _score(counts: list[Floats], weights: Floats) -> Floats:
    """Macro-F1 of each run under weights (R, n_cases), mean over seeds, (runs, R)."""
    rows = []
    for count in counts:
        n_seeds, n_cases, n_classes, _ = count.shape
        drawn = (weights @ count.reshape(n_seeds, n_cases, -1)).reshape(n_seeds, len(weights), n_classes, n_classes)
        rows.append(macro_f1_of_confusions(drawn).mean(axis=0))
    return np.array(rows)
