"""What stages hand over: every file of a run folder has one owner here, which names, writes and reads it."""

from . import layout
from .cohorts import Asked, CohortRecord, LeftOut, hash_cohort, identify_mask, tabulate_samples
from .environment import LIBRARIES, Environment, look_at_machine
from .events import Event, find_last_stage, log_event, log_stage, read_events, sum_seconds
from .explained import ExplanationRecord, LookedAt, MapMeasures, MapNumbers, Mean, RemovalCurves
from .images import Dynamics, Embeddings, FeatureView, Stains, Trace, Traces, join_dynamics
from .influenced import Effects, Influence, Influenced, Source
from .judged.operating import CurvePoint, Operating, OperatingPoint
from .judged.pretrained import PretrainedEpoch, PretrainedFold, PretrainingRecord
from .judged.verdicts import GateRecord, GateVerdict
from .outgoing.answered import Answered, AnswersRecord, append_answers, read_answered
from .outgoing.carried import UnitInputs, UnitSplit
from .outgoing.encoded import EncodedRow, EncodingRecord, PlacesRecord, SlideRecord, TilePlaces, write_encoded
from .outgoing.model import BackboneRecord, GivenRecord, ModelMember, ModelRecord, NetworkRecord
from .outgoing.taught_features import FeatureFacts, FeaturePopulation
from .outgoing.trained_on import Doubt, PopulationFacts, Range, Rarity, TrainingPopulation, Usually
from .portfolio import (
    Cost,
    Done,
    Expectation,
    MemberRow,
    Plan,
    PlanChoice,
    PlanData,
    PlannedMember,
    UsedTime,
    write_members,
)
from .predictions import Ensemble, FoldBlend, FoldRule, Rules
from .record import Number, Part, Record
from .run_folder import FEW_CASES, RunFolder, open_run
from .scored import (
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
from .studies.outcomes import UnitRow, log_outcome, read_outcomes

__all__ = [
    "FEW_CASES", "HEADLINE", "LIBRARIES", "OTHER", "Answered", "AnswersRecord", "AsGiven", "Asked", "BackboneRecord",
    "Bin", "ClassScore", "CohortRecord", "Cost", "Cover", "CurvePoint", "Done", "Doubt", "Dynamics", "Effects",
    "Embeddings", "EncodedRow", "EncodingRecord", "Ensemble", "Environment", "Event", "Expectation",
    "ExplanationRecord", "FeatureFacts", "FeaturePopulation", "FeatureView", "FoldBlend", "FoldRule", "GateRecord",
    "GateVerdict", "GivenRecord", "Influence", "Influenced", "Interval", "LeftOut", "LookedAt", "MapMeasures",
    "MapNumbers", "Margin", "Mean", "MemberRow", "ModelMember", "ModelRecord", "NetworkRecord", "Number", "Operating",
    "OperatingPoint", "Part", "PlacesRecord", "Plan", "PlanChoice", "PlanData", "PlannedMember", "PopulationFacts",
    "PretrainedEpoch", "PretrainedFold", "PretrainingRecord", "Range", "Rarity", "Record", "Reliability",
    "RemovalCurves", "Rules", "RunFolder", "Score", "Scores", "Scoring", "SlideRecord", "Source", "Stains",
    "TilePlaces", "Trace", "Traces", "TrainingPopulation", "Unit", "UnitInputs", "UnitRow", "UnitScores", "UnitSplit",
    "UsedTime", "Usually", "append_answers", "find_last_stage", "hash_cohort", "identify_mask", "join_dynamics",
    "layout", "log_event", "log_outcome", "log_stage", "look_at_machine", "open_run", "read_answered", "read_events",
    "read_outcomes", "sum_seconds", "tabulate_samples", "write_encoded", "write_members",
]  # fmt: skip
