"""How good, and how sure: scores with intervals by case and chance levels."""

from .pool import Pool, pool_predictions
from .scores import highest_losses, score_predictions

__all__ = ["Pool", "highest_losses", "pool_predictions", "score_predictions"]
