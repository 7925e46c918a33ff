"""The learning curve: would more cases help, or more seeds, or a better backbone?"""

from .measuring import check_recipe, describe_curve, learn_curve
from .subsets import Order, choose_shares, order_cases, take_cases

__all__ = ["Order", "check_recipe", "choose_shares", "describe_curve", "learn_curve", "order_cases", "take_cases"]
