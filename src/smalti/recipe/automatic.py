"""Choices behind ``auto``: a backbone by what is installed, a head by what learns beside it. No network is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from ..packages import PACKAGES, describe_package, find_package
from .recipe import Recipe
from .sections import Model
from .training import Train, Transfer

AUTO = "auto"
DESCRIBED = "described:"  # how the names begin of numbers that take the place of a network
GIVEN = "given:"  # how the name begins of what features were made with elsewhere; their number follows
STEPS = "steps"  # the head that is not solved
SOLVED = "logistic"  # the one that auto takes where a head can be solved
# Networks whose stages were measured against their last layer, by the beginning of their names.
STAGED = ("tf_efficientnet_lite", "mobilenetv2_")
USUAL, PACKAGED = "mobilenetv2_100", "tf_efficientnet_lite1"  # backbones
# Poolers without weights of their own; any other learns, and so cannot come before a head that is solved.
PLAIN_POOLERS = ("covariance", "logsumexp", "max", "mean", "mean_spread", "topk")
# Knobs of phase transfer that are of its steps; a solved head reads class weights and views, and has no epochs.
STEPPED = tuple(name for name in Transfer.model_fields if name not in {"epochs", "class_weights", "views"})


def settle_choices(recipes: Sequence[Recipe]) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """Return recipes with backbone, head and embedding that ``auto`` stands for, and what there is to say about it.

    The recipes are compared with each other: head and embedding are one for all of them, so that what differs is what
    they say and not what follows from it.
    """
    reasons = [_find_steps(recipe) for recipe in recipes if recipe.model.head == AUTO]
    steps = next((reason for reason in reasons if reason is not None), None)
    head, head_reason = (SOLVED, "nothing before it learns") if steps is None else (STEPS, steps)
    notes: list[str] = []
    settled = []
    for recipe in recipes:
        model = settle_backbone(recipe.model)
        if model is not recipe.model:
            why = f"package {PACKAGES[PACKAGED].name} is not installed"
            if model.backbone == PACKAGED:
                why = f"package {describe_package(PACKAGES[PACKAGED])} has its weights"
            if model.weights is not None:
                why = "model.weights is taken to be of it, unless model.backbone names another"
            notes.append(f"backbone {model.backbone}: {why}")
        if model.head == AUTO:
            model = model.model_copy(update={"head": head})
            notes.append(f"head {head}: {head_reason}")
        settled.append(recipe.model_copy(update={"model": model}))
    # The part of the networks that is read is one for all recipes. Descriptions have no stages, and do not count.
    networks = [recipe for recipe in settled if not recipe.model.backbone.startswith((DESCRIBED, GIVEN))]
    frozen = all(r.model.head not in {AUTO, STEPS} and r.train.finetune.epochs == 0 for r in networks)
    staged = frozen and networks and all(r.model.backbone.startswith(STAGED) for r in networks)
    for i, recipe in enumerate(settled):
        if recipe.model.embedding == AUTO:
            own = "stages" if staged and not recipe.model.backbone.startswith((DESCRIBED, GIVEN)) else "last"
            settled[i] = recipe.model_copy(update={"model": recipe.model.model_copy(update={"embedding": own})})
            if own == "stages":
                notes.append("embedding stages: the head is solved on a network whose stages tell tissue apart")
    return tuple(settled), tuple(dict.fromkeys(notes))


def settle_backbone(model: Model) -> Model:
    """Return the section with the backbone that ``auto`` stands for; what names a backbone stays as it is.

    That is one whose weights a package has, where the package is installed and no file is named. No hub is asked, so
    that the answer does not change with the network.
    """
    if model.backbone != AUTO:
        return model
    packaged = model.weights is None and find_package(PACKAGED) is not None
    return model.model_copy(update={"backbone": PACKAGED if packaged else USUAL})


def _find_steps(recipe: Recipe) -> str | None:
    """Return the reason why a head has to learn in steps; None where it can be solved."""
    if recipe.train.finetune.epochs:
        return "the backbone is fine-tuned (train.finetune.epochs)"
    if recipe.model.fusion is not None:
        return f"the branch of model.fusion={recipe.model.fusion} learns"
    if recipe.model.pooler not in PLAIN_POOLERS:
        return f"pooler '{recipe.model.pooler}' learns"
    turned = list_turned(recipe.model, recipe.train, plain=Train())
    return f"solved, it would not read {', '.join(turned)}" if turned else None


def list_turned(model: Model, train: Train, *, plain: Train) -> tuple[str, ...]:
    """Return knobs of a head that learns in steps which differ from ``plain``; a solved head reads none of them."""
    names = (*STEPPED, "epochs")
    turned = [f"train.transfer.{n}" for n in names if getattr(train.transfer, n) != getattr(plain.transfer, n)]
    return (*turned, *(["model.dropout"] if model.dropout != Model().dropout else []))
