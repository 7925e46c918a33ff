"""One trial: a recipe trained and scored on the cases that an outer fold leaves for choosing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DivergenceError, NotApplicableError, PartError, RecipeError
from ..evaluate import average_cases
from ..metrics import METRICS
from ..project import SILENT, Project
from ..recipe import Recipe
from ..records import RunFolder
from ..records.layout import OUTER_RUNS, PREPARED, TRIAL_RUNS, name_checkpoint
from ..store import hash_text
from ..types import Cohort, Split, score_columns
from ..workflow import Ground
from ..workflow.prepare.frozen import refold
from ..workflow.prepare.policies import check_policy
from ..workflow.prepare.preparation import prepare
from ..workflow.prepare.settling import settle_recipe
from ..workflow.prepare.units import settle_unit
from ..workflow.units.ahead import train_ahead

if TYPE_CHECKING:
    from ..train import Experiment

UNFIT = (RecipeError, PartError, DivergenceError)  # values that do not fit together, or that learn nothing


@dataclass
class TrialRunner:
    """Trains and scores recipes on one data folder; all trials share its tiles and features.

    Attributes:
        project: its cache is used.
        folder: of the search, inside that of the runs.
        untuned: the recipe of the space with no knob turned; its folds are the outer ones.
    """

    project: Project
    ground: Ground
    folder: Path
    untuned: Recipe
    prepared: dict[str, Experiment] = field(default_factory=dict)

    def count(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a prediction table by the unit that scores: by image as it is, by case its means."""
        if settle_unit(self.ground, self.untuned).unit == "image":
            return table
        return average_cases(table, self.ground.cases, classes=self.ground.cohort.classes)

    def prepare(self, recipe: Recipe) -> Experiment:
        """Prepare an experiment on the whole cohort, in the outer folds.

        Recipes that differ only in how they learn share tiles and features.
        """
        split = recipe.model_copy(update={"split": self.untuned.split})
        settled = settle_recipe(split, self.ground.cohort.features, listener=SILENT)
        # Features are needed by phases that are there at all, in the views that they want.
        phases = [getattr(settled.train, name).epochs > 0 for name in ("transfer", "finetune")]
        shared = (settled.train.transfer.views, settled.train.device, settled.train.precision)
        train = settled.train
        beside = "" if train.pretrain.method is None and train.synthesis.method is None else train.model_dump_json()
        key = f"{settled.model_dump_json(exclude={'train'})}{phases}{shared}{train.pseudo.rounds > 0}{beside}"
        if key in self.prepared:  # `prepare` has checked another recipe, not this one
            self._check(settled, self.prepared[key])
        else:
            name = f"{self.folder.relative_to(self.project.runs)}/{PREPARED}/{hash_text(settled.to_yaml())[:8]}"
            self.prepared[key] = prepare(self.project, self.ground, settled, name=name)
        return replace(self.prepared[key], recipe=settled)

    def _check(self, recipe: Recipe, experiment: Experiment) -> None:
        """Check that the parts of a recipe work and that no scored image chose its augmentation policy."""
        from ..train import check_parts

        check_parts(recipe)
        check_policy(recipe, self.ground, experiment.splits, digests=experiment.digests)

    def check_choices(self, recipes: Iterable[Recipe]) -> None:
        """Check that recipes can be trained at all, so that a mistake is reported before the search begins.

        Raises:
            RecipeError: everything that is wrong.
        """
        experiment = self.prepare(self.untuned)
        faults: list[str] = []
        for recipe in recipes:
            try:
                self._check(settle_recipe(recipe, self.ground.cohort.features, listener=SILENT), experiment)
            except NotApplicableError:
                continue  # its knob is left out of the search, which says why
            except (PartError, RecipeError) as error:
                faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(["the space does not fit:", *dict.fromkeys(faults)]))

    def try_recipe(self, recipe: Recipe, images: NDArray[np.int64], *, name: str) -> Iterator[float]:
        """Yield macro-F1 after each inner fold of some labelled images, pooled over the folds so far.

        Args:
            recipe: its ``split`` says how many inner folds and which seeds.
            images: positions of the labelled images that may be seen.
            name: of the trial's own folder, which is deleted at the end.
        """
        from ..predict import predict_outer
        from ..samples import split_cases
        from ..train import train_split

        whole = self.prepare(recipe)
        cohort = restrict_cohort(whole.cohort, images)
        path = self.folder / TRIAL_RUNS / name
        shutil.rmtree(path, ignore_errors=True)  # left by a search that was killed
        path.mkdir(parents=True)
        splits = split_cases(cohort, recipe.split)
        tables: list[pd.DataFrame] = []
        try:
            experiment = refold(self.project, whole, cohort, splits, run_folder=RunFolder(path))
            train_ahead(self.project, experiment)  # also what a pruner would have spared
            for split in splits:
                if not (path / name_checkpoint(split.name)).is_file():
                    train_split(experiment, split)
                tables.append(predict_outer(replace(experiment, splits=(split,))))
                yield score_table(self.count(pd.concat(tables, ignore_index=True)), cohort.classes)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def score_outer(self, recipe: Recipe, split: Split, *, name: str) -> pd.DataFrame:
        """Return the out-of-fold table of an outer fold by a recipe that was chosen without it."""
        from ..predict import predict_outer
        from ..train import train_split

        experiment = self.prepare(recipe)
        # A later call with more trials may choose another recipe for this fold.
        path = self.folder / OUTER_RUNS / f"{name}-{hash_text(experiment.recipe.to_yaml())[:8]}"
        path.mkdir(parents=True, exist_ok=True)
        experiment = replace(experiment, run=RunFolder(path), splits=(split,))
        if not (path / name_checkpoint(split.name)).is_file():
            train_split(experiment, split)
        return predict_outer(experiment)


def restrict_cohort(cohort: Cohort, images: NDArray[np.int64]) -> Cohort:
    """Return the cohort with some of its labelled images and nothing else."""
    labelled = tuple(cohort.labelled[i] for i in images)
    return replace(cohort, labelled=labelled, unlabelled=(), sealed=())


def score_table(table: pd.DataFrame, classes: tuple[str, ...]) -> float:
    """Return macro-F1 of a prediction table, pooled by seed and averaged over seeds."""
    position = {name: i for i, name in enumerate(classes)}
    scores = [
        METRICS.find("macro_f1").build(
            part["label"].astype(str).map(position).to_numpy(), part[score_columns(classes)].to_numpy()
        )
        for _, part in table.groupby("seed")
    ]
    return float(np.mean(scores))
