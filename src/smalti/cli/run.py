"""plan, run, train, predict, export, explain: the stages of a run."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import RecipeError, RunError
from ..project import ANSWERS_FOLDER, HERE, RUNS
from . import console
from .console import (
    Data,
    Decisions,
    Minutes,
    Name,
    On,
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
    on: On = HERE,
) -> None:
    """Do the whole way: audit, decisions, plan, tiles, training, predictions, evaluation, report."""
    from .. import workflow
    from ..records.layout import PLAN, REPORT, SCORES, SUBMISSION

    with listen() as listener:
        result = workflow.run(
            data, recipe, settings=add_minutes(settings, minutes), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, on=on, listener=listener,
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
    on: On = HERE,
) -> None:
    """Train the folds only; an interrupted training goes on where it was."""
    from .. import workflow

    with listen() as listener:
        experiment = workflow.train_run(
            data, recipe, settings=settings or (), runs=runs, name=name, decisions=decisions,
            skip_problems=skip_problems, on=on, listener=listener,
        )  # fmt: skip
    path = experiment.run.path
    tell_unsubmitted(experiment.cohort)
    finish(f"{len(experiment.splits)} checkpoints in {path / 'checkpoints'}", f"smalti predict {quote(path)}")


@app.command(rich_help_panel=console.DO)
@guard
def predict(
    path: Annotated[Path, typer.Argument(help="run folder, or a model folder")],
    new: Annotated[
        Path | None, typer.Argument(help="folder of new images; without it, the images of the run itself")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="folder of the answers (default: predictions/<NEW>)")] = None,
    mpp: Annotated[float | None, typer.Option(min=0.01, help="microns per pixel of images that do not say it")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps or cpu; for new images (default: auto)")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="draw where the evidence lies in each new image")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="data.knob=value: how the folder of new images is read")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="column whose values are scored one by one, where there are labels")
    ] = None,
    on: On = HERE,
) -> None:
    """Answer for new images with the model of a run; or score the run's own images and write its submission."""
    from .. import workflow
    from ..records.layout import MODEL_RECORD

    if new is not None:
        if on != HERE:
            raise RecipeError(
                "--on: for the images of a run alone; new images are answered one by one", fix="leave it out"
            )
        _predict_new(
            path, new, to=to, mpp=mpp, device=device or "auto", maps=maps, settings=settings or [], by=by or []
        )
        return
    if (path / MODEL_RECORD).is_file():
        raise RunError(f"{path} is a model folder, which has no images", fix=f"smalti predict {quote(path)} NEW_FOLDER")
    options = {"--out": to, "--mpp": mpp, "--device": device, "--maps": maps, "--set": settings, "--by": by}
    if given := [name for name, value in options.items() if value]:
        more = "; smalti explain RUN draws maps of the run's own" if maps else ""
        raise RecipeError(
            f"{', '.join(given)}: for new images alone", fix=f"smalti predict {quote(path)} NEW_FOLDER{more}"
        )
    with listen() as listener:
        workflow.predict_run(path, on=on, listener=listener)
    finish(f"prediction tables in {path / 'predictions'}", f"smalti evaluate {quote(path)}")


