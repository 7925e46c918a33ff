"""The score of the best of several runs, corrected for its choice on the cases that score it.

The best of many equal runs looks better than it is. Choosing is therefore repeated: a run is chosen on a bootstrap
sample of the cases and scored on the cases that the sample left out (Tsamardinos, Greasidou & Borboudakis 2018). What
is averaged is its lead over the mean of all runs on those cases, because macro-F1 itself is lower on few cases.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..metrics import macro_f1_of_confusions
from ..records.studies.ladder import CorrectedChoice
from ..stats.intervals import count_confusions, draw_weights
from ..stats.pool import Pool
from .comparison import check_alike

Floats = NDArray[np.float64]


def correct_choice(pools: Mapping[str, Pool], *, resamples: int = 2000, seed: int = 0) -> CorrectedChoice:
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
        return CorrectedChoice(best=names[0], score=score, corrected=score, runs=1, optimism=0.0)
    leads = []
    for weights in draw_weights(counts[0].shape[1], resamples=resamples, seed=seed):
        chosen = _score(counts, weights).argmax(axis=0)
        left_out = _score(counts, (weights == 0).astype(np.float64))
        lead = left_out[chosen, np.arange(len(chosen))] - left_out.mean(axis=0)
        leads.append(lead[~np.isnan(lead)])
    corrected = float(everything.mean() + np.concatenate(leads).mean())
    corrected = min(score, corrected)
    return CorrectedChoice(
        best=names[best], score=score, corrected=corrected, runs=len(names), optimism=score - corrected
    )


def _score(counts: list[Floats], weights: Floats) -> Floats:
    """Return the macro-F1 of each run under weights (R, n_cases), mean over seeds, (runs, R)."""
    rows = []
    for count in counts:
        n_seeds, n_cases, n_classes, _ = count.shape
        drawn = (weights @ count.reshape(n_seeds, n_cases, -1)).reshape(n_seeds, len(weights), n_classes, n_classes)
        rows.append(macro_f1_of_confusions(drawn).mean(axis=0))
    return np.array(rows)
