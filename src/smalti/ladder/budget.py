"""What a rung would cost before it is carried out, and whether that fits into what is left of the time given.

The pixels that go through the network stand for the cost; the rungs so far say how many seconds they take.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..recipe import Recipe
from ..runs import hash_text
from ..tile import settle_field
from ..tile.cut import bound_bag
from ..types import Cohort
from .plan import Step

BACKWARD = 3  # a step of training costs the forward pass, and the backward pass twice that
MOST_FOLDS = 5  # what split.folds=auto takes at most


@dataclass(frozen=True, slots=True)
class Work:
    """What a rung asks of the network.

    Attributes:
        features: names what frozen features depend on; rungs that share it compute them once.
        frozen_px: pixels for these.
        tuned_px: pixels of all other passes, each backward pass counted as two.
    """

    features: str
    frozen_px: float
    tuned_px: float


@dataclass
class Budget:
    """Minutes for one call of a ladder; None is all the time there is.

    Attributes:
        minutes: what was given.
        seconds, pixels: of the rungs that were measured so far.
        known: features that are there.
    """

    minutes: float | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    pixels: float = 0.0
    known: set[str] = field(default_factory=set)

    def refuse(self, work: Work) -> str | None:
        """Why a rung does not fit into what is left; None where it does, or where nothing is known yet."""
        if self.minutes is None or not self.pixels:
            return None
        needed = self.seconds / self.pixels * self._count(work) / 60
        left = self.minutes - (time.monotonic() - self.started) / 60
        if needed <= max(0.0, left):
            return None
        return (
            f"needs about {needed:.1f} min; {max(0.0, left):.1f} of {self.minutes:g} min were left. Fix: call again "
            "with the same budget, which goes on here, or with a larger one"
        )

    def learn(self, work: Work, seconds: float) -> None:
        """Take account of a rung that was carried out, now or in an earlier call."""
        self.seconds += seconds
        self.pixels += self._count(work)
        self.known.add(work.features)

    def _count(self, work: Work) -> float:
        return work.tuned_px + (0.0 if work.features in self.known else work.frozen_px)


def measure_work(step: Step, cohort: Cohort) -> Work:
    """An upper bound, from the recipe and the sizes of the images: no mask is looked at, and no epoch is saved.

    Raises:
        DataError: an image cannot be read.
    """
    from ..models import read_input_px  # torch is dear to import, and a ladder that is finished needs none

    recipe = step.recipe
    if step.members:
        return Work("", 0.0, 0.0)
    tile_px = recipe.tile.size_px or read_input_px(recipe.model)
    tile = settle_field(recipe.tile, cohort.labelled, tile_px=tile_px)
    tile_px = tile.size_px or tile_px
    tiles = {s.image: bound_bag(s, tile, tile_px=tile_px) for s in cohort.samples}
    views = max(recipe.train.transfer.views, recipe.predict.views if recipe.train.finetune.epochs == 0 else 1)
    frozen = sum(tiles.values()) * views if recipe.train.transfer.epochs else 0
    sections = recipe.model_dump_json(include={"tile": True, "model": {"backbone", "weights", "pretrained"}})
    tuned = _count_tuned(recipe, tiles, labelled=len(cohort.labelled))
    return Work(hash_text(sections, str(views)), float(frozen * tile_px**2), float(tuned * tile_px**2))


def _count_tuned(recipe: Recipe, tiles: dict[str, int], *, labelled: int) -> int:
    """Tiles through an unfrozen network: in training, and at prediction by the network of each fold and seed."""
    phase = recipe.train.finetune
    if not phase.epochs:
        return 0
    folds = MOST_FOLDS if recipe.split.folds == "auto" else recipe.split.folds
    passes = 2 if recipe.train.refit else 1
    trained = BACKWARD * passes * folds * phase.epochs * labelled * phase.tiles_per_image
    scored = sum(tiles.values()) * recipe.predict.views
    return len(recipe.split.seeds) * (trained + scored)
