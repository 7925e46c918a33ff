"""The whole way, stage by stage: read, audit, decide, tile, learn, predict, evaluate, report.

Stages meet through files in the run folder. Everything that was decided is written there before training begins, and
a stage whose files are there is not done again.
"""

from ..project import RUNS, SILENT, Listener, Project
from .decisions.belonging import find_decisions
from .explaining.drawn_maps import write_maps
from .explaining.explain import describe_explanation, explain_run
from .external_cohort import score_answers
from .networks import predict
from .paired import compare_sources
from .portfolio.planning import describe_forecast, plan_data
from .prepare.ground import Ground, restrict_decisions
from .prepare.preparation import inspect_ground, prepare
from .reporting import report_audit, report_on
from .stages import Result, evaluate_run, evaluate_table, predict_run, reopen, report_run, run, run_on, train_run
from .unsealing import open_seal

__all__ = [
    "RUNS", "SILENT", "Ground", "Listener", "Project", "Result", "compare_sources", "describe_explanation",
    "describe_forecast", "evaluate_run", "evaluate_table", "explain_run", "find_decisions", "inspect_ground",
    "open_seal", "plan_data", "predict", "predict_run", "prepare", "reopen", "report_audit", "report_on", "report_run",
    "restrict_decisions", "run", "run_on", "score_answers", "train_run", "write_maps",
]  # fmt: skip
