"""Tell a person: one HTML page of a run, a ladder or many runs; a LaTeX article of each."""

from .article import write_article
from .page import write_ladder_report, write_report, write_runs_report

__all__ = ["write_article", "write_ladder_report", "write_report", "write_runs_report"]
