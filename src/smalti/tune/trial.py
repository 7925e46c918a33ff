"""One trial: a recipe learned and scored inside the cases that an outer fold leaves for choosing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DivergenceError, PartError, RecipeError
from ..evaluate import average_cases
from ..metrics import METRICS
from ..recipe import Recipe
from ..records import RunFolder
from ..store import hash_text
from ..types import Cohort, Split, score_columns
from ..workflow import SILENT, Ground, Listener
from ..workflow.prepare.policies import check_policy
from ..workflow.prepare.preparation import prepare, refold
from ..workflow.prepare.settling import resolve_plan
from ..workflow.prepare.units import settle_unit

if TYPE_CHECKING:
    from ..train import Experiment

UNFIT = (RecipeError, PartError, DivergenceError)  # values that fit alone and not together, or that learn nothing


@dataclass
class Bench:
    """Where recipes are tried: one data folder, whose tiles and features all trials share.

    Attributes:
        runs: folder of all runs; its cache is used.
        folder: of the search, inside ``runs``.
        plan: the untuned recipe, whose folds are the outer ones.
    """

    ground: Ground
    runs: Path
    folder: Path
    plan: Recipe
    listener: Listener = SILENT
    prepared: dict[str, tuple[Experiment, tuple[Split, ...]]] = field(default_factory=dict)

    def count(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take a prediction table as the plan's scores count it: as it is, or its means by case."""
        if settle_unit(self.ground, self.plan).unit == "image":
            return table
        return average_cases(table, self.ground.cases, classes=self.ground.cohort.classes)

    def prepare(self, recipe: Recipe) -> tuple[Experiment, tuple[Split, ...]]:
        """An experiment on the whole cohort that is ready to learn, and its outer folds.

        Recipes that differ only in how they learn share tiles and features.
        """
        plan = resolve_plan(recipe.model_copy(update={"split": self.plan.split}), listener=SILENT)
        # Features are needed by phases that are there at all, in the views that they want.
        phases = [getattr(plan.train, name).epochs > 0 for name in ("transfer", "finetune")]
        shared = (plan.train.transfer.views, plan.train.device, plan.train.precision)
        key = f"{plan.model_dump_json(exclude={'train'})}{phases}{shared}"
        if key in self.prepared:  # what `prepare` looks at in the recipe it is given, it has not seen in this one
            self._check(plan, *self.prepared[key])
        else:
            name = f"{self.folder.relative_to(self.runs)}/prepared/{hash_text(plan.to_yaml())[:8]}"
            self.prepared[key] = prepare(self.ground, plan, runs=self.runs, name=name, listener=self.listener)
        experiment, splits = self.prepared[key]
        return replace(experiment, recipe=plan), splits

    def _check(self, plan: Recipe, experiment: Experiment, splits: tuple[Split, ...]) -> None:
        """What a recipe must hold whoever prepared for it: parts that work, a policy that no scored image chose."""
        from ..train import check_parts

        check_parts(plan)
        check_policy(plan, self.ground, splits, digests=experiment.digests)

    def check_choices(self, recipes: Iterable[Recipe]) -> None:
        """See whether recipes can be learned at all, so that a slip is told before the search and not inside it.

        Raises:
            RecipeError: what is wrong, all at once.
        """
        experiment, splits = self.prepare(self.plan)
        faults: list[str] = []
        for recipe in recipes:
            try:
                self._check(resolve_plan(recipe, listener=SILENT), experiment, splits)
            except (PartError, RecipeError) as error:
                faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(["the space does not fit:", *dict.fromkeys(faults)]))

    def try_recipe(self, recipe: Recipe, images: NDArray[np.int64], *, name: str) -> Iterator[float]:
        """Macro-F1 of the folds inside some labelled images, pooled over those done so far, one after another.

        Args:
            recipe: its ``split`` says how many inner folds and which seeds.
            images: positions of the labelled images that may be looked at; no other label is.
            name: of the trial's own folder, which is gone afterwards.
        """
        from ..predict import predict_outer
        from ..samples import split_cases
        from ..train import train_split

        whole, _ = self.prepare(recipe)
        cohort = restrict_cohort(whole.cohort, images)
        path = self.folder / "trials" / name
        shutil.rmtree(path, ignore_errors=True)  # of a search that was killed: half a trial is no trial
        path.mkdir(parents=True)
        splits = split_cases(cohort, recipe.split)
        tables: list[pd.DataFrame] = []
        try:
            experiment = refold(whole, cohort, splits, run_folder=RunFolder(path), cache=self.runs / "cache")
            for split in splits:
                train_split(experiment, split)
                tables.append(predict_outer(experiment, (split,)))
                yield score_table(self.count(pd.concat(tables, ignore_index=True)), cohort.classes)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def score_outer(self, recipe: Recipe, split: Split, *, name: str) -> pd.DataFrame:
        """Out-of-fold table of one outer fold by a recipe that was chosen without it; continued where it was cut."""
        from ..predict import predict_outer
        from ..train import train_split

        experiment, _ = self.prepare(recipe)
        # A later call with more trials may choose another recipe for this fold.
        path = self.folder / "outer" / f"{name}-{hash_text(experiment.recipe.to_yaml())[:8]}"
        path.mkdir(parents=True, exist_ok=True)
        experiment = replace(experiment, run=RunFolder(path))
        if not (experiment.run.checkpoints / f"{split.name}.safetensors").is_file():
            train_split(experiment, split)
        return predict_outer(experiment, (split,))


def restrict_cohort(cohort: Cohort, images: NDArray[np.int64]) -> Cohort:
    """The cohort with only some labelled images, and with no others."""
    labelled = tuple(cohort.labelled[i] for i in images)
    return replace(cohort, labelled=labelled, unlabelled=(), sealed=())


def score_table(table: pd.DataFrame, classes: tuple[str, ...]) -> float:
    """Macro-F1 of a prediction table, pooled by seed and averaged over seeds."""
    position = {name: i for i, name in enumerate(classes)}
    scores = [
        METRICS.find("macro_f1").build(
            part["label"].astype(str).map(position).to_numpy(), part[score_columns(classes)].to_numpy()
        )
        for _, part in table.groupby("seed")
    ]
    return float(np.mean(scores))
