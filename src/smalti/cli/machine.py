"""demo, doctor, parts: a first cohort, what this machine can do, and what recipes can name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import PartError
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
def doctor(
    runs: Runs = RUNS,
    recipe: RecipeOption = "auto",
    settings: Settings = None,
    licences: Annotated[
        bool, typer.Option("--licences", help="list the licences of packages, weights and data sets instead")
    ] = False,
) -> None:
    """Say what this machine will do, why, and how to fix what is missing."""
    if licences:
        _show_licences()
        return
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


def _show_licences() -> None:
    """Print the ledger: what is known of each licence, and what it allows."""
    from ..licences import list_code, list_datasets, list_weights

    code, weights, data = list_code(), list_weights(), list_datasets()
    for title, rows in (("packages", code), ("weights", weights), ("data sets", data)):
        table = Table(title, "licence", "commercial use", "passing on", "source and doubts")
        for row in rows:
            name = f"{row.name} {row.version}" if row.version else row.name
            about = "; ".join(text for text in (row.extra and f"extra {row.extra}", row.source, row.doubts) if text)
            table.add_row(escape(name), escape(row.licence), row.commercial, row.passing_on, escape(about))
        console.out.print(table)
    console.out.print("Packages that these need in turn are not listed. This is no legal advice.")
    finish(f"{len(code)} packages, {len(weights)} kinds of weights, {len(data)} data sets", "smalti report RUN")


@app.command(rich_help_panel=console.LOOK)
@guard
def parts(
    kind: Annotated[str, typer.Argument(help="only parts of this kind, such as encoders")] = "",
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
        found = list(list_parts())
        kinds = dict.fromkeys(own for own, _ in found)
        if kind and kind.removesuffix("s") not in kinds:
            raise PartError(f"no part is a '{kind}'", fix=f"one of {', '.join(kinds)}")
        for own, entry in found:
            if own == (kind.removesuffix("s") or own):
                table.add_row(own, entry.name, escape(entry.summary), escape(entry.reference))
    console.out.print(table)
    then = "smalti run DATA --set SECTION.KNOB=VALUE" if knobs else "smalti parts --knobs"
    finish(f"{table.row_count} {'knobs' if knobs else 'rows'} above", then)
