"""Networks of one recipe: trained in every fold, then asked for scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RecipeError
from ..project import SILENT, Listener, Project
from ..recipe import Recipe
from ..records import Embeddings, RunFolder, log_stage
from ..records.layout import DIVERGED, EMBEDDINGS
from ..store import read_table
from .portfolio.blending import choose_calibration, submit
from .prepare.ground import Ground
from .prepare.policies import warn_of_operations
from .prepare.preparation import prepare
from .units.ahead import train_ahead

if TYPE_CHECKING:
    from ..train import Experiment


def train_networks(project: Project, ground: Ground, recipe: Recipe, *, name: str | None = None) -> Experiment:
    """Everything from an inspected data folder to trained folds.

    Raises:
        RecipeError: the recipe asks for runs or members instead of networks of its own.
    """
    from ..train import train_folds

    if recipe.ensemble.members:
        raise RecipeError("an ensemble trains no networks of its own", fix="'smalti run', which combines its members")
    if recipe.portfolio.members is not None:
        raise RecipeError(
            "a portfolio is trained member by member", fix="'smalti run', or --set portfolio.members=null"
        )
    experiment, listener = prepare(project, ground, recipe, name=name), project.listener
    with log_stage(experiment.run.path, "train"):
        train_ahead(project, experiment)
        train_folds(experiment, tell=listener.tell)
    warn_of_divergence(experiment.run, listener=listener)
    warn_of_operations(experiment.run, listener=listener)
    return experiment


def warn_of_divergence(run: RunFolder, *, listener: Listener) -> None:
    """Say where weights stopped being numbers."""
    path = run.path / DIVERGED
    if not path.is_file():
        return
    for row in read_table(path, "seed", "fold", "phase", "epoch").itertuples():
        listener.say(
            f"seed {row.seed}, fold {row.fold}: training diverged in epoch {row.epoch} of phase {row.phase} (NaN "
            "weights); the best earlier weights are kept. A lower rate or a warm-up may prevent it"
        )


def predict(experiment: Experiment, *, listener: Listener = SILENT) -> None:
    """Out-of-fold scores, scores of the unlabelled part, the submission, and embeddings to compare images by."""
    from ..predict import predict_given, predict_outer, predict_unlabelled, write_predictions
    from ..train import tabulate_inner

    cohort = experiment.cohort
    with log_stage(experiment.run.path, "predict"):
        tables = {"out_of_fold": predict_outer(experiment, tell=listener.tell)}
        if experiment.given:
            tables["as_given"] = predict_given(experiment, tables["out_of_fold"], tell=listener.tell)
        if cohort.unlabelled:
            tables["test"] = predict_unlabelled(experiment, tell=listener.tell)
        if cohort.sealed:
            tables["sealed"] = predict_unlabelled(experiment, part="sealed", tell=listener.tell)
        inner = tabulate_inner(experiment)
        settled = write_predictions(experiment.run, inner, tables, recipe=experiment.recipe, classes=cohort.classes)
        embeddings = experiment.compare_images()
        if embeddings is not None:
            images = tuple(s.image for s in cohort.labelled)
            Embeddings(images, embeddings.numpy()).write_file(experiment.run.path / EMBEDDINGS)
        if cohort.unlabelled:
            submit(
                experiment.run, cohort, settled["test"], inner=inner, scores=tables["test"],
                calibration=choose_calibration(experiment.recipe), listener=listener,
            )  # fmt: skip
