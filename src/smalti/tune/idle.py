"""Knobs of a space that cannot matter on this data: all their values make the same function.

Only luck can make the trials of such a knob differ, so it is removed before the search, and the reason is said. Knobs
that no rule here knows are tested by `sensitivity` and by the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import RecipeError
from ..recipe import NO_PIXELS, STEPPED, STEPS, Recipe, needs_pixels
from ..registry import read_options
from .space import Knob, Space
from .trial import TrialRunner

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
    """A condition under which some knobs do nothing.

    Attributes:
        knobs: their names, or sections of them.
        holds: whether they do nothing in a recipe; it must hold for every recipe that the search can try.
    """

    knobs: tuple[str, ...]
    holds: Callable[[Recipe, TrialRunner], bool]
    reason: str


def _prepare(recipe: Recipe, runner: TrialRunner) -> Experiment:
    """Prepare the tiles and the backbone of a recipe; its other knobs change neither."""
    model = runner.untuned.model.model_copy(update={"backbone": recipe.model.backbone})
    return runner.prepare(runner.untuned.model_copy(update={"tile": recipe.tile, "model": model}))


def _has_one_tile(recipe: Recipe, runner: TrialRunner) -> bool:
    return bool(np.diff(_prepare(recipe, runner).store.starts).max(initial=0) == 1)


def _has_no_mask(recipe: Recipe, runner: TrialRunner) -> bool:
    return all(sample.mask_path is None for sample in runner.ground.cohort.samples)


def _pools_nothing(recipe: Recipe, runner: TrialRunner) -> bool:
    from ..models import POOLERS, keeps_single

    options = read_options(recipe.model.pooler_options)
    return keeps_single(POOLERS.build(recipe.model.pooler, 8, 2, **options), features=8) and _has_one_tile(
        recipe, runner
    )


def _learns_no_pooler(recipe: Recipe, runner: TrialRunner) -> bool:
    from ..models import POOLERS

    return not POOLERS.build(recipe.model.pooler, 8, 2, **read_options(recipe.model.pooler_options)).learns


def _list_rules() -> Iterator[Rule]:
    yield Rule(UNREAD, lambda r, b: True, "no trial reads it")
    yield Rule(("train.transfer",), lambda r, b: r.train.transfer.epochs == 0, "phase transfer is skipped")
    yield Rule(("train.finetune",), lambda r, b: r.train.finetune.epochs == 0, "phase finetune is skipped")
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


def find_idle_knobs(space: Space, runner: TrialRunner, settings: tuple[str, ...]) -> dict[str, str]:
    """Return knob -> why all its values make the same function on this data, whatever the other knobs are."""
    reachable, idle = [space.build_recipe({}, settings)], dict[str, str]()
    if runner.ground.cohort.features is not None:
        idle = {name: NO_PIXELS for name in space.names if needs_pixels(name)}
    for knob in space.knobs:
        reachable += turn_knob(space, knob, settings) if knob.knob not in idle else []
    for rule in _list_rules():
        named = [
            name
            for name in space.names
            if any(name in (part, f"{part}_options") or name.startswith(f"{part}.") for part in rule.knobs)
        ]
        if named and all(rule.holds(recipe, runner) for recipe in reachable):
            idle |= {name: rule.reason for name in named if name not in idle}
    # Where several knobs decide how tiles are cut, one by itself tells nothing.
    alone = sum(name.startswith("tile.") or name == "model.backbone" for name in space.names) == 1
    for knob in space.knobs:
        if alone and knob.knob.startswith("tile.") and knob.knob not in idle:
            stores = [_prepare(recipe, runner).store for recipe in turn_knob(space, knob, settings)]
            same = {store.key for store in stores}
            if knob.knob in GRID:
                same = {str((store.starts.tolist(), store.positions.tolist())) for store in stores}
            if len(same) == 1:
                idle[knob.knob] = "all its values cut the same tiles"
    return idle


def find_idle_trials(trials: pd.DataFrame, space: Space, *, steps: Sequence[str]) -> list[str]:
    """Return the knobs in which alone some trials differ, but never their scores; `LEAST_TWINS` pairs may be chance."""
    idle = []
    for name in space.names:
        others = ["study", *(other for other in space.names if other != name)]
        groups = [rows for _, rows in trials.groupby(others, sort=False) if rows[name].nunique() > 1]
        same = all((rows[list(steps)].astype(float).fillna(-1).nunique() == 1).all() for rows in groups)
        if len(groups) > LEAST_TWINS and same:
            idle.append(name)
    return idle


def turn_knob(space: Space, knob: Knob, settings: tuple[str, ...]) -> list[Recipe]:
    """Return the recipe with each value of one knob; values that are only valid together with others are skipped."""
    turned = []
    for value in knob.list_values():
        with suppress(RecipeError):
            turned.append(space.build_recipe({knob.knob: value}, settings))
    return turned
