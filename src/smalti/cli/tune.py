"""Search over knobs: tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import HERE, RUNS
from . import console
from .console import Data, On, Runs, Settings, Skip, app, finish, guard, listen, quote

if TYPE_CHECKING:
    from ..records.studies.search import SearchResult


@app.command(rich_help_panel=console.JUDGE)
@guard
def tune(
    data: Data,
    space: Annotated[str, typer.Option(help="built-in space (transfer, finetune) or a .yaml file")] = "transfer",
    sampler: Annotated[str, typer.Option(help="tpe, random or grid")] = "tpe",
    trials: Annotated[int, typer.Option(min=1, help="of each study; a grid ends where it is complete")] = 30,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="for studies and curves, which go on where they were; outer folds are always scored "
            "(default: no limit)",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="inner folds that score a trial")] = 3,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="end trials that are behind early")] = True,
    curves: Annotated[int, typer.Option(min=0, help="seeds at each point of a curve; 0 draws none")] = 3,
    settings: Settings = None,
    runs: Runs = RUNS,
    skip_problems: Skip = False,
    on: On = HERE,
) -> None:
    """Search knobs inside the folds, score the choice outside, and say which knobs matter."""
    from ..errors import RecipeError
    from ..records.layout import CURVES, RECIPE, REPORT, TRIALS, TUNE
    from ..tune import Search, tune_recipe

    if sampler not in ("tpe", "random", "grid"):
        raise RecipeError(f"no sampler is called '{sampler}'", fix="tpe, random or grid")
    search = Search(sampler=sampler, trials=trials, minutes=minutes, folds=folds, prune=prune)
    with listen() as listener:
        folder, result = tune_recipe(
            data, space, search=search, settings=settings or (), runs=runs, curve_seeds=curves,
            skip_problems=skip_problems, on=on, listener=listener,
        )  # fmt: skip
    if result.effects is not None:
        table = Table(title="what moves the score")
        table.add_column("knob", overflow="fold")
        for name in ("importance", "reach", "p, trials", "p, curve", ""):
            table.add_column(name, no_wrap=True)
        for effect in result.effects:
            numbers = (f"{effect.importance:.2f}", f"{effect.reach:.3f}", f"{effect.p_value:.3f}")
            curve = "–" if effect.curve_p is None else f"{effect.curve_p:.3f}"
            table.add_row(effect.knob, *numbers, curve, "real" if effect.real else "not told")
        console.out.print(table)
    for line in describe_result(result):
        console.out.print(escape(line), soft_wrap=True)
    finish(
        f"{REPORT}, {RECIPE}, {TUNE}, {TRIALS} and {CURVES} in {folder}",
        f"smalti run {quote(data)} --recipe {quote(folder / RECIPE)}",
    )


def describe_result(result: SearchResult) -> list[str]:
    """Return what a search found, in sentences; no naked number."""
    outer = result.outer
    untuned, tuned = outer.rows
    score, before, gap = tuned.metrics["macro_f1"], untuned.metrics["macro_f1"], tuned.gap
    against = "" if gap is None else f": {gap.verdict} ({gap.value:+.3f}, {gap.low:+.3f} to {gap.high:+.3f})"
    lines = [
        f"tuned: macro-F1 {score.value:.3f}, {outer.confidence:.0%} interval {score.low:.3f} to {score.high:.3f}, on "
        f"outer folds that chose nothing; by {outer.unit}, {outer.n_images} images, {outer.n_cases} cases; chance "
        f"{outer.chance:.3f}",
        f"untuned: {before.value:.3f}; tuned against it{against}",
        *([f"not to be trusted: {outer.reason}"] if not outer.trustworthy else []),
        f"the inner score of what was chosen is {result.inner:.3f}: optimism {result.optimism:+.3f}",
    ]
    points = result.curves
    if points is not None and len(points) < result.curve_points:
        lines.append(
            f"time was up after {len(points)} of {result.curve_points} points of the curves; the same command "
            "measures the rest"
        )
    lines += [f"left out, since it can do nothing here: {one.knob} ({one.reason})" for one in result.idle]
    if result.effects is None:
        return [*lines, f"fewer than {result.least_trials} trials say nothing about single knobs"]
    real = [effect.knob for effect in result.effects if effect.real]
    rest = [effect.knob for effect in result.effects if not effect.real]
    lines.append(
        f"more than noise: {', '.join(real) or 'no knob'}; no effect could be told: {', '.join(rest) or 'none'}"
    )
    return lines
