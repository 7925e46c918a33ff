"""How good, and better than what: evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from . import console
from .console import (
    RunPath,
    app,
    finish,
    guard,
    quote,
)


@app.command()
@guard
def evaluate(
    source: Annotated[Path, typer.Argument(help="run folder, or a prediction table (CSV) that any tool made")],
) -> None:
    """Score predictions: interval, chance level, per-class results."""
    from .. import workflow

    result = workflow.evaluate_run(source) if source.is_dir() else workflow.evaluate_table(source)
    console.out.print(_tabulate_scores(result.scores))
    console.out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    if source.is_dir():
        finish(f"{source / 'scores.json'}", f"smalti report {quote(source)}")
    else:
        finish(f"the scores above, of {source}", "smalti run DATA, for a run of your own to set beside it")


@app.command()
@guard
def report(run_path: RunPath) -> None:
    """Write the report page of a run."""
    from .. import workflow

    path = workflow.report_run(run_path)
    finish(f"{path}", f"open {quote(path)}")


def _tabulate_scores(scores: dict[str, Any]) -> Table:
    table = Table("metric", "value", "interval", "chance (prior)", "majority class")
    for name, m in scores["metrics"].items():
        cells = [_number(m[k]) for k in ("value", "low", "high", "chance_prior", "chance_majority")]
        table.add_row(name, cells[0], f"{cells[1]} to {cells[2]}", cells[3], cells[4])
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
