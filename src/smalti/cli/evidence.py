"""How good, and better than what: evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import RecipeError
from ..workflow import RUNS
from . import console
from .console import (
    Data,
    Runs,
    Settings,
    Skip,
    app,
    finish,
    guard,
    listen,
    quote,
)

UnitOption = Annotated[
    Literal["image", "case"] | None,
    typer.Option(help="what is counted: image, or case (mean of its images) [default: what the runs or the table say]"),
]
COSTS = (("seconds", "s"), ("peak_memory_gb", "GB"))


@app.command()
@guard
def evaluate(
    source: Annotated[Path, typer.Argument(help="run folder, or a prediction table (CSV) that any tool made")],
    unit: UnitOption = None,
) -> None:
    """Score predictions: interval, chance level, per-class results."""
    from .. import workflow

    if source.is_dir() and unit is not None:
        raise RecipeError(
            "--unit is for tables: a run counts what its recipe says, and has the other unit's scores beside it. Fix: "
            "leave --unit out, or run it again with --set evaluate.unit=" + unit
        )
    result = workflow.evaluate_run(source) if source.is_dir() else workflow.evaluate_table(source, unit=unit)
    console.out.print(_tabulate_scores(result.scores))
    console.out.print(f"Scored by {result.scores['unit']}: {escape(result.scores['unit_reason'])}.", soft_wrap=True)
    for reason in dict.fromkeys(m["reason"] for m in result.scores["metrics"].values() if not m["trustworthy"]):
        console.out.print(f"[dim]? not to be trusted: {escape(reason)}[/]", soft_wrap=True)
    console.out.print(f"[bold]{escape(result.describe())}[/]", soft_wrap=True)
    console.out.print(f"The intervals cover {escape(result.scores['interval']['covers'])}.", soft_wrap=True)
    if source.is_dir():
        finish(f"{source / 'scores.json'}", f"smalti report {quote(source)}")
    else:
        finish(f"the scores above, of {source}", "smalti run DATA, for a run of your own to set beside it")


@app.command()
@guard
def report(
    sources: Annotated[
        list[str] | None, typer.Argument(help="a run, a ladder, or several runs [default: all runs]")
    ] = None,
    runs: Runs = RUNS,
    to: Annotated[
        Path | None, typer.Option(help="folder of a report about several runs [default: RUNS/report]")
    ] = None,
) -> None:
    """Write the report page, and a LaTeX article ready to upload."""
    from .. import workflow

    with listen() as listener:
        path = workflow.report_on(sources or (), runs=runs, to=to, listener=listener)
    finish(f"report.html and article.zip in {path.parent}", f"open {quote(path)}")


@app.command()
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
    console.out.print(_tabulate_comparison(result))
    for line in _describe_comparison(result):
        console.out.print(escape(line), soft_wrap=True)
    where = "the table above" if to is None else str(to / "comparison.json")
    what = "on the sealed cases; recorded in the logbook" if open_seal else "from out-of-fold predictions"
    finish(f"{where}, {what}", "smalti logbook")


@app.command()
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
) -> None:
    """Change one thing at a time, on the same folds, and say what helped."""
    from ..ladder import climb_ladder, describe_ladder

    with listen() as listener:
        folder, result = climb_ladder(
            data,
            ladder,
            settings=settings or (),
            runs=runs,
            until=until,
            budget_min=budget,
            skip_problems=skip_problems,
            retry=retry,
            listener=listener,
        )
    console.out.print(_tabulate_ladder(result))
    for line in describe_ladder(result):
        console.out.print(escape(line), soft_wrap=True)
    lost = {s: [row for row in result["rungs"] if row["status"] == s] for s in ("failed", "skipped")}
    if lost["skipped"]:
        names = ", ".join(row["name"] for row in lost["skipped"])
        console.err.print(f"[bold yellow]skipped:[/] {names}; the report says why", soft_wrap=True)
    for row in lost["failed"]:
        console.err.print(f"[bold red]failed:[/] {row['name']}: {escape(str(row['error']))}", soft_wrap=True)
    finish(f"report.html, article.zip and ladder.json in {folder}", f"open {quote(folder / 'report.html')}")
    if lost["failed"]:
        raise typer.Exit(1)


def _tabulate_scores(scores: dict[str, Any]) -> Table:
    table = Table("metric", "value", "interval", "chance (prior)", "majority class")
    for name, m in scores["metrics"].items():
        cells = [_number(m[k]) for k in ("value", "low", "high", "chance_prior", "chance_majority")]
        doubt = "" if m["trustworthy"] else " ?"
        table.add_row(name, cells[0], f"{cells[1]} to {cells[2]}{doubt}", cells[3], cells[4])
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _tabulate_comparison(result: dict[str, Any]) -> Table:
    table = Table("run", "macro-F1", f"against {escape(result['names'][0])}", "verdict", show_lines=True)
    for row in result["rows"]:
        table.add_row(escape(row["name"]), _score_cell(row), *_difference_cells(row["difference"]))
    return table


def _tabulate_ladder(result: dict[str, Any]) -> Table:
    table = Table("rung", "macro-F1", "against the rung it changes", "verdict", "cost", show_lines=True)
    for row in result["rungs"]:
        name = f"[bold]{escape(row['name'])}[/]\n[dim]{escape(row['change'])}[/]"
        score = _score_cell(row) if row["metrics"] else f"[red]{row['status']}[/]"
        cost = [f"{row[key]:.1f} {unit}" for key, unit in COSTS if row[key] is not None]
        table.add_row(name, score, *_difference_cells(row["difference"]), "\n".join(cost))
    return table


def _score_cell(row: dict[str, Any]) -> str:
    score, given = row["metrics"]["macro_f1"], row.get("as_given")
    cell = f"{_number(score['value'])}\n[dim]{_range(score)}[/]"
    if not given:
        return cell
    as_given = (given["metrics"] or {}).get("macro_f1")
    return f"{cell}\n[yellow]not to be trusted; as given {_number(as_given['value']) if as_given else 'unknown'}[/]"


def _difference_cells(difference: dict[str, Any] | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    found = difference["macro_f1"]
    colour = {"better": "bold green", "worse": "bold red", "practically equal": "bold"}.get(found["verdict"], "default")
    # The interval is that of this pair alone, as p is; the verdict is on what Holm's correction for all pairs leaves.
    p = _number(found["p"]) + (f", {_number(found['p_holm'])} after Holm" if found["p"] != found["p_holm"] else "")
    detail = f"p {p}, smallest detectable {_number(found['smallest_detectable'])}"
    numbers = f"{found['value']:+.3f}  ({_range(found, sign='+')})\n[dim]{detail}[/]"
    return numbers, f"[{colour}]{found['verdict']}[/]"


def _range(score: dict[str, Any], *, sign: str = "") -> str:
    if score["low"] is None:
        return "-"
    return f"{score['low']:{sign}.3f} to {score['high']:{sign}.3f}"


def _describe_comparison(result: dict[str, Any]) -> list[str]:
    size = f"by {result['unit']} ({result['unit_reason']}); {result['n_images']} images, {result['n_cases']} cases"
    lines = [f"{size}; {result['confidence']:.0%} intervals, paired by case"]
    if not result["trustworthy"]:
        lines.append(f"not to be trusted: {result['reason']}")
    if result["margin"] > 0:
        lines.append(f"practically equal would be: the whole interval within {result['margin']:g} of zero (--margin)")
    gaps = [row["difference"]["macro_f1"] for row in result["rows"] if row["difference"]]
    lines += dict.fromkeys(f"no verdict: {gap['why']}" for gap in gaps if gap["why"])
    return lines + result["notes"]
