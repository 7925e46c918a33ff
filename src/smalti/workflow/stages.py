"""The stages of one run, each from files to files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import DataError, RunError
from ..evaluate import score_predictions
from ..logbook.seal import find_seal
from ..recipe import Recipe, load_recipe
from ..runs import CACHE, RunFolder, read_json, read_table, write_json
from ..types import SCORE_PREFIX, Split
from .belonging import RUNS, find_decisions
from .blending import combine_runs
from .ground import Ground, inspect_ground
from .influence import read_influence, tell_trust
from .listening import SILENT, Listener
from .networks import predict, train_networks
from .place import check_name, locate_run
from .portfolio import run_portfolio
from .staging import stage
from .suspicion import suspect_run

if TYPE_CHECKING:
    from ..train import Experiment


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: where it is and its scores (see ``scores.json``)."""

    path: Path
    scores: dict[str, Any]

    def describe(self) -> str:
        """The score in one line, never naked."""
        score, interval = self.scores["metrics"]["macro_f1"], self.scores["interval"]
        trust = "" if interval["trustworthy"] else f" (not to be trusted: {interval['reason']})"
        return (
            f"macro-F1 {score['value']:.3f}, {interval['confidence']:.0%} interval {score['low']:.3f} to "
            f"{score['high']:.3f}{trust}; {self.scores['n_images']} images, {self.scores['n_cases']} cases, "
            f"{self.scores['n_seeds']} seed(s); chance {score['chance_prior']:.3f}, majority class "
            f"{score['chance_majority']:.3f}"
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

    Raises:
        SmaltiError: see `smalti.errors`.
    """
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    name = None if name is None else check_name(name)
    started = time.monotonic()
    ground = _inspect(data, plan, runs=runs, decisions=decisions, skip_problems=skip_problems, listener=listener)
    return run_on(ground, plan, runs=Path(runs), name=name, started=started, listener=listener)


def _inspect(
    data: str | Path,
    plan: Recipe,
    *,
    runs: str | Path,
    decisions: str | Path | None,
    skip_problems: bool,
    listener: Listener,
) -> Ground:
    """The ground of a plan, with decisions and seal where a run looks for them."""
    data, runs = Path(data), Path(runs)
    if decisions and not Path(decisions).is_file():
        raise DataError(f"no decisions at {decisions}. Fix: check the path; without --decisions those of DATA act")
    return inspect_ground(
        data,
        recipe=plan,
        decisions_path=Path(decisions) if decisions else find_decisions(data, runs=runs, listener=listener),
        seal_path=find_seal(data, runs=runs),
        cache=runs / CACHE,
        problems="skip" if skip_problems else "refuse",
        listener=listener,
    )


def run_on(
    ground: Ground,
    plan: Recipe,
    *,
    runs: Path,
    name: str | None = None,
    started: float | None = None,
    listener: Listener = SILENT,
) -> Result:
    """The way from an inspected data folder to the report; networks of its own, members, or other runs.

    ``started`` is when the run began to read, of `time.monotonic`; what a portfolio has of time counts from there.
    """
    started = time.monotonic() if started is None else started
    if plan.ensemble.members:
        run_folder = combine_runs(ground, plan, runs=runs, name=name, listener=listener)
    elif plan.portfolio.members is not None:
        run_folder = run_portfolio(ground, plan, runs=runs, name=name, started=started, listener=listener)
    else:
        experiment, splits = train_networks(ground, plan, runs=runs, name=name, listener=listener)
        predict(experiment, splits, listener=listener)
        run_folder = experiment.run
    result = evaluate_run(run_folder.path)
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
    listener: Listener = SILENT,
) -> tuple[Experiment, tuple[Split, ...]]:
    """Everything up to trained folds; arguments as in `run`."""
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    name = None if name is None else check_name(name)
    ground = _inspect(data, plan, runs=runs, decisions=decisions, skip_problems=skip_problems, listener=listener)
    return train_networks(ground, plan, runs=Path(runs), name=name, listener=listener)


def reopen(path: str | Path, *, listener: Listener = SILENT) -> tuple[Experiment, tuple[Split, ...]]:
    """An experiment from its run folder: same recipe, data and decisions, trained where it was not yet."""
    folder = RunFolder(Path(path))
    runs, name = locate_run(folder.path)
    plan, root = folder.read_recipe(), read_json(folder.path / "cohort.json", "root")["root"]
    decisions = folder.path / "decisions.csv"
    ground = _inspect(root, plan, runs=runs, decisions=decisions, skip_problems=False, listener=listener)
    return train_networks(ground, plan, runs=runs, name=name, listener=listener)


def evaluate_run(path: str | Path) -> Result:
    """Score a run folder's out-of-fold predictions; write ``scores.json``, ``suspects.json`` and ``traces.json``."""
    folder = RunFolder(Path(path))
    recipe = folder.read_recipe()
    classes, given = folder.read_classes(), folder.predictions / "as_given.csv"

    def score(table: pd.DataFrame, inner: pd.DataFrame | None = None) -> dict[str, Any]:
        return score_predictions(table, classes=classes, inner=inner, confidence=recipe.evaluate.confidence)

    with stage(folder, "evaluate"):
        scores = score(folder.read_out_of_fold(), folder.read_inner())
        as_given = score(read_table(given)) if given.is_file() else None
        scores = tell_trust(scores, read_influence(folder.path), as_given)
        write_json(folder.path / "scores.json", scores)
    suspect_run(folder.path)
    return Result(folder.path, scores)


def evaluate_table(path: str | Path) -> Result:
    """Score a prediction table that any tool made; its score columns name the classes.

    Raises:
        DataError: with everything that is wrong with the table.
    """
    table, classes = read_predictions(Path(path))
    scores, run = score_predictions(table, classes=classes), Path(path).resolve().parent.parent
    if (run / "environment.json").is_file():  # a table of a run is no better than the run
        scores = tell_trust(scores, read_influence(run), None)
    return Result(Path(path), scores)


def read_predictions(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A prediction table of any tool, and the classes that its score columns name.

    A table without scores but with a column ``predicted`` gets scores of 0 and 1, so that everything but AUC and log
    loss means what it says.

    Raises:
        DataError: the file is no CSV.
    """
    if not path.is_file():
        raise DataError(f"no table and no run folder at {path}. Fix: check the path")
    try:
        table = read_table(path)
    except RunError as error:  # the words are for tables of smalti's own
        why = str(error).partition(" is damaged: ")[2].partition(". Fix: ")[0]
        raise DataError(f"{path} is no table: {why}. Fix: save it as CSV, UTF-8, separated by commas") from None
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
    with stage(folder, "report"):
        return write_report(folder)
