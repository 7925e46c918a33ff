"""Share between all commands: the two streams, options, progress bars, errors as messages, the two last lines."""

from __future__ import annotations

import functools
import importlib.metadata
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..engine.places import PLACES, parse_place
from ..errors import DataError, Problem, SmaltiError, show_text
from ..faults import explained
from ..stopping import say_stopped

# Commands import what they need when they run, so that --help is fast.
if TYPE_CHECKING:
    from ..records.scored import Interval
    from ..records.studies.comparison import ComparedRun, Difference
    from ..records.studies.ladder import Rung
    from ..types import Cohort
    from ..workflow import Listener

SHOWN = 50  # problems and findings that are printed; a page of a terminal, and the rest is in a file

app = typer.Typer(
    help="From a folder of tissue images, masks and labels to an honest classifier, a submission and a report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
LOOK, DO, JUDGE = "Look", "Do", "Judge"  # groups of commands in --help
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"smalti {importlib.metadata.version('smalti')}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="show the version and exit", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """From a folder of tissue images, masks and labels to an honest classifier, a submission and a report."""


def _refuse_ring(path: Path) -> Path:
    try:
        path.resolve()
    except (OSError, RuntimeError):  # Python before 3.13 raises RuntimeError
        raise typer.BadParameter(f"{path} is a link in a ring of links. Fix: give the folder itself") from None
    return path


Data = Annotated[Path, typer.Argument(help="data folder; it is never changed", callback=_refuse_ring)]
RunPath = Annotated[Path, typer.Argument(help="run folder")]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="preset name or recipe file")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.knob=value, repeatable")]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.0, help="time for all members of a portfolio; 0 is no limit (default: portfolio.minutes, 20)"),
]


def _refuse_place(on: str) -> str:
    try:
        parse_place(on)
    except SmaltiError as error:
        raise typer.BadParameter(str(error)) from None
    return on


On = Annotated[
    str,
    typer.Option("--on", help=f"where units of work run: {PLACES}", callback=_refuse_place, show_default=True),
]
Runs = Annotated[Path, typer.Option(help="folder of all runs, their cache and the decisions")]
Name = Annotated[str | None, typer.Option(help="name of the run folder")]
Decisions = Annotated[Path | None, typer.Option(help="decisions file (default: RUNS/<data folder>.decisions.csv)")]
Skip = Annotated[bool, typer.Option("--skip-problems", help="leave out images with problems and record it")]
UnitOption = Annotated[
    Literal["image", "case"] | None,
    typer.Option(help="what is counted: image, or case (mean of its images) (default: what the runs or the table say)"),
]


def guard(command: Callable[..., None]) -> Callable[..., None]:
    """Turn smalti's own errors and errors of the machine into a message and exit code 2.

    Ctrl-C and SIGTERM end with their usual codes. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with explained():
                command(*args, **kwargs)
        except DataError as error:
            data, runs = kwargs.get("data"), kwargs.get("runs") or Path(tempfile.gettempdir())
            _show_problems(error, kept=runs / f"{data.resolve().name if data else 'smalti'}.problems.csv")
            raise typer.Exit(2) from None
        except SmaltiError as error:
            err.print(f"[bold red]error:[/] {clean(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            raise typer.Exit(say_stopped(error)) from None

    return guarded


@contextmanager
def listen() -> Iterator[Listener]:
    """Yield a listener that prints lines, and draws a bar for each stage on a terminal."""
    from ..workflow import Listener

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
        yield Listener(say=lambda text: err.print(f"[dim]·[/] {clean(text)}", soft_wrap=True), tell=tell)


def clean(text: str) -> str:
    """Return a text that is safe on a terminal: no markup, no control characters, nothing that cannot be printed."""
    return escape("\n".join(map(show_text, text.split("\n"))))


def finish(where: str, then: str) -> None:
    out.print(f"result: {clean(where)}", soft_wrap=True)
    out.print(f"next:   {clean(then)}", soft_wrap=True)


def quote(path: Path) -> str:
    return shlex.quote(str(path))


def add_minutes(settings: Sequence[str] | None, minutes: float | None) -> list[str]:
    return [*(settings or ()), *([] if minutes is None else [f"portfolio.minutes={minutes:g}"])]


def repeat_settings(recipe: str, settings: Sequence[str] | None) -> str:
    """Return the options of this command that the proposed one needs too."""
    words = [] if recipe == "auto" else ["--recipe", recipe]
    words += [word for setting in settings or () for word in ("--set", setting)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def tell_unsubmitted(cohort: Cohort) -> None:
    """Say why there will be no submission, before a command is proposed that would end without one."""
    if cohort.form is None:
        out.print(f"no submission will be written: {clean(cohort.no_submission)}", soft_wrap=True)


def _show_problems(error: DataError, *, kept: Path) -> None:
    """Print a table of what is wrong, and last the one command that goes on without the images concerned.

    Of more than `SHOWN` problems the first are shown, and all are in the file ``kept``, or in one of its name among the
    temporary files.
    """
    err.print(f"[bold red]error:[/] {clean(error.headline)}", soft_wrap=True)
    if not error.problems:
        return
    table = Table("file", "what is wrong", "fix", show_lines=False)
    for problem in error.problems[:SHOWN]:
        colour = "yellow" if problem.warning else "red"
        table.add_row(f"[{colour}]{escape(problem.file)}[/]", escape(problem.message), escape(problem.fix))
    err.print(table)
    if (count := len(error.problems)) > SHOWN:
        where = clean(_keep_problems(error.problems, kept))
        err.print(f"and {count - SHOWN} more; all {count} are in {where}", soft_wrap=True)
    severe = [p for p in error.problems if not p.warning]
    if severe and all(p.images for p in severe):
        images = len({image for p in severe for image in p.images})
        command = escape(" ".join(shlex.quote(word) for word in ["smalti", *sys.argv[1:], "--skip-problems"]))
        hint = f"To go on without the {images} image(s) concerned, recorded in decisions.csv:\n  {command}"
        err.print(hint, soft_wrap=True)


def _keep_problems(problems: Sequence[Problem], kept: Path) -> str:
    """Write all problems to a file, and return its path or why there is none."""
    import pandas as pd

    from ..store import write_table

    rows = [(p.code, p.file, p.message, p.fix, "; ".join(p.images), p.warning) for p in problems]
    table = pd.DataFrame(rows, columns=["code", "file", "message", "fix", "images", "warning"])
    for place in (kept, Path(tempfile.gettempdir()) / kept.name):
        with suppress(OSError):
            return str(write_table(place, table))
    return "no file: neither the folder of runs nor that of temporary files can be written to"


def score_cell(row: ComparedRun | Rung) -> str:
    """Say the macro-F1 of a run or rung, and that as given where the score is not to be trusted."""
    score, given = (row.metrics or {})["macro_f1"], row.as_given
    cell = f"{say_number(score.value)}\n[dim]{say_range(score)}[/]"
    if not given:
        return cell
    as_given = (given.metrics or {}).get("macro_f1")
    return f"{cell}\n[yellow]not to be trusted; as given {say_number(as_given.value) if as_given else 'unknown'}[/]"


def difference_cells(found: Difference | None) -> tuple[str, str]:
    """Say the difference of a pair, and its verdict; nothing where there is no pair."""
    if found is None:
        return "", ""
    colour = {"better": "bold green", "worse": "bold red", "practically equal": "bold"}.get(found.verdict, "default")
    # The interval is that of this pair alone, as p is; the verdict is on what Holm's correction for all pairs leaves.
    p = say_number(found.p) + (f", {say_number(found.p_holm)} after Holm" if found.p != found.p_holm else "")
    detail = f"p {p}, smallest detectable {say_number(found.smallest_detectable)}"
    numbers = f"{found.value:+.3f}  ({say_range(found, sign='+')})\n[dim]{detail}[/]"
    return numbers, f"[{colour}]{found.verdict}[/]"


def say_range(score: Interval, *, sign: str = "") -> str:
    """Say an interval; a dash where there is none."""
    return "-" if score.low is None else f"{score.low:{sign}.3f} to {score.high:{sign}.3f}"


def say_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
