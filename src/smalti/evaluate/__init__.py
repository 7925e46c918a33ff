"""How good, how sure, better than what: scores with intervals by case, chance levels, paired comparison."""

from .calibration import Calibration, measure_calibration
from .choice import Choice, correct_choice
from .comparison import Difference, Pair, adjust_holm, check_alike, compare_pairs, find_common, keep_images
from .intervals import Resampled, judge_trust, resample_cases
from .pool import Pool, pool_predictions
from .scores import highest_losses, score_predictions

__all__ = [
    "Calibration",
    "Choice",
    "Difference",
    "Pair",
    "Pool",
    "Resampled",
    "adjust_holm",
    "check_alike",
    "compare_pairs",
    "correct_choice",
    "find_common",
    "highest_losses",
    "judge_trust",
    "keep_images",
    "measure_calibration",
    "pool_predictions",
    "resample_cases",
    "score_predictions",
]
