"""The stages of one run, each from files to files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..engine import parse_place
from ..errors import DataError, RunError
from ..evaluate import choose_unit, score_units
from ..project import HERE, RUNS, SILENT, Listener, Project
from ..recipe import Recipe, check_portfolio, load_recipe, settle_portfolio
from ..records import OTHER, CohortRecord, Influence, RunFolder, Scores, Scoring, Unit, UnitScores, log_stage
from ..records.layout import AS_GIVEN, DECISIONS, ENVIRONMENT
from ..store import read_table
from ..types import SCORE_PREFIX
from .decisions.influence import tell_trust
from .handing import hand_on
from .net_benefit import write_operating
from .networks import predict, train_networks
from .place import check_name, locate_run
from .portfolio.blending import combine_runs
from .portfolio.running import run_portfolio
from .prepare.ground import Ground
from .prepare.preparation import inspect_ground
from .prepare.units import read_unit, write_cases
from .site_out import evaluate_sites, hold_out_sites
from .suspicion import suspect_run
from .units.ahead import predict_ahead

if TYPE_CHECKING:
    from ..train import Experiment


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: where it is and its scores (see ``scores.json``)."""

    path: Path
    scores: Scores

    def describe(self) -> str:
        """Return the score in one line, never naked."""
        unit = self.scores.unit
        other = self.scores.take(OTHER[unit])
        said = _say_scores(self.scores, unit)
        if other is None:
            return said
        return f"by {unit}: {said}. By {OTHER[unit]}: {_say_scores(other, OTHER[unit])}"


def _say_scores(scores: UnitScores, unit: Unit) -> str:
    score, cover = scores.headline, scores.interval
    cases = f"{scores.n_cases} cases"
    if unit == "case" and scores.n_units != scores.n_cases:
        cases = f"{scores.n_units} cases ({scores.n_cases} apart: some share pictures)"
    low, high, chance, majority = (
        "unknown" if number is None else f"{number:.3f}"
        for number in (score.low, score.high, score.chance_prior, score.chance_majority)
    )
    trust = "" if cover.trustworthy else f" (not to be trusted: {cover.reason})"
    return (
        f"macro-F1 {score.value:.3f}, {cover.confidence:.0%} interval {low} to {high}{trust}; "
        f"{scores.n_images} images, {cases}, {scores.n_seeds} seed(s); chance {chance}, majority class {majority}"
    )


