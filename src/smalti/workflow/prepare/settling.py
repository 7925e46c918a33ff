"""What ``auto`` stands for in a recipe, and what becomes of it where no weights can be had; each is said."""

from __future__ import annotations

from ...project import Listener
from ...recipe import AUTO, STEPS, Recipe, Train, list_turned, overlay_recipe, settle_choices


def settle_recipe(recipe: Recipe, *, listener: Listener) -> Recipe:
    """The recipe with backbone, head, norm, embedding and rates settled; from scratch where it allows that and no
    weights can be had."""
    from ...models import describe_missing_weights, find_weights
    from ...train import settle_train

    (recipe,), notes = settle_choices([recipe])
    for note in notes:
        listener.say(note)
    if recipe.model.without_weights == "scratch" and find_weights(recipe.model) is None:
        listener.say(f"{describe_missing_weights(recipe.model).message}; a small backbone starts from scratch")
        recipe = overlay_recipe(recipe, "scratch")
    recipe = _settle_norm(recipe, listener=listener)
    recipe = recipe.model_copy(update={"train": settle_train(recipe.train)})
    turned = list_turned(recipe.model, recipe.train, plain=settle_train(Train()))
    if turned and recipe.model.head != STEPS and not recipe.train.finetune.epochs:
        listener.say(
            f"head {recipe.model.head} is solved and not learned in steps, so that nothing reads {', '.join(turned)}"
        )
    return recipe


def _settle_norm(recipe: Recipe, *, listener: Listener) -> Recipe:
    """The recipe with the norm that ``auto`` stands for; the reason is said where it matters."""
    from ...models import choose_norm

    if recipe.model.norm != AUTO:
        return recipe
    model = recipe.model
    known = model.backbone.startswith(("hf-hub:", "local-dir:", "described:"))
    trained = model.pretrained or model.weights is not None or known
    name, reason = choose_norm(recipe.train, pretrained=trained)
    if recipe.train.finetune.epochs > 0:
        listener.say(f"norm {name}: {reason}")
    return recipe.model_copy(update={"model": model.model_copy(update={"norm": name})})
