"""What a number is worth: pooled predictions, resamples by case, chance, permutation, the luck of trainings."""

from .intervals import Scored, judge_trust, score_pool
from .pool import Pool, pool_predictions

__all__ = ["Pool", "Scored", "judge_trust", "pool_predictions", "score_pool"]
