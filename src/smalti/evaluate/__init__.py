"""How good, how sure, better than what: scores with intervals by case, chance levels, paired comparison."""

from .calibration import Calibration, measure_calibration
from .choice import Choice, correct_choice
from .comparison import (
    MARGIN,
    Difference,
    Pair,
    adjust_holm,
    check_alike,
    check_margin,
    compare_pairs,
    find_common,
    keep_images,
)
from .faithfulness import GRID, Mean, Measured, measure_map, measure_mean, measure_ratio, summarise_maps
from .growth import Growth, forecast_growth
from .intervals import Scored, judge_trust, score_pool
from .margins import Margin, measure_margins
from .pool import Pool, pool_predictions
from .scores import highest_losses, score_predictions

__all__ = [
    "GRID",
    "MARGIN",
    "Calibration",
    "Choice",
    "Difference",
    "Growth",
    "Margin",
    "Mean",
    "Measured",
    "Pair",
    "Pool",
    "Scored",
    "adjust_holm",
    "check_alike",
    "check_margin",
    "compare_pairs",
    "correct_choice",
    "find_common",
    "forecast_growth",
    "highest_losses",
    "judge_trust",
    "keep_images",
    "measure_calibration",
    "measure_map",
    "measure_margins",
    "measure_mean",
    "measure_ratio",
    "pool_predictions",
    "score_pool",
    "score_predictions",
    "summarise_maps",
]
