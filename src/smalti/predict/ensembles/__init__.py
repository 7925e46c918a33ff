"""Ensembles: scores of several runs on the same folds become one table."""

from . import greedy, weighing  # noqa: F401 - importing them registers the ensembles
from .combining import ENSEMBLES, PARTIAL, combine_members, mix_members
from .members import Combined, Member
from .stacking import make_design

__all__ = ["ENSEMBLES", "PARTIAL", "Combined", "Member", "combine_members", "make_design", "mix_members"]
