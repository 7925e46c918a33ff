"""A recipe on features that were made elsewhere: what needs pixels is not applicable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ..errors import NotApplicableError
from ..types import FeatureSpec
from .automatic import AUTO, GIVEN, settle_backbone
from .loading import load_recipe
from .recipe import Recipe
from .training import Transfer

STEP_BYTES = 2**28  # of the tiles of one step as float32; learning holds about four times as much
BATCH_IMAGES = 32  # larger batches are asked for, and have what they need
LEAST_TILES = 64  # drawn from each bag all the same
NO_PIXELS = "features have no pixels"
# Knobs, and whole sections, that look at pixels or masks, or make features.
OF_PIXELS = (
    "tile", "stain", "train.finetune", "train.transfer.views", "predict.views", "model.backbone", "model.pretrained",
    "model.weights", "model.weights_part", "model.without_weights", "model.embedding", "model.norm",
    "model.coverage_weights", "model.mask_channel", "model.fusion",
)  # fmt: skip


def settle_given(recipe: Recipe, spec: FeatureSpec) -> Recipe:
    """Return the recipe for features of this size: nothing is cut, stained, turned or fine-tuned.

    What its preset says about pixels is left out. What was asked for beyond that is refused.

    Raises:
        NotApplicableError: knobs that need pixels were turned; all are named at once.
    """
    preset, plain = load_recipe(recipe.preset), Recipe()
    tuned = recipe.train.finetune
    transfer = recipe.train.transfer if recipe.train.transfer.epochs else plain.train.transfer
    pixels = {
        "backbone": f"{GIVEN}{spec.size}", "pretrained": True, "weights": None, "weights_part": None,
        "without_weights": "error", "embedding": "last", "norm": "live", "coverage_weights": False,
        "mask_channel": False, "fusion": None,
    }  # fmt: skip
    phases = {
        "transfer": transfer.model_copy(update={"views": 1, "tiles_per_image": _bound_tiles(transfer, spec)}),
        # Knobs of a phase that is skipped anyway say nothing, and a resolved recipe has its rates there.
        "finetune": tuned if tuned.epochs == 0 else plain.train.finetune.model_copy(update={"epochs": 0}),
    }
    settled = recipe.model_copy(update={
        "tile": plain.tile, "stain": plain.stain, "model": recipe.model.model_copy(update=pixels),
        "train": recipe.train.model_copy(update=phases), "predict": recipe.predict.model_copy(update={"views": 1}),
    })  # fmt: skip
    own, usual, final = (dict(_walk(r.model_dump(mode="json"))) for r in (recipe, preset, settled))
    # A ladder settles backbone and embedding of all its rungs before the data is read: nobody asked for these.
    unasked = {AUTO, settle_backbone(preset.model).backbone, "stages"}
    turned = [
        name for name in own
        if needs_pixels(name) and own[name] not in {usual[name], final[name], *unasked}
    ]  # fmt: skip
    if turned:
        raise NotApplicableError(
            f"not applicable: {NO_PIXELS}, and {', '.join(turned)} would have no effect",
            fix="leave it out on a folder of features",
        )
    return settled


def needs_pixels(name: str) -> bool:
    """Return whether a knob, or a whole section, looks at pixels or masks, or makes features."""
    return any(name == knob or name.startswith(f"{knob}.") for knob in OF_PIXELS)


def _bound_tiles(transfer: Transfer, spec: FeatureSpec) -> int | None:
    """Return the most tiles that are drawn from a bag at each step, so that a step stays in memory.

    What the recipe says is kept. A power of two, so that cohorts of alike bags have the same.
    """
    if transfer.tiles_per_image is not None:
        return transfer.tiles_per_image
    room = STEP_BYTES // (4 * spec.size * min(transfer.batch_images, BATCH_IMAGES))
    most = max(LEAST_TILES, 2 ** int(math.log2(max(room, 1))))
    return most if spec.most_tiles > most else None


def _walk(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
