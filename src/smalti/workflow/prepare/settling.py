"""What becomes of a recipe on this data and machine: each ``auto``, missing weights, sizes; and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ... import images
from ...errors import DataError, Problem, RecipeError
from ...project import Listener
from ...recipe import (
    AUTO,
    NO_PIXELS,
    STEPS,
    Recipe,
    Settled,
    Tile,
    Train,
    list_turned,
    overlay_recipe,
    settle_choices,
    settle_given,
)
from ...types import FeatureSpec, Sample
from .ground import Ground

if TYPE_CHECKING:
    from ...models import Backbone

UNFITTED = ("average", "average_seeds")  # methods of ensembles that fit nothing


def settle_recipe(recipe: Recipe, features: FeatureSpec | None = None, *, listener: Listener) -> Settled:
    """Return the recipe with backbone, head, norm, embedding and rates settled; each choice is said.

    It starts from scratch where it allows that and no weights can be had. On ``features`` that were made elsewhere
    nothing that needs pixels is left in it.
    """
    from ...models import choose_norm, describe_missing_weights, find_weights
    from ...train import settle_train

    if features is not None:
        recipe = settle_given(recipe, features)
        listener.say(f"tiles, stain, augmentation, fine-tuning, views: not applicable, {NO_PIXELS}")
    (recipe,), notes = settle_choices([recipe])
    for note in notes:
        listener.say(note)
    if recipe.model.without_weights == "scratch" and find_weights(recipe.model) is None:
        listener.say(f"{describe_missing_weights(recipe.model).message}; a small backbone starts from scratch")
        recipe = overlay_recipe(recipe, "scratch")
    model = recipe.model
    if model.norm == AUTO:
        known = model.backbone.startswith(("hf-hub:", "local-dir:", "described:"))
        trained = model.pretrained or model.weights is not None or known
        norm, reason = choose_norm(recipe.train, pretrained=trained)
        if recipe.train.finetune.epochs > 0:
            listener.say(f"norm {norm}: {reason}")
        model = model.model_copy(update={"norm": norm})
    recipe = recipe.model_copy(update={"model": model, "train": settle_train(recipe.train)})
    turned = list_turned(recipe.model, recipe.train, plain=settle_train(Train()))
    if turned and recipe.model.head != STEPS and not recipe.train.finetune.epochs:
        listener.say(
            f"head {recipe.model.head} is solved and not learned in steps, so that nothing reads {', '.join(turned)}"
        )
    return Settled(recipe)


def check_rules(recipe: Recipe) -> None:
    """Check what is done after training, so that a slip is told before it.

    Raises:
        PartError: a calibration, decision or ensemble that does not exist; the message names the nearest.
        RecipeError: a rule on top of a stacker, whose inner scores are those that it was fitted to.
    """
    from ...predict import CALIBRATIONS, DECISIONS, ENSEMBLES

    CALIBRATIONS.find(recipe.predict.calibration)
    DECISIONS.find(recipe.predict.decision)
    ENSEMBLES.find(recipe.ensemble.method)
    combines = recipe.ensemble.members or recipe.portfolio.members is not None
    fitted = combines and recipe.ensemble.method not in UNFITTED
    if fitted and (recipe.predict.calibration, recipe.predict.decision) != ("none", "largest"):
        raise RecipeError(
            f"ensemble.method={recipe.ensemble.method} is fitted on the inner images, and a calibration or decision "
            "would be fitted on the same",
            fix="--set predict.calibration=none --set predict.decision=largest",
        )


def refuse_unscaled(samples: Sequence[Sample], tile: Tile) -> None:
    """Refuse to guess where tiles are to show microns and images do not say theirs.

    Raises:
        DataError: the recipe does not say what such images have.
    """
    if tile.mpp is None or tile.image_mpp is not None or tile.source != "tiles":
        return
    silent = [s.image for s in samples if images.read_mpp(s.path) is None]
    if not silent:
        return
    problem = Problem(
        "mpp-unknown",
        silent[0] + (f" and {len(silent) - 1} more" if len(silent) > 1 else ""),
        f"{len(silent)} of {len(samples)} images do not say their microns per pixel, and tile.mpp={tile.mpp:g} would "
        "show them at another scale than the others.",
        "--set tile.image_mpp=NUMBER says what these images have; --set tile.mpp=null takes all pixels as they are",
    )
    raise DataError("images of unknown scale", [problem])


def settle_sizes(
    ground: Ground, recipe: Settled, backbone: Backbone, *, listener: Listener
) -> tuple[Settled, int, tuple[str, ...]]:
    """Return the recipe with the field of its tiles, the side of a stored tile in px, and notes, which are said.

    All labelled images count, also those that decisions leave out, so that a decision changes no tile of another image.
    """
    from ...tile import note_sizes, settle_field

    if ground.cohort.features is not None:
        return recipe, 1, ()
    tile_px = recipe.tile.size_px or backbone.spec.size_px
    tile = settle_field(recipe.tile, ground.whole.labelled, tile_px=tile_px, fixed=backbone.spec.fixed)
    tile_px = tile.size_px or tile_px
    notes = note_sizes(tile, ground.whole.samples, tile_px=tile_px)
    for note in notes:
        listener.say(note)
    return Settled(recipe.model_copy(update={"tile": tile})), tile_px, notes
