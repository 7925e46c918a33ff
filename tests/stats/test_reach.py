"""What a number of cases can show, and what is to be expected of other cases."""

import numpy as np
import pytest
from scipy import stats

from smalti.evaluate import foresee_score


@pytest.mark.parametrize("share", [0.6, 0.8, 0.93])
@pytest.mark.parametrize(("cases", "new_cases"), [(60, 60), (200, 40), (80, 800)])
def test_other_cases_lie_where_they_are_foreseen(share: float, cases: int, new_cases: int) -> None:
    """Accuracies of drawn answers: Wilson's interval alone holds too few of other parts of the same size."""
    rng = np.random.default_rng(cases)
    draws = 1500
    seen, other = rng.binomial(cases, share, draws) / cases, rng.binomial(new_cases, share, draws) / new_cases
    alone = held = 0
    for value in np.unique(seen):
        ends = stats.binomtest(round(value * cases), cases).proportion_ci(method="wilson")
        low, high = foresee_score(value, ends.low, ends.high, cases=cases, new_cases=new_cases)
        found = other[seen == value]
        alone += int(((ends.low <= found) & (found <= ends.high)).sum())
        held += int(((low <= found) & (found <= high)).sum())
    assert 0.925 <= held / draws <= 0.995
    if new_cases <= cases:
        assert alone / draws < 0.88


def test_many_other_cases_are_the_interval_itself_and_one_is_nearly_anything() -> None:
    low, high = foresee_score(0.8, 0.7, 0.87, cases=100, new_cases=10**9)
    assert (round(low, 3), round(high, 3)) == (0.7, 0.87)
    low, high = foresee_score(0.8, 0.7, 0.87, cases=100, new_cases=1)
    assert low < 0.05
    assert high > 0.99


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.9, 1.0), (0.0, 0.0, 0.2)])
def test_a_perfect_score_stays_inside(value: float, low: float, high: float) -> None:
    found = foresee_score(value, low, high, cases=50, new_cases=50)
    assert found[0] <= value <= found[1]
    assert 0 <= found[0] < found[1] <= 1
