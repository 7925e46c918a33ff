"""Tell a person: one HTML page of an audit, a run, a ladder, a search, a curve or runs; a LaTeX article; pictures."""

from .article import write_article
from .looked import say_trust
from .overlays import Legend, draw_overlay
from .page import (
    write_audit_report,
    write_ladder_report,
    write_learn_report,
    write_report,
    write_runs_report,
    write_tune_report,
)
from .sheet import SheetRow, TileCard, draw_sheet

__all__ = [
    "Legend",
    "SheetRow",
    "TileCard",
    "draw_overlay",
    "draw_sheet",
    "say_trust",
    "write_article",
    "write_audit_report",
    "write_ladder_report",
    "write_learn_report",
    "write_report",
    "write_runs_report",
    "write_tune_report",
]
