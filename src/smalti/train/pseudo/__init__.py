"""Unlabelled images that teach with the labels that a solved head gives them."""

from .unlabelled import TaughtFold, teach_fold

__all__ = ["TaughtFold", "teach_fold"]
