"""What ``auto`` stands for in a recipe, and what becomes of it where no weights can be had; each is said."""

from __future__ import annotations

from ...recipe import AUTO, STEPS, Recipe, Train, list_turned, overlay_recipe, settle_choices
from ..listening import Listener


def resolve_plan(plan: Recipe, *, listener: Listener) -> Recipe:
    """The recipe with backbone, head, norm, embedding and rates settled; from scratch where it allows that and no
    weights can be had."""
    from ...models import describe_missing_weights, find_weights
    from ...train import settle_train

    (plan,), notes = settle_choices([plan])
    for note in notes:
        listener.say(note)
    if plan.model.without_weights == "scratch" and find_weights(plan.model) is None:
        listener.say(describe_missing_weights(plan.model).split(". Fix")[0] + "; a small backbone starts from scratch")
        plan = overlay_recipe(plan, "scratch")
    plan = _settle_norm(plan, listener=listener)
    plan = plan.model_copy(update={"train": settle_train(plan.train)})
    turned = list_turned(plan.model, plan.train, plain=settle_train(Train()))
    if turned and plan.model.head != STEPS and not plan.train.finetune.epochs:
        listener.say(
            f"head {plan.model.head} is solved and not learned in steps, so that nothing reads {', '.join(turned)}"
        )
    return plan


def _settle_norm(plan: Recipe, *, listener: Listener) -> Recipe:
    """The recipe with the norm that ``auto`` stands for; the reason is said where it matters."""
    from ...models import choose_norm

    if plan.model.norm != AUTO:
        return plan
    model = plan.model
    known = model.backbone.startswith(("hf-hub:", "local-dir:", "described:"))
    trained = model.pretrained or model.weights is not None or known
    name, reason = choose_norm(plan.train, pretrained=trained)
    if plan.train.finetune.epochs > 0:
        listener.say(f"norm {name}: {reason}")
    return plan.model_copy(update={"model": model.model_copy(update={"norm": name})})
