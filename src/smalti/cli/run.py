"""plan, run, train, predict, explain: the stages of a run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import RUNS
from . import console
from .console import (
    Data,
    Decisions,
    Minutes,
    Name,
    RecipeOption,
    RunPath,
    Runs,
    Settings,
    Skip,
    add_minutes,
    app,
    finish,
    guard,
    listen,
    quote,
    repeat_settings,
    tell_unsubmitted,
)


@app.command(rich_help_panel=console.DO)
@guard
def plan(
    data: Data,
    recipe: RecipeOption = "auto",
    settings: Settings = None,
    minutes: Minutes = None,
    runs: Runs = RUNS,
    skip_problems: Skip = False,
) -> None:
    """Read and audit a folder, and say what a run would do, why, how long it takes and what so many cases can show."""
    from .. import workflow

    settings = add_minutes(settings, minutes)
    with listen() as listener:
        content = workflow.plan_data(
            data, recipe, settings=settings, runs=runs, skip_problems=skip_problems, listener=listener
        )
    table = Table("choice", "value", "why", "source", title="what was derived")
    for choice in content.choices:
        table.add_row(choice.what, *(escape(str(x)) for x in (choice.value, choice.reason, choice.source)))
    console.out.print(table)
    table = Table("member", "seconds", "what it sees", "taken", title="members, from cheap to dear")
    for member in content.members:
        cost = "–" if member.seconds is None else f"{member.seconds:.0f}"
        taken = "yes" if member.taken else f"no: {escape(member.reason or '')}"
        table.add_row(escape(member.name), cost, escape(member.about), taken)
    console.out.print(table)
    for line in workflow.describe_forecast(content):
        console.out.print(escape(line), soft_wrap=True)
    told = repeat_settings(recipe, settings)
    finish("the plan above; nothing was trained", f"smalti run {quote(data)}{told}")


@app.command(rich_help_panel=console.DO)
@guard
def run(
    data: Data,
    recipe: RecipeOption = "auto",
    settings: Settings = None,
    minutes: Minutes = None,
    runs: Runs = RUNS,
    name: Name = None,
    decisions: Decisions = None,
    skip_problems: Skip = False,
) -> None:
    """Do the whole way: audit, decisions, plan, tiles, training, predictions, evaluation, report."""
    from .. import workflow
    from ..records.layout import PLAN, REPORT, SCORES, SUBMISSION

    with listen() as listener:
        result = workflow.run(
            data, recipe, settings=add_minutes(settings, minutes), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    console.out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    made = [p for p in (REPORT, SUBMISSION, PLAN, SCORES) if (result.path / p).is_file()]
    finish(f"{', '.join(made)} in {result.path}", f"open {quote(result.path / REPORT)}")


@app.command(rich_help_panel=console.DO)
@guard
def train(
    data: Data,
    recipe: RecipeOption = "default",
    settings: Settings = None,
    runs: Runs = RUNS,
    name: Name = None,
    decisions: Decisions = None,
    skip_problems: Skip = False,
) -> None:
    """Train the folds only; an interrupted training goes on where it was."""
    from .. import workflow

    with listen() as listener:
        experiment = workflow.train_run(
            data, recipe, settings=settings or (), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    path = experiment.run.path
    tell_unsubmitted(experiment.cohort)
    finish(f"{len(experiment.splits)} checkpoints in {path / 'checkpoints'}", f"smalti predict {quote(path)}")


@app.command(rich_help_panel=console.DO)
@guard
def predict(run_path: RunPath) -> None:
    """Score the held-out and the unlabelled images of a trained run and write the submission."""
    from .. import workflow

    with listen() as listener:
        experiment = workflow.reopen(run_path, listener=listener)
        workflow.predict(experiment, listener=listener)
    finish(f"prediction tables in {run_path / 'predictions'}", f"smalti evaluate {quote(run_path)}")


@app.command(rich_help_panel=console.DO)
@guard
def explain(
    run_path: RunPath,
    images: Annotated[
        str | None, typer.Option(help="how many, or their names with commas between [default: all]")
    ] = None,
    shown: Annotated[str | None, typer.Option("--class", help="the class to explain [default: the predicted]")] = None,
) -> None:
    """Show where the networks of a finished run looked, and measure whether the maps can be trusted."""
    from .. import workflow

    names = [name.strip() for name in images.split(",") if name.strip()] if images is not None else None
    wanted = int(images) if images and images.isdecimal() else names
    with listen() as listener:
        path = workflow.explain_run(run_path, images=wanted, shown=shown, listener=listener)
    console.out.print(f"[bold]{escape(workflow.describe_explanation(path))}[/]", soft_wrap=True)
    finish(
        f"{path.name} in {run_path}; overlays and files for QuPath in {run_path / 'heatmaps'}",
        f"smalti report {quote(run_path)}",
    )
