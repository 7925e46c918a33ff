"""logbook: all runs in one table, the best by a stated rule, differences, export to MLflow or TensorBoard."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from ..project import RUNS
from . import console
from .console import (
    Runs,
    app,
    finish,
    guard,
    quote,
)

if TYPE_CHECKING:
    from ..logbook import Best, Entry, Logbook

Where = Annotated[list[str] | None, typer.Option(help="condition of pandas, e.g. 'macro_f1 > 0.5', repeatable")]
COLOURS = {"finished": "green", "failed": "red", "unfinished": "yellow"}


book = typer.Typer(help="Show all runs, the best of them, and what failed.", invoke_without_command=True)
app.add_typer(book, name="logbook", rich_help_panel=console.JUDGE)


@book.callback()
def logbook(context: typer.Context, runs: Runs = RUNS) -> None:
    """Show all runs, the best of them, and what failed; each sub-command takes --runs too."""
    if context.invoked_subcommand is None:
        show(runs)
    elif runs != RUNS:
        raise typer.BadParameter(f"give it after {context.invoked_subcommand}", param_hint="--runs")


@book.command()
@guard
def show(
    runs: Runs = RUNS,
    where: Where = None,
    sort: Annotated[str, typer.Option(help="column, metric or knob; low: lower bound of macro-F1")] = "started",
    ascending: Annotated[
        bool | None, typer.Option("--ascending/--descending", help="(default: best score first, others ascending)")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="these columns, metrics and knobs, separated by commas")] = None,
    csv: Annotated[Path | None, typer.Option(help="write the table with all metrics and knobs to this file")] = None,
) -> None:
    """Show the runs that fulfil conditions, in an order, with columns of your choice."""
    from ..logbook import filter_entries, find_bests, read_logbook, settle_bests, sort_entries, tabulate_entries
    from ..records.layout import REPORT
    from ..store import write_table

    read = read_logbook(runs)
    entries = sort_entries(filter_entries(read.entries, where or ()), sort, ascending=ascending)
    if csv is not None:
        write_table(csv, tabulate_entries(entries))
        finish(f"{len(entries)} run(s) in {csv}", f"open {quote(csv)}")
        return
    try:
        bests = settle_bests(read)
    except OSError as error:  # the runs are shown even if their folder cannot be written to
        console.err.print(f"[yellow]note:[/] best.json was not written: {escape(str(error))}", soft_wrap=True)
        bests = find_bests(read)
    _show_entries(entries, bests, columns)
    _show_below(read, entries, bests)
    failed = sum(entry.status == "failed" for entry in entries)
    where_to = f"{len(entries)} of {len(read.entries)} run(s) of {read.runs} above, {failed} failed"
    page = read.runs / bests[0].run / REPORT if bests else None
    if page is None:
        finish(where_to, "smalti run DATA")
    else:
        finish(where_to, f"open {quote(page)}" if page.is_file() else f"smalti report {quote(page.parent)}")


@book.command()
@guard
def best(
    run: Annotated[str | None, typer.Argument(help="run that is the best (default: by the rule)")] = None,
    note: Annotated[str, typer.Option(help="why this run is the best")] = "",
    runs: Runs = RUNS,
) -> None:
    """Call a run the best, with a note, or go back to the rule."""
    from ..logbook import read_logbook, resolve_run, set_best, settle_bests

    if note and run is None:
        raise typer.BadParameter("a note belongs to a run: smalti logbook best RUN --note ...", param_hint="--note")
    if run is None:
        settle_bests(read_logbook(runs), renew=True)
    else:
        set_best(runs, resolve_run(runs, run).name, note=note)
    show(runs)


@book.command()
@guard
def diff(
    one: Annotated[str, typer.Argument(help="a run")],
    other: Annotated[str, typer.Argument(help="another run")],
    runs: Runs = RUNS,
) -> None:
    """Show the knobs in which two runs differ."""
    from ..logbook import diff_recipes, read_entry, resolve_run, say_value

    entries = [read_entry(resolve_run(runs, name)) for name in (one, other)]
    table = Table("knob", *(escape(entry.name) for entry in entries), box=box.SIMPLE_HEAD, pad_edge=False)
    for knob, values in diff_recipes(*entries).items():
        table.add_row(escape(knob), *(escape(say_value(value)) for value in values))
    console.out.print(table)
    finish(f"{table.row_count} knob(s) differ", f"smalti logbook show --runs {quote(runs)} --sort low")


@book.command()
@guard
def export(
    kind: Annotated[Literal["mlflow", "tensorboard"], typer.Argument(help="mlflow or tensorboard")],
    to: Annotated[str, typer.Option(help="address of the MLflow server, or folder of the event files")],
    where: Where = None,
    runs: Runs = RUNS,
) -> None:
    """Send runs to MLflow or TensorBoard."""
    from ..logbook import export_mlflow, export_tensorboard, filter_entries, read_logbook

    entries = filter_entries(read_logbook(runs).entries, where or ())
    if kind == "mlflow":
        done = export_mlflow(entries, uri=to)
        then = f"open {to}" if to.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(to)}"
    else:
        done = export_tensorboard(entries, folder=Path(to))
        then = f"tensorboard --logdir {quote(Path(to))}"
    for problem in done.problems:
        console.err.print(f"[yellow]note:[/] {escape(problem)}", soft_wrap=True)
    counts = f"{len(done.created)} new, {len(done.updated)} updated, {len(done.unchanged)} unchanged"
    finish(f"{len(entries)} run(s) in {to}: {counts}", then)


def _show_entries(entries: Sequence[Entry], bests: Sequence[Best], columns: str | None) -> None:
    """Print one row a run; on a narrow screen, a line with its name and a line with its numbers."""
    from .. import logbook as book

    if columns is not None:
        names = [name.strip() for name in columns.split(",") if name.strip()]
        book.check_fields(names, entries)
        rows = [[_say_cell(book.read_field(entry, name)) for name in names] for entry in entries]
        console.out.print(_make_table(names, rows))
        return
    rows = [_describe_entry(entry, bests) for entry in entries]
    table = _make_table(_OVERVIEW, rows)
    wide = console.out.options.update(max_width=10_000)
    if Measurement.get(console.out, wide, table).maximum <= console.out.width:
        console.out.print(table)
        return
    numbers = [list(_OVERVIEW[3:]), *(list(row[3:]) for row in rows)]
    widths = [max(len(row[i]) for row in numbers) for i in range(len(numbers[0]) - 1)]
    lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in numbers]
    console.out.print(f"[bold]  run (data, preset)\n  {lines[0]}[/]", soft_wrap=True)
    for row, line in zip(rows, lines[1:], strict=True):
        origin = ", ".join(text for text in row[1:3] if text)
        console.out.print(f"{row[0]} [dim]({origin})[/]\n  {line}", soft_wrap=True)
    console.out.print()


_OVERVIEW = (
    "run", "data", "preset", "by", "macro-F1", "interval", "chance", "images", "cases", "seeds", "time", "status",
)  # fmt: skip


def _make_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    return table


def _describe_entry(entry: Entry, bests: Sequence[Best]) -> list[str]:
    score = entry.metrics.get("macro_f1")
    bounds = [_say_cell(score.low), _say_cell(score.high)] if score else []
    mark = "[bold]*[/] " if any(best.run == entry.name for best in bests) else "  "
    doubt = "" if entry.trustworthy or not score else " ?"
    seconds = entry.seconds
    if seconds is None:
        took = ""
    elif seconds < 100:
        took = f"{seconds:.0f} s"
    else:
        took = f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
    as_given = ((entry.as_given and entry.as_given.metrics) or {}).get("macro_f1")
    given = _say_cell(as_given.value) if as_given else "unknown"
    return [
        mark + escape(entry.name),
        escape(entry.data_name),
        escape(entry.preset),
        entry.unit if score else "",
        _say_cell(score.value) if score else "",
        f"{bounds[0]}–{bounds[1]}{doubt}{f' as given {given}' if entry.as_given else ''}" if score else "",
        _say_cell(entry.chance_prior),
        *(_say_cell(number) for number in (entry.n_images, entry.n_cases, entry.n_seeds)),
        took,
        f"[{COLOURS[entry.status]}]{entry.status}[/]",
    ]


def _show_below(read: Logbook, entries: Sequence[Entry], bests: Sequence[Best]) -> None:
    """Show what the table cannot hold: why which run is the best, what failed, which seals were opened."""
    from ..records.layout import SEAL_SUFFIX

    out = console.out
    for best in bests:
        why = f"set by hand: {best.chosen.note}" if best.by_hand else "by the rule"
        warning = f" [yellow]({escape(best.warning)})[/]" if best.warning else ""
        out.print(f"[bold]*[/] best of {escape(best.data)}: [bold]{escape(best.run)}[/], {escape(why)}{warning}")
    for rule in dict.fromkeys(best.chosen.rule for best in bests if not best.by_hand):
        out.print(f"[dim]  the rule: {escape(rule)}[/]")
    if any(entry.metrics and not entry.trustworthy and not entry.as_given for entry in entries):
        out.print("[dim]? too few cases or errors: the interval is not to be trusted[/]")
    for entry in entries:
        if entry.as_given:
            words = f"{entry.name} is not to be trusted: {entry.trust_reason}"
            out.print(f"[yellow]?[/] {escape(words)}", soft_wrap=True)
    for entry in entries:
        if entry.status != "finished":
            label = f"[{COLOURS[entry.status]}]{entry.status}[/] {escape(entry.name)}"
            out.print(f"{label}: {escape(entry.error)}", soft_wrap=True)
    for path in sorted(read.runs.glob(f"*{SEAL_SUFFIX}")):
        _show_seal(path)


def _show_seal(path: Path) -> None:
    """Show when the sealed cases of a data folder were looked at, by which runs, and with which score."""
    from ..errors import RunError
    from ..records.layout import SEAL_SUFFIX
    from ..records.studies.seal import Seal

    out, data = console.out, escape(path.name.removesuffix(SEAL_SUFFIX))
    try:
        seal = Seal.read_file(path)
    except (RunError, OSError):
        out.print(f"[red]seal[/] {escape(path.name)} is damaged", soft_wrap=True)
        return
    if not seal.openings:
        out.print(f"seal of {data}: {seal.n_cases} cases, not opened yet", soft_wrap=True)
    for opening in seal.openings:
        scores = []
        for run in opening.runs:
            score = opening.scores.get(run, {}).get("macro_f1")
            scores.append(f"{run} macro-F1 {score.say()}" if score else f"{run} without a score")
        line = f"{opening.time}: {'; '.join(scores)}"
        out.print(f"seal of {data}: {seal.n_cases} cases, opened {escape(line)}", soft_wrap=True)
    if len(seal.openings) > 1:
        out.print(
            f"[bold yellow]warning:[/] this seal was opened {len(seal.openings)} times. Whatever was changed after the "
            "first time may fit the sealed cases; only the first score is untouched."
        )


def _say_cell(value: Any) -> str:
    """Return a cell of a table; a number to three decimals, empty for an unknown value."""
    from .. import logbook as book

    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else escape(book.say_value(value))
