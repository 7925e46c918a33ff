"""What a recipe asks of a network, in pixels, before anything is cut or trained."""

from __future__ import annotations

from dataclasses import dataclass

from ...recipe import Recipe
from ...store import hash_text
from ...tile import settle_field
from ...tile.cut import bound_bag
from ...types import Cohort

BACKWARD = 3  # a step of training costs the forward pass, and the backward pass twice that
MOST_FOLDS = 5  # what split.folds=auto takes at most


@dataclass(frozen=True, slots=True)
class Work:
    """What a recipe asks of the network.

    Attributes:
        features: names what frozen features depend on; recipes that share it compute them once.
        frozen_px: pixels for these.
        tuned_px: pixels of all other passes, each backward pass counted as two.
    """

    features: str
    frozen_px: float
    tuned_px: float


def measure_work(recipe: Recipe, cohort: Cohort) -> Work:
    """An upper bound, from the recipe and the sizes of the images: no mask is looked at, and no epoch is saved.

    Raises:
        DataError: an image cannot be read.
    """
    from ...models import read_input_px  # torch is dear to import, and a ladder that is finished needs none

    tile_px = recipe.tile.size_px or read_input_px(recipe.model)
    tile = settle_field(recipe.tile, cohort.labelled, tile_px=tile_px)
    tile_px = tile.size_px or tile_px
    tiles = {s.image: bound_bag(s, tile, tile_px=tile_px) for s in cohort.samples}
    views = max(recipe.train.transfer.views, recipe.predict.views if recipe.train.finetune.epochs == 0 else 1)
    frozen = sum(tiles.values()) * views if recipe.train.transfer.epochs else 0
    sections = recipe.model_dump_json(
        include={"tile": True, "model": {"backbone", "weights", "pretrained", "embedding"}}
    )
    phase, tuned = recipe.train.finetune, 0
    if phase.epochs:  # tiles through an unfrozen network: in training, and at prediction by that of each fold and seed
        folds = MOST_FOLDS if recipe.split.folds == "auto" else recipe.split.folds
        passes = 2 if recipe.train.refit else 1
        trained = BACKWARD * passes * folds * phase.epochs * len(cohort.labelled) * phase.tiles_per_image
        tuned = len(recipe.split.seeds) * (trained + sum(tiles.values()) * recipe.predict.views)
    return Work(hash_text(sections, str(views)), float(frozen * tile_px**2), float(tuned * tile_px**2))
