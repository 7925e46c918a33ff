"""How good, how sure, better than what: scores with intervals by case, chance levels, paired comparison."""

from .calibration import Calibration, measure_calibration
from .cases import OTHER, Scoring, Unit, average_cases, choose_unit, score_units, take_unit
from .choice import Choice, correct_choice
from .comparison import MARGIN, Difference, Pair, adjust_holm, check_alike, check_margin, compare_pairs
from .faithfulness import GRID, Mean, Measured, measure_map, measure_mean, measure_ratio, summarise_maps
from .growth import Growth, forecast_growth
from .intervals import Scored, judge_trust, score_pool
from .margins import Margin, measure_margins
from .pool import Pool, pool_predictions
from .reach import Reach, foresee_reach
from .scores import highest_losses, score_predictions

__all__ = [
    "GRID",
    "MARGIN",
    "OTHER",
    "Calibration",
    "Choice",
    "Difference",
    "Growth",
    "Margin",
    "Mean",
    "Measured",
    "Pair",
    "Pool",
    "Reach",
    "Scored",
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
    "highest_losses",
    "judge_trust",
    "measure_calibration",
    "measure_map",
    "measure_margins",
    "measure_mean",
    "measure_ratio",
    "pool_predictions",
    "score_pool",
    "score_predictions",
    "score_units",
    "summarise_maps",
    "take_unit",
]
