"""What stages hand over: every file of a run folder has one owner here, which names, writes and reads it."""

from . import layout
from .cohorts import Asked, CohortRecord, LeftOut, hash_cohort, identify_mask, tabulate_samples
from .environment import LIBRARIES, Environment, look_at_machine
from .events import Event, find_last_stage, log_event, log_stage, read_events, sum_seconds
from .influence import Effects, Influence, Influenced, Source
from .record import Number, Part, Record
from .run import FEW_CASES, RunFolder, open_run
from .scores import (
    HEADLINE,
    OTHER,
    AsGiven,
    Bin,
    ClassScore,
    Cover,
    Interval,
    Margin,
    Reliability,
    Score,
    Scores,
    Scoring,
    Unit,
    UnitScores,
)

__all__ = [
    "FEW_CASES",
    "HEADLINE",
    "LIBRARIES",
    "OTHER",
    "AsGiven",
    "Asked",
    "Bin",
    "ClassScore",
    "CohortRecord",
    "Cover",
    "Effects",
    "Environment",
    "Event",
    "Influence",
    "Influenced",
    "Interval",
    "LeftOut",
    "Margin",
    "Number",
    "Part",
    "Record",
    "Reliability",
    "RunFolder",
    "Score",
    "Scores",
    "Scoring",
    "Source",
    "Unit",
    "UnitScores",
    "find_last_stage",
    "hash_cohort",
    "identify_mask",
    "layout",
    "log_event",
    "log_stage",
    "look_at_machine",
    "open_run",
    "read_events",
    "sum_seconds",
    "tabulate_samples",
]
