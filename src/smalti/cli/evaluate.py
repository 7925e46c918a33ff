"""evaluate: score predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import RecipeError
from . import console
from .console import (
    UnitOption,
    app,
    finish,
    guard,
    quote,
)


@app.command(rich_help_panel=console.JUDGE)
@guard
def evaluate(
    source: Annotated[Path, typer.Argument(help="run folder, or a prediction table (CSV) that any tool made")],
    unit: UnitOption = None,
) -> None:
    """Score predictions: interval, chance level, per-class results."""
    from .. import workflow
    from ..records.layout import SCORES
    from ..records.studies.sites import SitesRecord

    if source.is_dir() and unit is not None:
        raise RecipeError(
            "--unit is for tables: a run counts what its recipe says, and has the other unit's scores beside it",
            fix=f"leave --unit out, or run it again with --set evaluate.unit={unit}",
        )
    result = workflow.evaluate_run(source) if source.is_dir() else workflow.evaluate_table(source, unit=unit)
    table = Table("metric", "value", "interval", "chance (prior)", "majority class")
    for name, m in result.scores.metrics.items():
        cells = [console.say_number(x) for x in (m.value, m.low, m.high, m.chance_prior, m.chance_majority)]
        doubt = "" if m.trustworthy else " ?"
        table.add_row(name, cells[0], f"{cells[1]} to {cells[2]}{doubt}", cells[3], cells[4])
    console.out.print(table)
    console.out.print(f"Scored by {result.scores.unit}: {escape(result.scores.unit_reason)}.", soft_wrap=True)
    for reason in dict.fromkeys(m.reason for m in result.scores.metrics.values() if not m.trustworthy):
        console.out.print(f"[dim]? not to be trusted: {escape(reason)}[/]", soft_wrap=True)
    console.out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    console.out.print(f"The intervals cover {escape(result.scores.interval.covers)}.", soft_wrap=True)
    if source.is_dir():
        sites = SitesRecord.find(source)
        if sites is not None:
            console.out.print(f"Sites: {escape(sites.sentence)}", soft_wrap=True)
        finish(str(source / SCORES), f"smalti report {quote(source)}")
    else:
        finish(f"the scores above, of {source}", "smalti run DATA, for a run of your own to set beside it")
