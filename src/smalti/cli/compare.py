"""compare: is one better than the other?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import RUNS
from . import console
from .console import (
    Runs,
    UnitOption,
    app,
    finish,
    guard,
)

if TYPE_CHECKING:
    from ..records.studies.comparison import Comparison


@app.command(rich_help_panel=console.JUDGE)
@guard
def compare(
    sources: Annotated[
        list[str], typer.Argument(help="runs, 'best', or prediction tables (CSV); the first is compared with")
    ],
    runs: Runs = RUNS,
    common: Annotated[bool, typer.Option("--common", help="compare on the images that all have")] = False,
    unit: UnitOption = None,
    without_luck: Annotated[
        bool,
        typer.Option("--without-luck", help="give a verdict also where the luck of trainings cannot be measured"),
    ] = False,
    margin: Annotated[
        float, typer.Option(help="runs are practically equal where the whole interval is within it; 0 does not ask")
    ] = 0.02,
    open_seal: Annotated[
        bool, typer.Option("--open-seal", help="score on the sealed cases: once, and on record")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="folder for comparison.json")] = None,
) -> None:
    """Is one better than the other, on the same cases, beyond luck?"""
    from .. import workflow

    if open_seal:
        seal, result = workflow.open_seal(sources, runs=runs, margin=margin)
        if len(seal.openings) > 1:
            console.err.print(
                f"[bold yellow]warning:[/] the seal has been opened {len(seal.openings)} times; what was chosen after "
                "the first time is no longer scored by cases that nobody looked at", soft_wrap=True,
            )  # fmt: skip
    else:
        result = workflow.compare_sources(
            sources, runs=runs, common=common, unit=unit, without_luck=without_luck, margin=margin, out=to
        )
    table = Table("run", "macro-F1", f"against {escape(result.names[0])}", "verdict", show_lines=True)
    for row in result.rows:
        table.add_row(escape(row.name), console.score_cell(row), *console.difference_cells(row.gap))
    console.out.print(table)
    for line in _describe_comparison(result):
        console.out.print(escape(line), soft_wrap=True)
    where = "the table above" if to is None else str(result.locate(to))
    what = "on the sealed cases; recorded in the logbook" if open_seal else "from out-of-fold predictions"
    finish(f"{where}, {what}", "smalti logbook")


def _describe_comparison(result: Comparison) -> list[str]:
    size = f"by {result.unit} ({result.unit_reason}); {result.n_images} images, {result.n_cases} cases"
    lines = [f"{size}; {result.confidence:.0%} intervals, paired by case"]
    if not result.trustworthy:
        lines.append(f"not to be trusted: {result.reason}")
    if result.margin > 0:
        lines.append(f"practically equal would be: the whole interval within {result.margin:g} of zero (--margin)")
    lines += dict.fromkeys(f"no verdict: {row.gap.why}" for row in result.rows if row.gap and row.gap.why)
    return [*lines, *result.notes]
