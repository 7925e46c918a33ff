"""smalti: from tissue images, masks and labels to an honest score.

The functions of the command line, for notebooks. Names are loaded when they are first used, so that importing smalti
costs nothing. No name is that of a sub-package, which would take its place once it is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audit import audit_cohort
    from .cohort import Columns, inspect_folder, read_cohort
    from .demo import draw_cohort
    from .doctor import examine_machine
    from .errors import SmaltiError
    from .evaluate import score_predictions
    from .ladder import run_ladder
    from .learn import learn_curve
    from .logbook import read_logbook
    from .model import load_model
    from .recipe import Recipe, load_recipe
    from .types import Cohort
    from .workflow import (
        compare_sources,
        evaluate_run,
        evaluate_table,
        explain_run,
        open_seal,
        plan_data,
        report_on,
        report_run,
        run,
        train_run,
    )

_HOMES = {
    "Cohort": "types",
    "Columns": "cohort",
    "Recipe": "recipe",
    "SmaltiError": "errors",
    "audit_cohort": "audit",
    "compare_sources": "workflow",
    "draw_cohort": "demo",
    "evaluate_run": "workflow",
    "evaluate_table": "workflow",
    "examine_machine": "doctor",
    "explain_run": "workflow",
    "inspect_folder": "cohort",
    "learn_curve": "learn",
    "load_model": "model",
    "load_recipe": "recipe",
    "open_seal": "workflow",
    "plan_data": "workflow",
    "read_cohort": "cohort",
    "read_logbook": "logbook",
    "report_on": "workflow",
    "report_run": "workflow",
    "run": "workflow",
    "run_ladder": "ladder",
    "score_predictions": "evaluate",
    "train_run": "workflow",
}

__all__ = [
    "Cohort", "Columns", "Recipe", "SmaltiError", "audit_cohort", "compare_sources", "draw_cohort", "evaluate_run",
    "evaluate_table", "examine_machine", "explain_run", "inspect_folder", "learn_curve", "load_model", "load_recipe",
    "open_seal", "plan_data", "read_cohort", "read_logbook", "report_on", "report_run", "run", "run_ladder",
    "score_predictions", "train_run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'smalti' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
