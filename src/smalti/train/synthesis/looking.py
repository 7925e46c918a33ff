"""Drawn images as a frozen backbone sees them: drawn once for all folds, each fold takes those that it may know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ...errors import RecipeError
from ...models import POOLERS, Backbone, hash_weights
from ...recipe import PLAIN_POOLERS, STEPS, Recipe, Settled
from ...registry import read_options
from ...samples import StainMaps
from ...store import hash_code, hash_text, read_arrays, write_arrays
from ...tile import TileStore
from ...types import Cohort
from ..halving import Embedder
from .drawers import DRAWERS, Material

SHOWN = 12  # drawn images of which a tile is kept to be looked at
NAMES = ("embeddings", "targets", "sources", "lengths", "drawn", "real")
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnImages:
    """All images that were drawn from the labelled images of a cohort.

    Attributes:
        embeddings: (k, D) pooled, as the images of the run are.
        targets: (k,) classes.
        sources: of each, positions among the labelled images, first the one that gave the class.
        drawn, real: (m, H, W, 3) a tile of some of them, and the tile that it was drawn over.
    """

    embeddings: NDArray[np.float32]
    targets: NDArray[np.int64]
    sources: tuple[NDArray[np.int64], ...]
    drawn: NDArray[np.uint8]
    real: NDArray[np.uint8]


def check_synthesis(recipe: Recipe) -> None:
    """Refuse what drawn images cannot teach beside.

    Raises:
        PartError: there is no such way of drawing, or its options.
        RecipeError: all that stands against it, at once.
    """
    knobs, train = recipe.train.synthesis, recipe.train
    if knobs.method is None:
        return
    DRAWERS.build(knobs.method, **read_options(knobs.options))
    asked = [
        (recipe.model.head == STEPS, f"model.head={STEPS} learns in steps", "model.head=logistic"),
        (train.finetune.epochs > 0, "phase finetune opens the backbone", "train.finetune.epochs=0"),
        (
            train.pretrain.method is not None,
            "phase pretrain makes a backbone for each fold",
            "train.pretrain.method=null",
        ),
        (train.pseudo.rounds > 0, "pseudo-labels teach the same head", "train.pseudo.rounds=0"),
        (train.noise.method != "none", "doubted labels teach the same head", "train.noise.method=none"),
        (recipe.model.transform != "none", "a transform is fitted in each fold", "model.transform=none"),
        (train.transfer.views > 1, "views of the tiles are stored", "train.transfer.views=1"),
        (recipe.stain.normalise != "none", "each fold has a stain of its own", "stain.normalise=none"),
        (recipe.model.pooler not in PLAIN_POOLERS, f"pooler '{recipe.model.pooler}' learns", "model.pooler=mean"),
    ]
    if wrong := [(what, fix) for found, what, fix in asked if found]:
        raise RecipeError(
            f"drawn images teach a solved head beside the real ones, and {', '.join(what for what, _ in wrong)}",
            fix=" ".join(f"--set {fix}" for _, fix in wrong),
        )


def look_at_drawn(
    recipe: Settled,
    cohort: Cohort,
    store: TileStore,
    backbone: Backbone,
    stains: StainMaps,
    *,
    fabric: Fabric,
    cache: Path,
    tell: Tell | None = None,
) -> DrawnImages:
    """Draw from all labelled images and embed what was drawn, from the cache where that was done.

    Raises:
        RecipeError: no image came with a mask.
    """
    if not any(s.mask_path for s in cohort.labelled):
        raise RecipeError(
            "images are drawn along masks, and no labelled image has one", fix="--set train.synthesis.method=null"
        )
    knobs, model = recipe.train.synthesis, recipe.model
    rows = [f"{s.image}|{s.label}|{s.case}" for s in cohort.labelled]
    asked = hash_text(*rows, knobs.model_dump_json(include={"method", "options"}))
    key = hash_text(
        asked, store.key, hash_weights(backbone.module), backbone.name, str(backbone.spec), model.pooler,
        str(model.pooler_options), str(model.coverage_weights), torch.__version__,
        f"{fabric.device.type} {fabric._precision.precision}",
        hash_code("smalti.train.synthesis"),  # it imports all ways
    )  # fmt: skip
    place = cache / "drawn" / f"{key}.npz"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(
            place, _draw(recipe, cohort, store, backbone, stains, fabric=fabric, seed=int(asked[:8], 16), tell=tell)
        )
    arrays = read_arrays(place, NAMES)
    ends = np.cumsum(arrays["lengths"])
    sources = tuple(np.split(arrays["sources"], ends[:-1])) if len(ends) else ()
    return DrawnImages(arrays["embeddings"], arrays["targets"], sources, arrays["drawn"], arrays["real"])


def _draw(
    recipe: Settled,
    cohort: Cohort,
    store: TileStore,
    backbone: Backbone,
    stains: StainMaps,
    *,
    fabric: Fabric,
    seed: int,
    tell: Tell | None,
) -> dict[str, NDArray[np.generic]]:
    knobs, model = recipe.train.synthesis, recipe.model
    bags = np.array([store.position(s.image) for s in cohort.labelled], dtype=np.int64)
    cases = np.unique([s.case for s in cohort.labelled], return_inverse=True)[1].ravel()
    material = Material(store, bags, cohort.targets, cases, stains)
    pooler = POOLERS.build(model.pooler, backbone.features, len(cohort.classes), **read_options(model.pooler_options))
    embedder = Embedder(fabric.setup_module(backbone.module).eval(), backbone.spec, device=fabric.device)
    drawer = DRAWERS.build(str(knobs.method), **read_options(knobs.options))
    embeddings, targets, sources = [], [], []
    drawn: list[NDArray[np.uint8]] = []
    real: list[NDArray[np.uint8]] = []
    for one in drawer(material, np.random.default_rng(seed)):
        tiles = torch.from_numpy(embedder.embed(one.tiles))[None]
        with torch.inference_mode():
            coverage = torch.from_numpy(one.coverage)[None] if model.coverage_weights else None
            embeddings.append(pooler(tiles, coverage=coverage).embedding[0].numpy())
        if len(drawn) < SHOWN:
            # The tile in which mask and surroundings both show most.
            tile = int(np.abs(one.coverage - 0.5).argmin())
            drawn.append(one.tiles[tile])
            real.append(store.read_tiles(np.array([store.rows(int(bags[one.sources[0]])).start + tile]))[0])
        targets.append(one.target)
        sources.append(one.sources)
        if tell is not None:
            tell(len(targets), len(bags))
    side = store.tile_px
    empty = np.empty((0, side, side, 3), dtype=np.uint8)
    return {
        "embeddings": np.array(embeddings, dtype=np.float32).reshape(len(targets), pooler.features),
        "targets": np.array(targets, dtype=np.int64),
        "sources": np.concatenate([np.empty(0, np.int64), *sources]).astype(np.int64),
        "lengths": np.array([len(s) for s in sources], dtype=np.int64),
        "drawn": np.stack(drawn) if drawn else empty, "real": np.stack(real) if real else empty,
    }  # fmt: skip
