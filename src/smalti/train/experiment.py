"""Everything that the folds of one run share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..models import POOLERS, Backbone, Pooler
from ..recipe import Recipe
from ..runs import RunFolder
from ..samples import AUGMENTATIONS
from ..tile import TileStore
from ..types import Cohort
from .devices import Device
from .optimisers import check_optimiser


@dataclass(frozen=True)
class Experiment:
    """One recipe on one cohort, ready to learn.

    Attributes:
        embeddings: frozen image embeddings (views, images of the store, D); None where no phase needs them.
    """

    run: RunFolder
    recipe: Recipe
    cohort: Cohort
    store: TileStore
    backbone: Backbone
    embeddings: torch.Tensor | None
    device: Device
    fabric: Fabric

    def build_pooler(self) -> Pooler:
        """A fresh pooler of the recipe."""
        return POOLERS.build(self.recipe.model.pooler)

    def find_bags(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in the store of labelled images."""
        return np.array([self.store.position(self.cohort.labelled[i].image) for i in indices], dtype=np.int64)


def check_parts(recipe: Recipe) -> None:
    """Look up every part that training will build, so that a slip is told before hours of tiles and features.

    Raises:
        PartError: a part that does not exist; the message names the nearest.
    """
    POOLERS.find(recipe.model.pooler)
    AUGMENTATIONS.find(recipe.train.finetune.augmentation)
    for phase in (recipe.train.transfer, recipe.train.finetune):
        check_optimiser(phase.optimiser)
