"""Tell a person: one HTML page of an audit, a run, a ladder or many runs; a LaTeX article of runs."""

from .article import write_article
from .page import write_audit_report, write_ladder_report, write_report, write_runs_report

__all__ = ["write_article", "write_audit_report", "write_ladder_report", "write_report", "write_runs_report"]
