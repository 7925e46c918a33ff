"""What phase ``pretrain`` needs, before hours of tiles and features."""

from __future__ import annotations

import torch

from ...errors import RecipeError
from ...models import is_described
from ...recipe import GIVEN, Recipe
from ...registry import read_options
from .objective import PRETRAININGS

TRIED = 8  # numbers and tiles of the batch that a method is tried on


def check_pretraining(recipe: Recipe) -> None:
    """Build the method and try it on a batch.

    Raises:
        PartError: no such method, or its options.
        MissingExtraError: it needs lightly, which is not installed.
        RecipeError: there is no network that could learn.
    """
    knobs, backbone = recipe.train.pretrain, recipe.model.backbone
    if knobs.method is None:
        return
    if is_described(backbone) or backbone.startswith(GIVEN):
        raise RecipeError(
            f"{backbone} has no weights that phase pretrain could go on training",
            fix="--set train.pretrain.method=null, or a network as model.backbone",
        )
    state = torch.get_rng_state()
    objective = PRETRAININGS.build(knobs.method, TRIED, TRIED, **read_options(knobs.options))
    views = [torch.randn(TRIED, TRIED) for _ in range(objective.views)]
    numbers = torch.arange(TRIED)
    loss = objective(views, numbers, numbers)
    torch.set_rng_state(state)
    if not torch.isfinite(loss):
        raise RecipeError(
            f"pretraining '{knobs.method}' with {', '.join(knobs.options)} gives no finite loss of a batch",
            fix="correct train.pretrain.options; 'smalti parts' says what it takes",
        )
