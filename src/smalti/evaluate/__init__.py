"""Scores with intervals by case and chance levels, paired comparison, and forecasts."""

from .benefit import measure_operating
from .calibration import measure_calibration
from .cases import OTHER, Scoring, Unit, average_cases, choose_unit, score_units
from .choice import correct_choice
from .comparison import MARGIN, Difference, Pair, check_alike, check_margin, compare_pairs
from .external_scores import score_external
from .growth import Growth, Reach, forecast_growth, foresee_reach, foresee_score
from .margins import measure_margins
from .scores import highest_losses, score_predictions

__all__ = [
    "MARGIN", "OTHER", "Difference", "Growth", "Pair", "Reach", "Scoring", "Unit", "average_cases", "check_alike",
    "check_margin", "choose_unit", "compare_pairs", "correct_choice", "forecast_growth", "foresee_reach",
    "foresee_score", "highest_losses", "measure_calibration", "measure_margins", "measure_operating", "score_external",
    "score_predictions", "score_units",
]  # fmt: skip