def _predict_new(
    path: Path,
    new: Path,
    *,
    to: Path | None,
    mpp: float | None,
    device: str,
    maps: bool,
    settings: list[str],
    by: list[str],
) -> None:
    from .. import workflow
    from ..model import answer_folder, list_columns, load_model
    from ..records.layout import ANSWER_MAPS, ANSWERS, ANSWERS_BY_CASE, EXTERNAL_PAGE
    from ..report import say_external

    out = to or ANSWERS_FOLDER / new.resolve().name
    with listen() as listener:
        model = load_model(path, device=device)
        for note in model.notes:
            listener.say(note)
        columns = replace(list_columns(model, settings), subgroups=tuple(by))
        found = answer_folder(
            model, new, out, columns=columns, mpp=mpp, say=listener.say, progress=listener.follow("predict")
        )
        external = workflow.score_answers(model.record, found, by=by, listener=listener)
        drawn = workflow.write_maps(model, found, mpp=mpp, progress=listener.follow("maps")) if maps else 0
    refused = int((found.table["refused"] != "").sum())
    scores = model.record.scores
    if scores is not None:
        console.out.print(
            f"{model.record.name}: macro-F1 by {scores.unit} {scores.headline.say()}, {model.record.population}; "
            f"{scores.n_images} images of {scores.n_cases} cases",
            soft_wrap=True,
        )
    answered = len(found.table) - refused
    console.out.print(f"{answered} image{'s'[answered == 1 :]} answered, {refused} refused (column 'refused')")
    if maps:
        none = answered - drawn
        why = (
            f"; without one: {none}, of which no network sees more than one tile, or it reads the mask" if none else ""
        )
        console.out.print(f"{drawn} map{'s'[drawn == 1 :]} in {out / ANSWER_MAPS}{why}", soft_wrap=True)
    tables = ANSWERS if found.by_case is None else f"{ANSWERS} and {ANSWERS_BY_CASE}"
    if external is not None:
        for sentence in say_external(external):
            console.out.print(escape(sentence), soft_wrap=True)
        finish(f"{tables} in {out}, scores in {EXTERNAL_PAGE}", f"open {quote(out / EXTERNAL_PAGE)}")
        return
    finish(f"{tables} in {out}", f"open {quote(out / ANSWERS)}")


@app.command(rich_help_panel=console.DO)
@guard
def export(
    run_path: RunPath,
    to: Annotated[
        str, typer.Option(help="folder of the model, or a form: onnx, torchscript, wsinfer (QuPath), hub-folder (timm)")
    ],
    out: Annotated[Path | None, typer.Option(help="folder of a form (default: RUN-FORM beside here)")] = None,
    mpp: Annotated[float | None, typer.Option(min=0.01, help="wsinfer: microns per pixel of training images")] = None,
    member: Annotated[str | None, typer.Option(help="of a form: one member alone, which is another classifier")] = None,
    network: Annotated[str | None, typer.Option(help="of a form: one network alone, such as fold0-seed0")] = None,
) -> None:
    """Copy the model of a run to a folder that needs no run, data or hub; or write it as another tool takes it."""
    from ..model import FORMS, export_form, export_model

    options = {"--out": out, "--mpp": mpp, "--member": member, "--network": network}
    form = next((form for form in FORMS if form == to.lower()), None)
    if form is None:
        if Path(to).name == to and (near := difflib.get_close_matches(to.lower(), FORMS, n=1, cutoff=0.75)):
            raise RecipeError(f"--to {to} is no form", fix=f"--to {near[0]}, or --to ./{to} for a folder")
        if given := [name for name, value in options.items() if value is not None]:
            raise RecipeError(f"{', '.join(given)} with --to {to}, which is no form", fix=f"--to {', '.join(FORMS)}")
        path = export_model(run_path, Path(to))
        finish(f"model in {path}", f"smalti predict {quote(path)} NEW_IMAGES")
        return
    place = out or Path(f"{run_path.resolve().name}-{form}")
    written = export_form(run_path, form, place, mpp=mpp, member=member, network=network)
    takes = f"tiles of {written.tile_px} px" if not written.size else f"bags (N, tiles, {written.size}) of features"
    console.out.print(f"logits of {form} and of the model differ by {written.difference:.1g} at most; {takes}")
    finish(f"{form} in {written.folder}", "see docs/how-to/export.md for what it takes")


@app.command(rich_help_panel=console.DO)
@guard
def explain(
    run_path: RunPath,
    images: Annotated[
        str | None, typer.Option(help="how many, or their names with commas between (default: all)")
    ] = None,
    shown: Annotated[str | None, typer.Option("--class", help="the class to explain (default: the predicted)")] = None,
    on: On = HERE,
) -> None:
    """Show where the networks of a finished run looked, and measure whether the maps can be trusted."""
    from .. import workflow

    names = [name.strip() for name in images.split(",") if name.strip()] if images is not None else None
    wanted = int(images) if images and images.isdecimal() else names
    with listen() as listener:
        path = workflow.explain_run(run_path, images=wanted, shown=shown, on=on, listener=listener)
    console.out.print(f"[bold]{escape(workflow.describe_explanation(path))}[/]", soft_wrap=True)
    finish(
        f"{path.name} in {run_path}; overlays and files for QuPath in {run_path / 'heatmaps'}",
        f"smalti report {quote(run_path)}",
    )
