"""How the peers of a league stand over all of its sets: means, ranks, and a paired verdict over all cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smalti.evaluate import check_alike
from smalti.metrics import macro_f1_of_confusions
from smalti.stats import Pool
from smalti.stats.intervals import LEAST_CASES, count_confusions

Pools = Mapping[tuple[str, str], Pool]  # of one set, by unit and peer
RESAMPLES = 2000


@dataclass(frozen=True)
class Lead:
    """How far one is ahead of another: the difference of macro-F1, its interval, and how many sets and cases say so."""

    value: float
    low: float
    high: float
    sets: int
    cases: int

    @property
    def verdict(self) -> str:
        """The interval in words; none where the cases are too few for a percentile interval to be believed."""
        if self.cases < LEAST_CASES:
            return "no verdict"
        if self.low > 0 or self.high < 0:
            return "better" if self.low > 0 else "worse"
        return "cannot tell"


def measure_lead(
    pairs: Sequence[tuple[Pool, Pool]], *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> Lead:
    """Measure the difference first minus second of macro-F1, averaged over the seeds and then over the sets.

    The interval is the middle share of the same mean under resamples. Each draws the cases of every set anew, with
    replacement, each set by itself, and both of a pair are scored on the same draw. So it speaks of these sets with
    other cases: not of other sets, and not of the luck of single trainings. Of a set with few cases it is too narrow.

    Args:
        pairs: of each set the pools of both, on the same images.
        resamples: how many.
        seed: of the draws.
        confidence: of the interval.

    Raises:
        DataError: the two of a pair were not scored on the same images, cases, labels and classes.
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("no set has both")
    generator = np.random.default_rng(seed)
    values, drawn = [], []
    for first, second in pairs:
        check_alike({"the second": second, "the first": first})
        n = first.n_cases
        times = np.vstack([np.ones(n), generator.multinomial(n, np.full(n, 1 / n), size=resamples)])
        gap = _score(first, times) - _score(second, times)
        values.append(gap[0])
        drawn.append(gap[1:])
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    cases = sum(first.n_cases for first, _ in pairs)
    return Lead(float(np.mean(values)), float(low), float(high), len(pairs), cases)


def _score(pool: Pool, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro-F1, mean over seeds, where each case counts so many times, (R, n_cases) -> (R,)."""
    counts = count_confusions(pool)  # (S, n_cases, C, C)
    return macro_f1_of_confusions(np.tensordot(times, counts, axes=(1, 1))).mean(axis=1)


def tabulate_leads(sets: Sequence[Pools], *, first: str) -> pd.DataFrame:
    """The lead of one peer over each other, by unit, over the sets where both were played."""
    keys = dict.fromkeys(key for pools in sets for key in pools if key[1] != first)
    rows = []
    for unit, peer in keys:
        pairs = [(p[unit, first], p[unit, peer]) for p in sets if (unit, peer) in p and (unit, first) in p]
        lead = measure_lead(pairs)
        rows.append({"by": unit, "peer": peer, "sets": lead.sets, "cases": lead.cases, f"{first}_minus": lead.value,
                     "low": lead.low, "high": lead.high, "verdict": lead.verdict})  # fmt: skip
    return pd.DataFrame(rows)


def tabulate_standing(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the sets and the mean rank within each, by unit and peer, best first.

    Args:
        table: set, by, peer, macro_f1, wall_s, cpu_s; one row for each.
    """
    table = table.assign(rank=table.groupby(["set", "by"])["macro_f1"].rank(ascending=False), sets=1)
    mean = partial(pd.Series.mean, skipna=False)  # of seconds that are not all known there is none
    how = {"macro_f1": mean, "rank": mean, "wall_s": mean, "cpu_s": mean, "sets": "sum"}
    return table.groupby(["by", "peer"]).agg(how).reset_index().sort_values(["by", "macro_f1"], ascending=[True, False])
