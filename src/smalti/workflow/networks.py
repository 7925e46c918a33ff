"""Networks of one recipe: trained in every fold, then asked for scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..audit import EMBEDDINGS_NAME, write_embeddings
from ..errors import RecipeError
from ..recipe import Recipe
from ..records import RunFolder
from ..store import read_table
from ..types import Split
from .listening import SILENT, Listener
from .portfolio.blending import choose_calibration, submit
from .prepare.ground import Ground
from .prepare.policies import warn_of_operations
from .prepare.preparation import prepare
from .staging import stage

if TYPE_CHECKING:
    from ..train import Experiment


def train_networks(
    ground: Ground, plan: Recipe, *, runs: Path, name: str | None, listener: Listener
) -> tuple[Experiment, tuple[Split, ...]]:
    """Everything from an inspected data folder to trained folds.

    Raises:
        RecipeError: the recipe asks for runs or members instead of networks of its own.
    """
    from ..train import train_folds

    if plan.ensemble.members:
        raise RecipeError("an ensemble trains no networks of its own. Fix: 'smalti run', which combines its members")
    if plan.portfolio.members is not None:
        raise RecipeError("a portfolio is trained member by member. Fix: 'smalti run', or --set portfolio.members=null")
    experiment, splits = prepare(ground, plan, runs=runs, name=name, listener=listener)
    with stage(experiment.run, "train"):
        train_folds(experiment, splits, tell=listener.tell)
    warn_of_divergence(experiment.run, listener=listener)
    warn_of_operations(experiment.run, listener=listener)
    return experiment, splits


def warn_of_divergence(run: RunFolder, *, listener: Listener) -> None:
    """Say where weights stopped being numbers."""
    path = run.path / "diverged.csv"
    if not path.is_file():
        return
    for row in read_table(path, "seed", "fold", "phase", "epoch").itertuples():
        listener.say(
            f"seed {row.seed}, fold {row.fold}: phase {row.phase} diverged in epoch {row.epoch} (weights that are no "
            "numbers); what was best before is kept. A lower rate or a warm-up may prevent it"
        )


def predict(experiment: Experiment, splits: tuple[Split, ...], *, listener: Listener = SILENT) -> None:
    """Out-of-fold scores, scores of the unlabelled part, the submission, and embeddings to compare images by."""
    from ..predict import predict_given, predict_outer, predict_sealed, predict_unlabelled, write_predictions
    from ..train import tabulate_inner

    cohort = experiment.cohort
    with stage(experiment.run, "predict"):
        tables = {"out_of_fold": predict_outer(experiment, splits, tell=listener.tell)}
        if experiment.given:
            tables["as_given"] = predict_given(experiment, splits, tables["out_of_fold"], tell=listener.tell)
        if cohort.unlabelled:
            tables["test"] = predict_unlabelled(experiment, splits, tell=listener.tell)
        if cohort.sealed:
            tables["sealed"] = predict_sealed(experiment, splits, tell=listener.tell)
        inner = tabulate_inner(experiment, splits)
        settled = write_predictions(experiment.run, inner, tables, recipe=experiment.recipe, classes=cohort.classes)
        embeddings = experiment.compare_images()
        if embeddings is not None:
            images = tuple(s.image for s in cohort.labelled)
            write_embeddings(experiment.run.predictions / EMBEDDINGS_NAME, images, embeddings.numpy())
        if cohort.unlabelled:
            submit(
                experiment.run, cohort, settled["test"], inner=inner, scores=tables["test"],
                calibration=choose_calibration(experiment.recipe), listener=listener,
            )  # fmt: skip
