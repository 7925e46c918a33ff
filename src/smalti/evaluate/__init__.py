"""How good, how sure, better than what: scores with intervals by case, chance levels, paired comparison."""

from .calibration import Calibration, measure_calibration
from .cases import OTHER, Scoring, Unit, average_cases, choose_unit, score_units, take_unit
from .choice import Choice, correct_choice
from .comparison import MARGIN, Difference, Pair, adjust_holm, check_alike, check_margin, compare_pairs
from .growth import Growth, forecast_growth
from .margins import Margin, measure_margins
from .reach import Reach, foresee_reach, foresee_score
from .scores import highest_losses, score_predictions

__all__ = [
    "MARGIN",
    "OTHER",
    "Calibration",
    "Choice",
    "Difference",
    "Growth",
    "Margin",
    "Pair",
    "Reach",
    "Scoring",
    "Unit",
    "adjust_holm",
    "average_cases",
    "check_alike",
    "check_margin",
    "choose_unit",
    "compare_pairs",
    "correct_choice",
    "forecast_growth",
    "foresee_reach",
    "foresee_score",
    "highest_losses",
    "measure_calibration",
    "measure_margins",
    "score_predictions",
    "score_units",
    "take_unit",
]
