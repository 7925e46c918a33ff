"""All runs of a project in one table, and the one that is best by a stated rule."""

from ..notation import say_value
from .best import Best, choose_best, find_bests, resolve_run, set_best, settle_bests
from .boards import export_tensorboard
from .curves import Exported
from .entries import Entry, Logbook, read_entry, read_logbook
from .selection import (
    check_fields,
    diff_recipes,
    filter_entries,
    read_field,
    sort_entries,
    tabulate_entries,
)
from .tracking import export_mlflow

__all__ = [
    "Best", "Entry", "Exported", "Logbook", "check_fields", "choose_best", "diff_recipes", "export_mlflow",
    "export_tensorboard", "filter_entries", "find_bests", "read_entry", "read_field", "read_logbook", "resolve_run",
    "say_value", "set_best", "settle_bests", "sort_entries", "tabulate_entries",
]  # fmt: skip
