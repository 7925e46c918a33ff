"""Knobs of a space that cannot matter on this data: all their values make the same function.

Whatever such a knob is called for, only luck can make its trials differ. So it is left out before the search, with its
reason; what no rule here knows is left to the test of `sensitivity` and to the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import RecipeError
from ..recipe import STEPPED, STEPS, Recipe
from ..registry import read_options
from .space import Knob, Space
from .trial import Bench

if TYPE_CHECKING:
    from ..train import Experiment

LEAST_TWINS = 3
UNREAD = (
    "data", "audit", "evaluate", "ensemble", "portfolio", "predict.calibration", "predict.decision", "split.folds",
    "split.seeds", "split.sealed_frac", "train.watch",
)  # fmt: skip
GRID = ("tile.overlap_frac", "tile.min_coverage", "tile.min_tiles", "tile.max_tiles")


@dataclass(frozen=True, slots=True)
class Rule:
    """Where some knobs do nothing.

    Attributes:
        knobs: their names, or sections of them.
        holds: whether a recipe gives them no say; it must for every recipe that the search can turn to.
    """

    knobs: tuple[str, ...]
    holds: Callable[[Recipe, Bench], bool]
    reason: str


def _prepare(recipe: Recipe, bench: Bench) -> Experiment:
    """The tiles and the backbone of a recipe; what else it turns changes neither."""
    model = bench.plan.model.model_copy(update={"backbone": recipe.model.backbone})
    return bench.prepare(bench.plan.model_copy(update={"tile": recipe.tile, "model": model}))


def _has_one_tile(recipe: Recipe, bench: Bench) -> bool:
    return bool(np.diff(_prepare(recipe, bench).store.starts).max(initial=0) == 1)


def _has_no_mask(recipe: Recipe, bench: Bench) -> bool:
    return all(sample.mask_path is None for sample in bench.ground.cohort.samples)


def _pools_nothing(recipe: Recipe, bench: Bench) -> bool:
    from ..models import POOLERS, keeps_single

    options = read_options(recipe.model.pooler_options)
    return keeps_single(POOLERS.build(recipe.model.pooler, 8, 2, **options), features=8) and _has_one_tile(
        recipe, bench
    )


def _learns_no_pooler(recipe: Recipe, bench: Bench) -> bool:
    from ..models import POOLERS

    return not POOLERS.build(recipe.model.pooler, 8, 2, **read_options(recipe.model.pooler_options)).learns


def _list_rules() -> Iterator[Rule]:
    yield Rule(UNREAD, lambda r, b: True, "no trial reads it")
    yield Rule(("train.transfer",), lambda r, b: r.train.transfer.epochs == 0, "phase transfer is left out")
    yield Rule(("train.finetune",), lambda r, b: r.train.finetune.epochs == 0, "phase finetune is left out")
    solved = "the head is solved, not learned in steps"
    steps = tuple(f"train.transfer.{name}" for name in STEPPED)
    yield Rule(steps, lambda r, b: r.model.head != STEPS, solved)
    yield Rule(("model.dropout",), lambda r, b: r.model.head != STEPS and r.train.finetune.epochs == 0, solved)
    yield Rule(
        ("train.transfer.average_decay",),
        lambda r, b: r.train.transfer.averaging != "ema",
        "no exponential mean is taken",
    )
    yield Rule(
        ("train.finetune.average_decay",),
        lambda r, b: r.train.finetune.averaging != "ema",
        "no exponential mean is taken",
    )
    yield Rule(
        ("train.finetune.pixel_alpha",), lambda r, b: r.train.finetune.pixel_mixing == "none", "no pixels are mixed"
    )
    yield Rule(
        ("train.finetune.augmentation",),
        lambda r, b: r.train.finetune.policy_search is not None,
        "a policy is learned in its place",
    )
    one_tile = "every image has one tile"
    draws = ("train.transfer.tiles_per_image", "train.transfer.tile_dropout")
    yield Rule(
        ("model.pooler", "model.coverage_weights"), _pools_nothing, f"{one_tile}, and the pooler gives it as it is"
    )
    yield Rule(draws, _has_one_tile, one_tile)
    yield Rule((*draws, "train.transfer.bag_mixing"), _learns_no_pooler, "the pooler learns nothing")
    yield Rule(("model.norm",), lambda r, b: _prepare(r, b).backbone.norm is None, "the backbone has no such norm")
    yield Rule(("model.mask_channel",), lambda r, b: r.train.finetune.epochs == 0, "it learns in finetune only")
    yield Rule(("tile.within", "tile.outside", "tile.other_masks"), _has_no_mask, "no image has a mask")


def find_idle_knobs(space: Space, bench: Bench, settings: tuple[str, ...]) -> dict[str, str]:
    """Knob -> why all its values make the same function on this data, whatever the other knobs are turned to."""
    reachable = [space.build_recipe({}, settings)]
    for knob in space.knobs:
        reachable += turn_knob(space, knob, settings)
    idle: dict[str, str] = {}
    for rule in _list_rules():
        named = [knob.knob for knob in space.knobs if _is_named(knob.knob, rule)]
        if named and all(rule.holds(recipe, bench) for recipe in reachable):
            idle |= {name: rule.reason for name in named if name not in idle}
    for knob in space.knobs:
        if knob.knob.startswith("tile.") and knob.knob not in idle and not _is_gated(space):
            stores = [_prepare(recipe, bench).store for recipe in turn_knob(space, knob, settings)]
            same = {store.key for store in stores}
            if knob.knob in GRID:
                same = {str((store.starts.tolist(), store.positions.tolist())) for store in stores}
            if len(same) == 1:
                idle[knob.knob] = "all its values cut the same tiles"
    return idle


def find_idle_trials(trials: pd.DataFrame, space: Space, *, steps: Sequence[str]) -> list[str]:
    """Knobs that alone tell some trials apart, and never their scores; chance may make `LEAST_TWINS` pairs equal."""
    idle = []
    for name in space.names:
        others = ["study", *(other for other in space.names if other != name)]
        groups = [rows for _, rows in trials.groupby(others, sort=False) if rows[name].nunique() > 1]
        same = all((rows[list(steps)].astype(float).fillna(-1).nunique() == 1).all() for rows in groups)
        if len(groups) > LEAST_TWINS and same:
            idle.append(name)
    return idle


def _is_named(knob: str, rule: Rule) -> bool:
    return any(knob in (name, f"{name}_options") or knob.startswith(f"{name}.") for name in rule.knobs)


def _is_gated(space: Space) -> bool:
    """Whether another knob decides how tiles are cut, so that one knob by itself tells nothing."""
    return sum(knob.knob.startswith("tile.") or knob.knob == "model.backbone" for knob in space.knobs) > 1


def turn_knob(space: Space, knob: Knob, settings: tuple[str, ...]) -> list[Recipe]:
    """The recipe with each value of one knob; those that fit only beside other values are left out."""
    turned = []
    for value in knob.list_values():
        with suppress(RecipeError):
            turned.append(space.build_recipe({knob.knob: value}, settings))
    return turned
