"""Statistics below all stages: pooled predictions, resamples by case, chance, permutation, the luck of trainings."""

from .intervals import Scored, judge_trust, score_pool
from .permutation import adjust_holm
from .pool import Pool, pool_predictions, score_by_seed

__all__ = ["Pool", "Scored", "adjust_holm", "judge_trust", "pool_predictions", "score_by_seed", "score_pool"]
