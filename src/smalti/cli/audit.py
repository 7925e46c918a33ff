"""audit: what would spoil training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import RUNS, Project
from . import console
from .console import (
    Data,
    Decisions,
    RecipeOption,
    Runs,
    Settings,
    Skip,
    app,
    finish,
    guard,
    listen,
    quote,
    repeat_settings,
    tell_unsubmitted,
)

if TYPE_CHECKING:
    from ..audit import Audit


@app.command(rich_help_panel=console.LOOK)
@guard
def audit(
    data: Data,
    recipe: RecipeOption = "auto",
    settings: Settings = None,
    runs: Runs = RUNS,
    decisions: Decisions = None,
    accept: Annotated[list[str] | None, typer.Option(help="accept the proposals of this finding, repeatable")] = None,
    run: Annotated[Path | None, typer.Option(help="finished run on this folder: its label suspects too")] = None,
    skip_problems: Skip = False,
) -> None:
    """Look for what would spoil training; nothing is deleted, decisions are a file."""
    from .. import workflow
    from ..recipe import load_recipe

    asked = load_recipe(
        recipe, settings=[*(settings or ()), *([f"audit.accept=[{','.join(accept)}]"] if accept else [])]
    )
    with listen() as listener:
        project = Project(data, runs, decisions, listener)
        where = workflow.find_decisions(project)
        project = replace(project, decisions=where)
        ground = workflow.inspect_ground(project, asked, run=run, problems="skip" if skip_problems else "report")
        page = workflow.report_audit(project, ground)
    _print_audit(ground.seen, title=f"{data}: {len(ground.cohort.samples)} images")
    codes = sorted({f.code for f in ground.seen.findings if f.proposal not in ("keep", "relabel")})
    if run is not None and any(f.proposal == "relabel" for f in ground.seen.findings):
        console.out.print(
            f"labels are changed by people alone: smalti review {quote(data)} --run {quote(run)}", soft_wrap=True
        )
    if standing := {image for problem in ground.standing for image in problem.images}:
        console.out.print(
            f"smalti run refuses this folder until {len(standing)} image(s) with problems are decided: repair the "
            "files, or exclude them with --accept integrity",
            soft_wrap=True,
        )
        codes, accept = (["integrity"] if accept else codes), None
    told = repeat_settings(recipe, settings)
    again = f"smalti audit {quote(data)}{told} " + " ".join(f"--accept {c}" for c in codes)
    state = "decisions are in" if where.is_file() else "no decisions yet; they will be kept in"
    tell_unsubmitted(ground.cohort)
    finish(
        f"{page} and findings.json beside it; {state} {where}",
        again if codes and not accept else f"smalti run {quote(data)}{told}",
    )


def _print_audit(seen: Audit, *, title: str) -> None:
    table = Table("check", "outcome", title=title)
    for code, outcome in seen.list_outcomes():
        table.add_row(escape(code), escape(str(outcome)))
    console.out.print(table)
    for finding in seen.findings[: console.SHOWN]:
        console.out.print(
            f"{escape(finding.code)}: {console.clean(finding.message)} [dim]proposal: {finding.proposal}[/]",
            soft_wrap=True,
        )
    if len(seen.findings) > console.SHOWN:
        console.out.print(
            f"and {len(seen.findings) - console.SHOWN} more; all {len(seen.findings)} are in findings.json"
        )
