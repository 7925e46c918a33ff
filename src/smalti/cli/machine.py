"""demo, doctor, parts: a first cohort, what this machine can do, and what recipes can name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..project import RUNS
from . import console
from .console import (
    RecipeOption,
    Runs,
    Settings,
    app,
    finish,
    guard,
    listen,
    quote,
)


@app.command(rich_help_panel=console.LOOK)
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


@app.command(rich_help_panel=console.LOOK)
@guard
def doctor(runs: Runs = RUNS, recipe: RecipeOption = "auto", settings: Settings = None) -> None:
    """Say what this machine will do, why, and how to fix what is missing."""
    from ..doctor import examine_machine
    from ..recipe import load_recipe

    table = Table("what", "", "found", "fix")
    colours = {"good": "green", "note": "yellow", "bad": "red"}
    signs = examine_machine(load_recipe(recipe, settings=settings or ()), folder=runs)
    for sign in signs:
        state = f"[{colours[sign.state]}]{sign.state}[/]"
        table.add_row(sign.name, state, escape(sign.found), escape(sign.fix))
    console.out.print(table)
    if any(sign.state == "bad" for sign in signs):
        raise typer.Exit(1)
    finish("this machine can run smalti", "smalti demo && smalti run demo-data --recipe demo")


@app.command(rich_help_panel=console.LOOK)
@guard
def parts(
    knobs: Annotated[bool, typer.Option("--knobs", help="list every knob of a recipe instead")] = False,
) -> None:
    """List the exchangeable parts that recipes can name."""
    from ..doctor import list_parts
    from ..recipe import list_knobs

    if knobs:
        table = Table("knob", "what it does")
        for name, description in list_knobs().items():
            table.add_row(name, escape(description))
    else:
        table = Table("kind", "name", "what it is", "reference")
        for kind, entry in list_parts():
            table.add_row(kind, entry.name, escape(entry.summary), escape(entry.reference))
    console.out.print(table)
    then = "smalti run DATA --set SECTION.KNOB=VALUE" if knobs else "smalti parts --knobs"
    finish(f"{table.row_count} {'knobs' if knobs else 'rows'} above", then)
