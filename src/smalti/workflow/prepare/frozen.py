"""What a frozen backbone sees in each fold: features of every tile, computed once for folds that see the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...project import SILENT, Project
from ...recipe import Settled
from ...records import RunFolder
from ...types import Cohort, Split
from .staining import fit_stains

if TYPE_CHECKING:
    from ...models import Backbone
    from ...samples import StainMaps
    from ...train import Experiment, FrozenFeatures


def freeze_features(
    project: Project, recipe: Settled, backbone: Backbone, stains: dict[str, StainMaps], *, fabric: Any, classes: int
) -> dict[str, FrozenFeatures]:
    """Return name of a split -> frozen features, in as many views as training or prediction wants.

    Empty where no phase needs any.
    """
    from ...train import compute_features, freeze

    train = recipe.train
    if train.transfer.epochs == 0:
        return {}
    views = max(train.transfer.views, recipe.predict.views if train.finetune.epochs == 0 else 1)
    seen: dict[str, FrozenFeatures] = {}
    for maps in stains.values():
        if maps.key not in seen:
            features = compute_features(
                backbone,
                maps.store,
                views=views,
                fabric=fabric,
                cache=project.cache,
                stains=maps,
                progress=project.listener.follow("features"),
                say=project.listener.say,
            )
            seen[maps.key] = freeze(features, recipe, classes=classes)
    return {name: seen[maps.key] for name, maps in stains.items()}


def refold(
    project: Project, experiment: Experiment, cohort: Cohort, splits: tuple[Split, ...], *, run_folder: RunFolder
) -> Experiment:
    """Return the experiment on a part of its cohort, in other folds, each with what it may see of its own images."""
    stains = fit_stains(cohort, experiment.store, experiment.recipe, splits=splits)
    frozen = freeze_features(
        replace(project, listener=SILENT), experiment.recipe, experiment.backbone, stains,
        fabric=experiment.fabric, classes=len(cohort.classes),
    )  # fmt: skip
    return replace(experiment, run=run_folder, cohort=cohort, splits=splits, frozen=frozen, stains=stains)
