"""Tell a person: one HTML page of an audit, a run, a ladder, a search, a curve or runs; a LaTeX article; pictures."""

from .article.write import write_article
from .external_page import say_external
from .figures.overlays import Legend, draw_overlay
from .figures.sheet import SheetRow, TileCard, draw_sheet
from .page import (
    write_audit_report,
    write_external_report,
    write_ladder_report,
    write_learn_report,
    write_report,
    write_runs_report,
    write_tune_report,
)
from .papers.card import write_card
from .papers.checklist import list_checklists, write_checklist
from .sections.looked import say_trust

__all__ = [
    "Legend", "SheetRow", "TileCard", "draw_overlay", "draw_sheet", "list_checklists", "say_external", "say_trust",
    "write_article", "write_audit_report", "write_card", "write_checklist", "write_external_report",
    "write_ladder_report", "write_learn_report", "write_report", "write_runs_report", "write_tune_report",
]  # fmt: skip
