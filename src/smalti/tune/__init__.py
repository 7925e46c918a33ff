"""Search with its sensitivity: which recipe, what it is worth where nothing was chosen, and which knobs matter."""

import optuna

from ..records.studies.search import Search
from .space import Space, load_space
from .tuning import tune_recipe

__all__ = ["Search", "Space", "load_space", "tune_recipe"]

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every trial would bury what smalti says
