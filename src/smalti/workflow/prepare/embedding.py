"""Backbone features of whole images for the audit, which may not import what makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...project import Project
from ...recipe import Recipe, Tile
from ...records import Embeddings
from ...records.layout import POINTS
from ...types import Cohort


def embed_cohort(project: Project, cohort: Cohort, recipe: Recipe) -> Path | None:
    """Return a file with one embedding for each image, shrunk to the backbone's input; None without weights at hand.

    At hand are a weights file and a local folder; nobody waits for a hub to look at images.

    Raises:
        WeightsError: the weights that the recipe names cannot be had.
    """
    at_hand = recipe.model.weights is not None or recipe.model.backbone.startswith("local-dir:")
    if (
        cohort.features is not None
        or not at_hand
        or (recipe.audit.checks is not None and "foreign" not in recipe.audit.checks)
    ):
        return None
    from ...models import POOLERS, build_backbone
    from ...tile import build_store
    from ...train import choose_device, compute_features, make_fabric

    # Images are compared by what the backbone was trained to see, whatever becomes of its norm and its stages.
    backbone = build_backbone(recipe.model.model_copy(update={"norm": "live", "embedding": "last"}))
    labelled, unlabelled, sealed = (  # without masks, which are still to be audited
        tuple(replace(s, mask_path=None, repair=None) for s in part)
        for part in (cohort.labelled, cohort.unlabelled, cohort.sealed)
    )
    bare = replace(cohort, labelled=labelled, unlabelled=unlabelled, sealed=sealed)
    cache, follow = project.cache, project.listener.follow
    store = build_store(bare, Tile(source="whole"), tile_px=backbone.spec.size_px, cache=cache, progress=follow("tile"))
    fabric = make_fabric(choose_device(recipe.train))
    features = compute_features(backbone, store, views=1, fabric=fabric, cache=cache, progress=follow("features"))
    name = f"{features.files[0].parent.name}.npz"
    mean = POOLERS.build("mean", features.size, 1)
    embeddings = features.pool(mean)[0].numpy()  # (images, D); each image is one tile
    return Embeddings(tuple(store.images), embeddings).write_file(cache / POINTS / name)
