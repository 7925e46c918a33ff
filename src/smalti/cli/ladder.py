"""ladder: change one thing at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import HERE, RUNS
from . import console
from .console import (
    Data,
    On,
    Runs,
    Settings,
    Skip,
    app,
    finish,
    guard,
    listen,
    quote,
)

if TYPE_CHECKING:
    from ..records.studies.ladder import LadderResult


@app.command(rich_help_panel=console.JUDGE)
@guard
def ladder(
    data: Data,
    ladder: Annotated[str, typer.Option(help="name of a built-in ladder, or a ladder file")] = "challenge",
    settings: Settings = None,
    runs: Runs = RUNS,
    until: Annotated[str | None, typer.Option(help="last rung to carry out")] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="minutes for this call; rungs that do not fit into what is left are skipped"),
    ] = None,
    skip_problems: Skip = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="try rungs again that were given up because the process was killed")
    ] = False,
    on: On = HERE,
) -> None:
    """Change one thing at a time, on the same folds, and say what helped."""
    from ..ladder import describe_ladder, run_ladder
    from ..records.layout import ARTICLE_ZIP, LADDER, REPORT

    with listen() as listener:
        folder, result = run_ladder(
            data,
            ladder,
            settings=settings or (),
            runs=runs,
            until=until,
            budget_min=budget,
            skip_problems=skip_problems,
            retry=retry,
            on=on,
            listener=listener,
        )
    console.out.print(_tabulate_ladder(result))
    for line in describe_ladder(result):
        console.out.print(escape(line), soft_wrap=True)
    lost = {s: [row for row in result.rungs if row.status == s] for s in ("failed", "skipped")}
    if lost["skipped"]:
        names = ", ".join(row.name for row in lost["skipped"])
        console.err.print(f"[bold yellow]skipped:[/] {names}; the report says why", soft_wrap=True)
    for row in (row for row in result.rungs if row.status == "not applicable"):
        console.err.print(f"[dim]{row.name}:[/] {escape(str(row.error))}", soft_wrap=True)
    for row in lost["failed"]:
        console.err.print(f"[bold red]failed:[/] {row.name}: {escape(str(row.error))}", soft_wrap=True)
    finish(f"{REPORT}, {ARTICLE_ZIP} and {LADDER} in {folder}", f"open {quote(folder / REPORT)}")
    if lost["failed"]:
        raise typer.Exit(1)


def _tabulate_ladder(result: LadderResult) -> Table:
    table = Table("rung", "macro-F1", "against the rung it changes", "verdict", "cost", show_lines=True)
    for row in result.rungs:
        name = f"[bold]{escape(row.name)}[/]\n[dim]{escape(row.change)}[/]"
        score = (
            console.score_cell(row)
            if row.metrics
            else f"[{'dim' if row.status == 'not applicable' else 'red'}]{row.status}[/]"
        )
        cost = [
            f"{value:.1f} {unit}"
            for value, unit in ((row.seconds, "s"), (row.peak_memory_gb, "GB"))
            if value is not None
        ]
        table.add_row(name, score, *console.difference_cells(row.gap), "\n".join(cost))
    return table
