"""report: pages and articles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..project import RUNS
from . import console
from .console import (
    Runs,
    app,
    finish,
    guard,
    listen,
    quote,
)


@app.command(rich_help_panel=console.JUDGE)
@guard
def report(
    sources: Annotated[
        list[str] | None, typer.Argument(help="a run, a ladder, or several runs (default: all runs)")
    ] = None,
    runs: Runs = RUNS,
    to: Annotated[
        Path | None, typer.Option(help="folder of a report about several runs (default: RUNS/report)")
    ] = None,
    checklist: Annotated[
        str | None,
        typer.Option(help="of one run: answer the items of tripod-ai, claim or stard-ai too, as a page and LaTeX"),
    ] = None,
) -> None:
    """Write the report page, and a LaTeX article ready to upload."""
    from .. import workflow
    from ..records.layout import ARTICLE_ZIP, REPORT

    with listen() as listener:
        path = workflow.report_on(sources or (), runs=runs, to=to, checklist=checklist, listener=listener)
    if checklist is not None:
        finish(f"{path.name}, {path.with_suffix('.tex').name} and {REPORT} in {path.parent}", f"open {quote(path)}")
        return
    finish(f"{REPORT} and {ARTICLE_ZIP} in {path.parent}", f"open {quote(path)}")
