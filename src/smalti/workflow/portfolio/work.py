"""What a recipe asks of a network, in pixels, before anything is cut or trained."""

from __future__ import annotations

from dataclasses import dataclass

from ...recipe import PLAIN_POOLERS, Recipe
from ...store import hash_text
from ...tile import count_tiles, settle_field
from ...tile.cut import bound_bag
from ...types import Cohort, FeatureSpec

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

    Of features that were made elsewhere numbers are counted in the place of pixels.

    Raises:
        DataError: an image cannot be read.
    """
    if cohort.features is not None:
        return _measure_given(recipe, cohort, cohort.features)
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


def count_learned(recipe: Recipe, cohort: Cohort) -> tuple[int, int]:
    """Return the tiles that a pooler learns from, and those that it only scores, in all epochs, passes and folds."""
    phase, counts = recipe.train.transfer, count_tiles(cohort.labelled)
    drawn = sum(counts if phase.tiles_per_image is None else (min(n, phase.tiles_per_image) for n in counts))
    folds = MOST_FOLDS if recipe.split.folds == "auto" else recipe.split.folds
    times = len(recipe.split.seeds) * folds * phase.epochs
    return times * drawn * (2 if recipe.train.refit else 1), times * sum(counts) // 2  # inner and watched images


def _measure_given(recipe: Recipe, cohort: Cohort, spec: FeatureSpec) -> Work:
    """Count numbers that are read and that are learned from."""
    name = hash_text(recipe.model.pooler, str(recipe.model.pooler_options))
    if recipe.model.pooler in PLAIN_POOLERS:
        return Work(name, float(spec.size * sum(count_tiles(cohort.samples))), 0.0)
    seen, scored = count_learned(recipe, cohort)
    return Work(name, 0.0, float(spec.size * (BACKWARD * seen + scored)))
