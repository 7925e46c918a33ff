"""The command line: parses, calls one function, says where the result is and what to run next."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from .errors import DataError, Problem, SmaltiError
from .workflow import RUNS, Listener

app = typer.Typer(
    help="From a folder of tissue images, masks and labels to an honest classifier, a submission and a report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Data = Annotated[Path, typer.Argument(help="data folder; it is never changed")]
RunPath = Annotated[Path, typer.Argument(help="run folder")]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="preset name or recipe file")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.knob=value, repeatable")]
Runs = Annotated[Path, typer.Option(help="folder of all runs, their cache and the decisions")]
Name = Annotated[str | None, typer.Option(help="name of the run folder")]
Decisions = Annotated[Path | None, typer.Option(help="decisions file [default: RUNS/<data folder>.decisions.csv]")]
Skip = Annotated[bool, typer.Option("--skip-problems", help="leave out images with problems and record it")]


def _guard(command: Callable[..., None]) -> Callable[..., None]:
    """Turn smalti's own errors into a message and exit code 2; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except DataError as error:
            _show_problems(error)
            raise typer.Exit(2) from None
        except SmaltiError as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from None

    return guarded


@contextmanager
def _listen() -> Iterator[Listener]:
    """A listener that prints lines, and draws a bar for each stage where somebody looks at a terminal."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            for old in tasks.values():
                progress.remove_task(old)
            tasks.clear()
            tasks[stage] = progress.add_task(stage, total=total)
        progress.update(tasks[stage], completed=done, total=total)

    with progress:
        yield Listener(say=lambda text: err.print(f"[dim]·[/] {escape(text)}", soft_wrap=True), tell=tell)


@app.command()
@_guard
def demo(
    folder: Annotated[Path, typer.Argument(help="folder to draw into; must not exist")] = Path("demo-data"),
    seed: Annotated[int, typer.Option(help="another seed draws another cohort")] = 0,
) -> None:
    """Draw a cohort with known truth in the challenge layout."""
    from .demo import draw_cohort

    with _listen() as listener:
        path = draw_cohort(folder, seed=seed, progress=listener.follow("draw"))
    _finish(f"a drawn cohort with planted problems is in {path}", f"smalti run {_quote(path)} --recipe demo")


@app.command()
@_guard
def run(
    data: Data,
    recipe: RecipeOption = "default",
    settings: Settings = None,
    runs: Runs = RUNS,
    name: Name = None,
    decisions: Decisions = None,
    skip_problems: Skip = False,
) -> None:
    """Do the whole way: audit, decisions, tiles, training, predictions, evaluation, report."""
    from . import workflow

    with _listen() as listener:
        result = workflow.run(
            data, recipe, settings=settings or (), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    made = [p for p in ("report.html", "submission.csv", "scores.json") if (result.path / p).is_file()]
    _finish(f"{', '.join(made)} in {result.path}", f"open {_quote(result.path / 'report.html')}")


@app.command()
@_guard
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
    from . import workflow

    with _listen() as listener:
        experiment, splits = workflow.train_run(
            data, recipe, settings=settings or (), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, listener=listener,
        )  # fmt: skip
    path = experiment.run.path
    _finish(f"{len(splits)} checkpoints in {path / 'checkpoints'}", f"smalti predict {_quote(path)}")


@app.command()
@_guard
def predict(run_path: RunPath) -> None:
    """Score the held-out and the unlabelled images of a trained run and write the submission."""
    from . import workflow

    with _listen() as listener:
        experiment, splits = workflow.reopen(run_path, listener=listener)
        workflow.predict(experiment, splits, listener=listener)
    _finish(f"prediction tables in {run_path / 'predictions'}", f"smalti evaluate {_quote(run_path)}")


@app.command()
@_guard
def evaluate(
    source: Annotated[Path, typer.Argument(help="run folder, or a prediction table (CSV) that any tool made")],
) -> None:
    """Score predictions: interval, chance level, per-class results."""
    from . import workflow

    result = workflow.evaluate_run(source) if source.is_dir() else workflow.evaluate_table(source)
    out.print(_tabulate_scores(result.scores))
    out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    if source.is_dir():
        _finish(f"{source / 'scores.json'}", f"smalti report {_quote(source)}")
    else:
        _finish(f"the scores above, of {source}", "smalti run DATA, for a run of your own to set beside it")


@app.command()
@_guard
def report(run_path: RunPath) -> None:
    """Write the report page of a run."""
    from . import workflow

    path = workflow.report_run(run_path)
    _finish(f"{path}", f"open {_quote(path)}")


@app.command()
@_guard
def audit(
    data: Data,
    recipe: RecipeOption = "default",
    settings: Settings = None,
    runs: Runs = RUNS,
    decisions: Decisions = None,
    accept: Annotated[list[str] | None, typer.Option(help="accept the proposals of this finding, repeatable")] = None,
    skip_problems: Skip = False,
) -> None:
    """Look for what would spoil training; nothing is deleted, decisions are a file."""
    from . import workflow
    from .recipe import load_recipe

    plan = load_recipe(
        recipe, settings=[*(settings or ()), *([f"audit.accept=[{','.join(accept)}]"] if accept else [])]
    )
    where = decisions or workflow.find_decisions(data, runs=runs)
    with _listen() as listener:
        ground = workflow.inspect_ground(
            data, recipe=plan, decisions_path=where, skip_problems=skip_problems, listener=listener
        )
    table = Table("check", "outcome", title=f"{data}: {len(ground.cohort.samples)} images")
    for code, outcome in ground.seen.outcomes.items():
        table.add_row(escape(code), escape(str(outcome)))
    out.print(table)
    for finding in ground.seen.findings:
        out.print(
            f"{escape(finding.code)}: {escape(finding.message)} [dim]proposal: {finding.proposal}[/]", soft_wrap=True
        )
    codes = sorted({f.code for f in ground.seen.findings if f.proposal != "keep"})
    again = f"smalti audit {_quote(data)} " + " ".join(f"--accept {c}" for c in codes)
    state = "decisions are in" if where.is_file() else "no decisions yet; they will be kept in"
    _finish(f"{state} {where}", again if codes and not accept else f"smalti run {_quote(data)}")


@app.command()
@_guard
def parts(
    knobs: Annotated[bool, typer.Option("--knobs", help="list every knob of a recipe instead")] = False,
) -> None:
    """List the exchangeable parts that recipes can name."""
    from .doctor import list_parts
    from .recipe import list_knobs

    if knobs:
        table = Table("knob", "what it does")
        for name, description in list_knobs().items():
            table.add_row(name, escape(description))
    else:
        table = Table("kind", "name", "what it is", "reference")
        for kind, entry in list_parts():
            table.add_row(kind, entry.name, escape(entry.summary), escape(entry.reference))
    out.print(table)
    then = "smalti run DATA --set SECTION.KNOB=VALUE" if knobs else "smalti parts --knobs"
    _finish(f"{table.row_count} {'knobs' if knobs else 'rows'} above", then)


@app.command()
@_guard
def doctor(runs: Runs = RUNS, recipe: RecipeOption = "default", settings: Settings = None) -> None:
    """Say what this machine will do, why, and how to fix what is missing."""
    from .doctor import examine_machine
    from .recipe import load_recipe

    table = Table("what", "", "found", "fix")
    colours = {"good": "green", "note": "yellow", "bad": "red"}
    signs = examine_machine(load_recipe(recipe, settings=settings or ()), folder=runs)
    for sign in signs:
        state = f"[{colours[sign.state]}]{sign.state}[/]"
        table.add_row(sign.name, state, escape(sign.found), escape(sign.fix))
    out.print(table)
    if any(sign.state == "bad" for sign in signs):
        raise typer.Exit(1)
    _finish("this machine can run smalti", "smalti demo && smalti run demo-data --recipe demo")


def _tabulate_scores(scores: dict[str, Any]) -> Table:
    table = Table("metric", "value", "interval", "chance (prior)", "majority class")
    for name, m in scores["metrics"].items():
        cells = [_number(m[k]) for k in ("value", "low", "high", "chance_prior", "chance_majority")]
        table.add_row(name, cells[0], f"{cells[1]} to {cells[2]}", cells[3], cells[4])
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _finish(where: str, then: str) -> None:
    out.print(f"result: {escape(where)}", soft_wrap=True)
    out.print(f"next:   {escape(then)}", soft_wrap=True)


def _quote(path: Path) -> str:
    return shlex.quote(str(path))


def _show_problems(error: DataError) -> None:
    """One table of everything that is wrong, and last the one command that goes on without the images concerned."""
    err.print(f"[bold red]error:[/] {escape(error.headline)}", soft_wrap=True)
    if not error.problems:
        return
    table = Table("file", "what is wrong", "fix", show_lines=False)
    for problem in error.problems:
        colour = "yellow" if problem.warning else "red"
        table.add_row(f"[{colour}]{escape(problem.file)}[/]", escape(problem.message), escape(problem.fix))
    err.print(table)
    if (hint := _suggest_skip(error.problems)) is not None:
        err.print(hint, soft_wrap=True)


def _suggest_skip(problems: tuple[Problem, ...]) -> str | None:
    severe = [p for p in problems if not p.warning]
    if not severe or not all(p.images for p in severe):
        return None
    count = len({image for p in severe for image in p.images})
    command = " ".join(shlex.quote(word) for word in ["smalti", *sys.argv[1:], "--skip-problems"])
    return f"To go on without the {count} image(s) concerned, recorded in decisions.csv:\n  {escape(command)}"
