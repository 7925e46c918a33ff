"""review, serve: local pages, to decide about images and to ask a model."""

from __future__ import annotations

import functools
import getpass
from pathlib import Path
from typing import Annotated

import typer

from ..project import RUNS, Project
from . import console
from .console import (
    Data,
    Decisions,
    RecipeOption,
    Runs,
    Settings,
    Skip,
    app,
    finish,
    guard,
    listen,
    quote,
    repeat_settings,
    tell_unsubmitted,
)


@app.command(rich_help_panel=console.LOOK)
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
    who: Annotated[str | None, typer.Option(help="who decides, for decisions.csv (default: your user name)")] = None,
) -> None:
    """Look at images and findings on a local page, and decide with one key each."""
    from .. import workflow
    from ..recipe import load_recipe
    from ..review import ReviewSession, read_insight, serve

    with listen() as listener:
        where = workflow.find_decisions(Project(data, runs, decisions, listener))
        ground = workflow.inspect_ground(
            Project(data, runs, where, listener), load_recipe(recipe, settings=settings or ()),
            problems="skip" if skip_problems else "report",
        )  # fmt: skip
    insight = read_insight(run, images=[s.image for s in ground.whole.samples]) if run else None
    session = ReviewSession(
        ground.whole, ground.seen, decisions_path=where, who=who or getpass.getuser(), insight=insight,
        contents=ground.contents, bound=ground.bound,
    )  # fmt: skip
    address_path = where.with_name(f".{where.name}.address")
    say = functools.partial(console.out.print, soft_wrap=True)
    serve(session, address_path=address_path, port=port, say=lambda url: say(f"open {url}\nCtrl-C ends it"))
    tell_unsubmitted(ground.cohort)
    then = f"smalti run {quote(data)}{repeat_settings(recipe, settings)}"
    finish(f"{len(session.decided())} decided images in {where}", then)


@app.command(rich_help_panel=console.DO)
@guard
def serve(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="model folder, or the run folder that holds it")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on this computer; 0 takes any free one")] = 0,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu")] = "auto",
    mpp: Annotated[float | None, typer.Option(min=0.01, help="microns per pixel of images that do not say it")] = None,
) -> None:
    """Answer for single images on this computer: a page to drop them on, and an endpoint for programs."""
    from ..model import load_model
    from ..serve import serve as serve_model
    from ..web import Address

    with listen() as listener:
        model = load_model(path, device=device)
        for note in model.notes:
            listener.say(note)

    def say(address: Address) -> None:
        console.out.print(
            f"open {address.url}\nprograms: POST /predict with 'Authorization: Bearer {address.token}'\nCtrl-C ends it",
            soft_wrap=True,
        )

    serve_model(model, port=port, mpp=mpp, say=say)
    finish("nothing was stored", f"smalti predict {quote(path)} NEW_IMAGES")