def run(
    data: str | Path,
    recipe: str | Path | Recipe = "auto",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    name: str | None = None,
    decisions: str | Path | None = None,
    skip_problems: bool = False,
    on: str = HERE,
    listener: Listener = SILENT,
) -> Result:
    """Do the whole way on a data folder; an interrupted run of the same recipe and data goes on where it was.

    Args:
        data: the data folder; it is never changed.
        recipe: a preset, a recipe file, or a recipe.
        settings: ``section.knob=value`` on top of it.
        runs: folder of all runs, their cache and the decisions.
        name: of the run folder; by default data folder, preset and a hash of the recipe.
        decisions: the file that acts (see `find_decisions`).
        skip_problems: leave out images with problems, recorded as decisions.
        on: where folds are trained and score, ``here``, ``processes:N`` or ``ray``; the results are the same.

    Raises:
        SmaltiError: see `smalti.errors`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    name = None if name is None else check_name(name)
    check_portfolio(recipe)  # a slip is told before anything is read
    started, project = time.monotonic(), _open_project(data, runs, decisions, listener, on=on)
    ground = inspect_ground(project, recipe, problems="skip" if skip_problems else "refuse")
    return run_on(project, ground, recipe, name=name, started=started)


def _open_project(
    data: str | Path, runs: str | Path, decisions: str | Path | None, listener: Listener, *, on: str
) -> Project:
    """Return the project of a run; decisions that are named must be there."""
    if decisions and not Path(decisions).is_file():
        raise DataError(f"no decisions at {decisions}", fix="check the path; without --decisions those of DATA act")
    parse_place(on)  # a slip is told before anything is read
    return Project(Path(data), Path(runs), Path(decisions) if decisions else None, listener, on)


def run_on(
    project: Project,
    ground: Ground,
    recipe: Recipe,
    *,
    name: str | None = None,
    started: float | None = None,
    model: bool = True,
) -> Result:
    """Go the way from an inspected data folder to the report; networks of its own, members, or other runs.

    ``started`` is when the run began to read, of `time.monotonic`; what a portfolio has of time counts from there.
    With ``model`` the run folder ends with a model that can be handed on.
    """
    started = time.monotonic() if started is None else started
    recipe = settle_portfolio(recipe, features=ground.cohort.features is not None)
    experiment: Experiment | None = None
    if recipe.ensemble.members:
        run_folder = combine_runs(project, ground, recipe, name=name)
    elif recipe.portfolio.members is not None:
        run_folder = run_portfolio(project, ground, recipe, name=name, started=started)
    else:
        experiment = train_networks(project, ground, recipe, name=name)
        predict_ahead(project, experiment)
        predict(experiment, listener=project.listener)
        hold_out_sites(project, experiment)
        run_folder = experiment.run
    result = evaluate_run(run_folder.path)
    if model:
        hand_on(run_folder, experiment, ground, runs=project.runs, listener=project.listener)
    report_run(run_folder.path)
    return result


def train_run(
    data: str | Path,
    recipe: str | Path | Recipe = "default",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    name: str | None = None,
    decisions: str | Path | None = None,
    skip_problems: bool = False,
    on: str = HERE,
    listener: Listener = SILENT,
) -> Experiment:
    """Everything up to trained folds; arguments as in `run`."""
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    name = None if name is None else check_name(name)
    project = _open_project(data, runs, decisions, listener, on=on)
    ground = inspect_ground(project, recipe, problems="skip" if skip_problems else "refuse")
    return train_networks(project, ground, recipe, name=name)


def reopen(path: str | Path, *, on: str = HERE, listener: Listener = SILENT) -> Experiment:
    """An experiment from its run folder: same recipe, data and decisions, trained where it was not yet."""
    folder = RunFolder(Path(path))
    runs, name = locate_run(folder.path)
    recipe, root = folder.read_recipe(), CohortRecord.read(folder.path).root
    project = _open_project(root, runs, folder.path / DECISIONS, listener, on=on)
    return train_networks(project, inspect_ground(project, recipe), recipe, name=name)


def predict_run(path: str | Path, *, on: str = HERE, listener: Listener = SILENT) -> None:
    """Score the images of a run by its networks once more, where the tables are not there, and write its submission."""
    experiment = reopen(path, on=on, listener=listener)
    runs, _ = locate_run(experiment.run.path)
    predict_ahead(Project(experiment.cohort.root, runs, listener=listener, on=on), experiment)
    predict(experiment, listener=listener)


def evaluate_run(path: str | Path) -> Result:
    """Score a run folder's out-of-fold predictions.

    It writes ``scores.json``, ``suspects.json`` and ``traces.json``, of two classes ``operating.json`` too.
    """
    folder = RunFolder(Path(path))
    recipe = folder.read_recipe()
    confidence = recipe.evaluate.confidence
    classes, given = CohortRecord.read(folder.path).classes, folder.path / AS_GIVEN
    scoring, cases = read_unit(folder.path)

    def score(table: pd.DataFrame, by: Scoring, inner: pd.DataFrame | None = None) -> Scores:
        return score_units(table, by, classes=classes, cases=cases, inner=inner, confidence=confidence)

    with log_stage(folder.path, "evaluate"):
        scores, as_given = score(folder.read_out_of_fold(), scoring, folder.read_inner()), None
        if given.is_file():
            table = read_table(given)
            # Labels that were brought into line by a decision may differ inside a case as they were given.
            as_given = score(table, choose_unit(_list_labels(table), cases))
        scores = tell_trust(scores, Influence.read(folder.path), as_given)
        if cases is not None:
            write_cases(folder, classes, cases)
        scores.write(folder.path)
        write_operating(folder, recipe, scoring, classes=classes, cases=cases)
        evaluate_sites(folder, scoring, cases)
    suspect_run(folder.path)
    return Result(folder.path, scores)


def evaluate_table(path: str | Path, *, unit: Unit | None = None) -> Result:
    """Score a prediction table that any tool made; its score columns name the classes, its column ``case`` the cases.

    Args:
        path: of the CSV.
        unit: what the first number counts; None chooses (see `choose_unit`).

    Raises:
        DataError: with everything that is wrong with the table; or answers by case are asked for and there are none.
    """
    table, classes = read_predictions(Path(path))
    run = Path(path).resolve().parent.parent
    of_run = (run / ENVIRONMENT).is_file()
    cases = read_unit(run)[1] if of_run else list_cases(table)
    labelled = {"image", "label"} <= set(table)
    scoring = choose_unit(_list_labels(table), cases, asked=unit) if labelled else Scoring()
    scores = score_units(table, scoring, classes=classes, cases=cases)
    if of_run:  # a table of a run is no better than the run
        scores = tell_trust(scores, Influence.read(run), None)
    return Result(Path(path), scores)


def list_cases(table: pd.DataFrame) -> dict[str, str] | None:
    """Image -> case, as a table of any tool has them; None where it has none."""
    if not {"image", "case"} <= set(table):
        return None
    return dict(zip(table["image"].astype(str), table["case"].astype(str), strict=True))


def _list_labels(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["image"].astype(str), table["label"].astype(str), strict=True))


def read_predictions(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A prediction table of any tool, and the classes that its score columns name.

    A table without scores but with a column ``predicted`` gets scores of 0 and 1, so that everything but AUC and log
    loss means what it says.

    Raises:
        DataError: the file is no CSV.
    """
    if not path.is_file():
        raise DataError(f"no table and no run folder at {path}", fix="check the path")
    try:
        table = read_table(path)
    except RunError as error:  # the words are for tables of smalti's own
        why = error.message.partition(" is damaged: ")[2]
        raise DataError(f"{path} is no table: {why}", fix="save it as CSV, UTF-8, separated by commas") from None
    classes = tuple(c.removeprefix(SCORE_PREFIX) for c in table.columns if c.startswith(SCORE_PREFIX))
    if classes or "predicted" not in table:
        return table, classes
    predicted = table["predicted"].astype(str)
    named = set(predicted) | (set(table["label"].astype(str)) if "label" in table else set())
    classes = tuple(sorted(named))
    scores = {f"{SCORE_PREFIX}{name}": (predicted == name).astype(float) for name in classes}
    return table.assign(**scores), classes


def report_run(path: str | Path) -> Path:
    """Write ``report.html`` of a run folder."""
    from ..report import write_report

    folder = RunFolder(Path(path))
    with log_stage(folder.path, "report"):
        return write_report(folder)
