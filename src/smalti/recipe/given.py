"""A recipe on features that were made elsewhere: what needs pixels is not applicable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import RecipeError
from ..types import FeatureSpec
from .automatic import AUTO, GIVEN
from .loading import load_recipe
from .recipe import Recipe

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
        RecipeError: knobs that need pixels were turned; all are named at once.
    """
    preset, given = load_recipe(recipe.preset), f"{GIVEN}{spec.size}"
    own, usual = (dict(_walk(r.model_dump(mode="json"))) for r in (recipe, preset))
    turned = [
        name for name in own
        if name.startswith(tuple(f"{knob}." for knob in OF_PIXELS) + OF_PIXELS) and own[name] != usual[name]
        and own[name] not in {AUTO, given}
    ]  # fmt: skip
    if turned:
        raise RecipeError(
            f"not applicable: {NO_PIXELS}, and {', '.join(turned)} would have no effect",
            fix="leave it out on a folder of features",
        )
    plain = Recipe()
    transfer = recipe.train.transfer if recipe.train.transfer.epochs else plain.train.transfer
    finetune = recipe.train.finetune.model_copy(update={"epochs": 0})
    model = recipe.model.model_copy(update={
        "backbone": given, "pretrained": True, "weights": None, "embedding": "last", "norm": "live",
        "coverage_weights": False, "mask_channel": False, "fusion": None,
    })  # fmt: skip
    return recipe.model_copy(update={
        "tile": plain.tile, "stain": plain.stain, "model": model,
        "train": recipe.train.model_copy(update={
            "transfer": transfer.model_copy(update={"views": 1}), "finetune": finetune,
        }),
        "predict": recipe.predict.model_copy(update={"views": 1}),
    })  # fmt: skip


def _walk(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
