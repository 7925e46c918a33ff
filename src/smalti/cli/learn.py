"""Would more cases help: learn."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import RUNS
from . import console
from .console import Data, Runs, Settings, Skip, app, finish, guard, listen, quote, repeat_settings


@app.command(rich_help_panel=console.JUDGE)
@guard
def learn(
    data: Data,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="preset or file with a solved head (default: quick, model.head=logistic)"),
    ] = None,
    settings: Settings = None,
    orders: Annotated[int, typer.Option(min=2, help="of the cases; together they show the luck of the draw")] = 5,
    margin: Annotated[float, typer.Option(help="a gain that is surely less is practically none")] = 0.02,
    runs: Runs = RUNS,
    skip_problems: Skip = False,
) -> None:
    """Score against the number of cases: would more cases help, or seeds, or a better backbone?"""
    from ..learn import describe_curve, learn_curve
    from ..records.layout import LEARN, LEARN_TABLE, REPORT

    with listen() as listener:
        folder, result = learn_curve(
            data, recipe, settings=settings or (), orders=orders, margin=margin, runs=runs,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    table = Table("training cases", "macro-F1", "interval", "macro-F1 of training images")
    for point in result.points:
        doubt = "" if point.trustworthy else " ?"
        interval = f"{point.low:.3f} to {point.high:.3f}{doubt}"
        table.add_row(f"{point.cases:.0f}", f"{point.value:.3f}", interval, f"{point.taught:.3f}")
    for ahead in result.growth:
        interval = f"{ahead.low:.3f} to {ahead.high:.3f}"
        name = f"{ahead.times * result.points[-1].cases:.0f}, extrapolated"
        table.add_row(f"[dim]{name}[/]", f"{ahead.value:.3f}", interval, "")
    console.out.print(table)
    for line in describe_curve(result):
        console.out.print(escape(line), soft_wrap=True)
    then = f"smalti run {quote(data)}{repeat_settings(result.preset if recipe is None else recipe, settings)}"
    if recipe is None:
        then += f" --set model.head={result.head}" if "model.head" not in then else ""
    if any(answer.what == "a better backbone" and answer.word == "yes" for answer in result.answers):
        then = f"smalti learn {quote(data)} --set model.backbone=NAME, for the curve of another one (smalti parts)"
    finish(f"{REPORT}, {LEARN} and {LEARN_TABLE} in {folder}", then)
