"""The stages: demo, plan, run, train, predict, audit, review."""

from __future__ import annotations

import functools
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from ..workflow import RUNS
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

if TYPE_CHECKING:
    from ..audit import Audit


@app.command()
@guard
def demo(
    folder: Annotated[Path, typer.Argument(help="folder to draw into; must not exist")] = Path("demo-data"),
    seed: Annotated[int, typer.Option(help="another seed draws another cohort")] = 0,
) -> None:
    """Draw a cohort with known truth in the challenge layout."""
    from ..demo import draw_cohort

    with listen() as listener:
        path = draw_cohort(folder, seed=seed, progress=listener.follow("draw"))
    finish(f"a drawn cohort with planted problems is in {path}", f"smalti run {quote(path)} --recipe demo")


@app.command()
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
    _print_plan(content)
    told = repeat_settings(recipe, settings)
    finish("the plan above; nothing was trained", f"smalti run {quote(data)}{told}")


def _print_plan(content: dict[str, Any]) -> None:
    from .. import workflow

    table = Table("choice", "value", "why", "source", title="what was derived")
    for row in content["choices"]:
        table.add_row(*(escape(str(row[key])) for key in ("what", "value", "reason", "source")))
    console.out.print(table)
    table = Table("member", "seconds", "what it sees", "taken", title="members, from cheap to dear")
    for row in content["members"]:
        cost = f"{row['seconds']:.0f}" if "seconds" in row else "–"
        table.add_row(
            escape(row["name"]), cost, escape(row["about"]), "yes" if row["taken"] else f"no: {escape(row['reason'])}"
        )
    console.out.print(table)
    for line in workflow.describe_forecast(content):
        console.out.print(escape(line), soft_wrap=True)


@app.command()
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

    with listen() as listener:
        result = workflow.run(
            data, recipe, settings=add_minutes(settings, minutes), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    console.out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    made = [p for p in ("report.html", "submission.csv", "plan.yaml", "scores.json") if (result.path / p).is_file()]
    finish(f"{', '.join(made)} in {result.path}", f"open {quote(result.path / 'report.html')}")


@app.command()
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


@app.command()
@guard
def predict(run_path: RunPath) -> None:
    """Score the held-out and the unlabelled images of a trained run and write the submission."""
    from .. import workflow

    with listen() as listener:
        experiment = workflow.reopen(run_path, listener=listener)
        workflow.predict(experiment, listener=listener)
    finish(f"prediction tables in {run_path / 'predictions'}", f"smalti evaluate {quote(run_path)}")


@app.command()
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


@app.command()
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
    from ..logbook.seal import find_seal
    from ..recipe import load_recipe

    plan = load_recipe(
        recipe, settings=[*(settings or ()), *([f"audit.accept=[{','.join(accept)}]"] if accept else [])]
    )
    with listen() as listener:
        where = decisions or workflow.find_decisions(data, runs=runs, listener=listener)
        ground = workflow.inspect_ground(
            data, recipe=plan, decisions_path=where, seal_path=find_seal(data, runs=runs), run=run,
            cache=runs / "cache", problems="skip" if skip_problems else "report", listener=listener,
        )  # fmt: skip
        page = workflow.report_audit(ground, runs=runs)
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
    for code, outcome in seen.outcomes.items():
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


@app.command()
@guard
def review(
    data: Data,
    recipe: RecipeOption = "auto",
    settings: Settings = None,
    runs: Runs = RUNS,
    decisions: Decisions = None,
    skip_problems: Skip = False,
    run: Annotated[Path | None, typer.Option(help="run folder: its losses, scores, folds and heat maps too")] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port on this computer; 0 takes the last, or a free one")
    ] = 0,
    who: Annotated[str | None, typer.Option(help="who decides, for decisions.csv [default: your user name]")] = None,
) -> None:
    """Look at images and findings on a local page, and decide with one key each."""
    from .. import workflow
    from ..logbook.seal import find_seal
    from ..recipe import load_recipe
    from ..review import Desk, read_insight, serve

    with listen() as listener:
        where = decisions or workflow.find_decisions(data, runs=runs, listener=listener)
        ground = workflow.inspect_ground(
            data, recipe=load_recipe(recipe, settings=settings or ()), decisions_path=where,
            seal_path=find_seal(data, runs=runs), cache=runs / "cache",
            problems="skip" if skip_problems else "report", listener=listener,
        )  # fmt: skip
    insight = read_insight(run, images=[s.image for s in ground.whole.samples]) if run else None
    desk = Desk(
        ground.whole, ground.seen, decisions_path=where, who=who or getpass.getuser(), insight=insight,
        contents=ground.contents, bound=ground.bound,
    )  # fmt: skip
    address_path = where.with_name(f".{where.name}.address")
    say = functools.partial(console.out.print, soft_wrap=True)
    serve(desk, address_path=address_path, port=port, say=lambda url: say(f"open {url}\nCtrl-C ends it"))
    tell_unsubmitted(ground.cohort)
    then = f"smalti run {quote(data)}{repeat_settings(recipe, settings)}"
    finish(f"{len(desk.decided())} decided images in {where}", then)
