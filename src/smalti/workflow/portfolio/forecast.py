"""What members of a portfolio will cost, told from a few images before any is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from ... import recipe
from ...recipe import Recipe
from ...records.layout import HASHES
from ...store import hash_files, hash_text
from ...tile import count_tiles
from ...types import Cohort, FeatureSpec, Sample
from .work import BACKWARD, MOST_FOLDS, count_learned, measure_work

PROBED = 6  # images that are cut to see how long that takes
PROBED_TILES = 24  # of an image that are cut, and that go through each backbone
PROBED_S = 5.0  # for images of one kind of tiles; a slide takes long, and one says enough
AHEAD = 1.5  # two threads cut, and share the cores with the writing; a guess: three forecasts were within 10 %
HEAD_S = 1.6e-9  # of a solved head: for each image, dimension, class, step of the solver and fold; from 780 images
HEAD_STEPS = 3000  # of the solver along its path, in all turns
READ_S = 3e-9  # of a number of given features: read and turned into float32
LEARN_S = 3e-8  # of a number of them, through an attention of usual width and back
FIXED_S = 0.8  # of a member: folders, tables, scores
TILE_BYTES = 3.3  # of a stored pixel, with its mask


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one member costs.

    Attributes:
        seconds: alone, with nothing of it there yet.
        shares: part of it that other members share: name of what is shared -> seconds.
        tiles: that will be cut, about.
        memory_gb: beside what the process holds when it begins.
        disk_gb: of tiles and features.
    """

    seconds: float
    shares: dict[str, float]
    tiles: int
    memory_gb: float
    disk_gb: float


@dataclass
class Prober:
    """Cuts and embeds a few images, once for all members that share tiles or backbone.

    Attributes:
        cohort: what will be cut.
        cache: where hashes of files that are known already lie.
        cut: tiles of an image, and seconds for one, by tile settings.
        passes: seconds for a tile, by backbone and side.
    """

    cohort: Cohort
    cache: Path
    cut: dict[str, tuple[float, float]] = field(default_factory=dict)
    passes: dict[str, float] = field(default_factory=dict)

    def forecast(self, recipe: Recipe) -> Forecast:
        """Forecast what a member costs.

        Raises:
            WeightsError: its weights cannot be had.
            DataError: an image cannot be read.
        """
        from ...models import build_backbone
        from ...tile import settle_field
        from ...train import time_pass

        if self.cohort.features is not None:
            return _forecast_given(recipe, self.cohort, self.cohort.features)
        backbone = build_backbone(recipe.model)
        tile_px = recipe.tile.size_px or backbone.spec.size_px
        tile = settle_field(recipe.tile, self.cohort.labelled, tile_px=tile_px, fixed=backbone.spec.fixed)
        tile_px = tile.size_px or tile_px
        images, views = len(self.cohort.samples), max(recipe.train.transfer.views, recipe.predict.views)
        cutting, count = self._cut(tile, tile_px)
        if (name := f"{backbone.name} {tile_px}") not in self.passes:  # seconds of one tile, after a pass that warms up
            self.passes[name] = time_pass(backbone, tile_px, recipe.train, tiles=PROBED_TILES)
        passing = self.passes[name]
        tiles = round(count * images)
        store, frozen = f"tiles {_name(tile, tile_px)}", recipe.train.transfer.epochs > 0
        shares = {store: cutting * images / AHEAD}
        shares[f"{store} {backbone.name} {recipe.model.embedding} {views}"] = passing * tiles * views * frozen
        side = tile_px**2
        tuned = measure_work(recipe, self.cohort).tuned_px / side * passing
        own = FIXED_S + tuned + _time_head(recipe, self.cohort, width=backbone.features)
        return Forecast(
            own + sum(shares.values()), shares, tiles,
            memory_gb=4 * views * images * backbone.features * 4 / 2**30,
            disk_gb=(tiles * side * TILE_BYTES + tiles * views * backbone.features * 4) / 1e9,
        )  # fmt: skip

    def _cut(self, tile: recipe.Tile, tile_px: int) -> tuple[float, float]:
        """Seconds and tiles of an image, the mean of an even choice of them."""
        from ...tile.cut import open_cut

        if (name := _name(tile, tile_px)) not in self.cut:
            chosen = choose_evenly(sorted(self.cohort.samples, key=lambda s: s.image), PROBED)
            hashes = hash_files((path for s in chosen for path in s.files), memo=self.cache / HASHES)
            seconds, counts = list[float](), list[int]()
            for sample in chosen:
                started = time.perf_counter()
                with open_cut(sample, tile, tile_px=tile_px, hashes=hashes) as cut:
                    opened = time.perf_counter()
                    some = min(len(cut), PROBED_TILES)
                    cut.take(0, some)
                    counts.append(len(cut))
                taking = (time.perf_counter() - opened) * len(cut) / max(some, 1)
                seconds.append(opened - started + taking)
                if sum(seconds) > PROBED_S:
                    break
            self.cut[name] = (float(np.mean(seconds)), float(np.mean(counts)))
        return self.cut[name]


def _time_head(recipe: Recipe, cohort: Cohort, *, width: int) -> float:
    """Seconds of the solved heads of all folds, for embeddings of this width."""
    cases, folds = len(cohort.labelled), MOST_FOLDS if recipe.split.folds == "auto" else recipe.split.folds
    # More dimensions than images are turned into as many.
    solving = cases * min(width, cases) * len(cohort.classes) * folds * len(recipe.split.seeds)
    return HEAD_S * HEAD_STEPS * solving


def _forecast_given(recipe: Recipe, cohort: Cohort, spec: FeatureSpec) -> Forecast:
    """Forecast a member on features: the files are read once for each pooler, and in each epoch of one that learns."""
    from ...models import build_pooler

    images, tiles = len(cohort.samples), sum(count_tiles(cohort.samples))
    pooler = build_pooler(recipe.model, features=spec.size, classes=len(cohort.classes))
    reading = READ_S * tiles * spec.size
    shares = {} if pooler.learns else {f"given {recipe.model.pooler} {recipe.model.pooler_options}": reading}
    own = FIXED_S + _time_head(recipe, cohort, width=pooler.features)
    if pooler.learns:
        seen, scored = count_learned(recipe, cohort)
        own = FIXED_S + (READ_S + LEARN_S) * spec.size * (seen + scored / BACKWARD)
    return Forecast(
        own + sum(shares.values()), shares, tiles,
        memory_gb=4 * images * pooler.features * 4 / 2**30, disk_gb=images * pooler.features * 4 / 1e9,
    )  # fmt: skip


def choose_evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """So many of the samples, or all, at even distances."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[i] for i in places]


def measure_resident() -> float:
    """Memory that this process holds now, GB."""
    return float(psutil.Process().memory_info().rss / 2**30)


def _name(tile: recipe.Tile, tile_px: int) -> str:
    return hash_text(tile.model_dump_json(), str(tile_px))[:8]
