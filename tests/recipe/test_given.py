"""Recipes on features that were made elsewhere."""

from __future__ import annotations

import pytest

from smalti.errors import NotApplicableError
from smalti.recipe import list_documents, load_portfolio, load_recipe, settle_choices, settle_given, settle_portfolio
from smalti.types import FeatureSpec

SPEC = FeatureSpec(16, several_tiles=True, most_tiles=20)


@pytest.mark.parametrize("preset", list_documents("preset"))
def test_every_preset_runs_and_settling_again_changes_nothing(preset: str) -> None:
    settled = settle_given(load_recipe(preset), SPEC)
    assert settled.model.backbone == "given:16"
    assert settled.train.finetune.epochs == 0 < settled.train.transfer.epochs
    assert settle_given(settled, SPEC) == settled


def test_what_needs_pixels_is_refused_by_name() -> None:
    recipe = load_recipe("quick", settings=["tile.size_px=64", "stain.normalise=macenko", "predict.views=4"])
    with pytest.raises(NotApplicableError, match=r"tile.size_px, stain.normalise, predict.views would have no effect"):
        settle_given(recipe, SPEC)


def test_what_a_ladder_settled_before_it_read_the_data_was_not_asked_for() -> None:
    (settled,), _ = settle_choices([load_recipe("quick")])
    assert settle_given(settled, SPEC).model.backbone == "given:16"


def test_tiles_of_a_step_are_bounded_where_bags_are_large() -> None:
    large = FeatureSpec(1536, most_tiles=10_000)
    assert settle_given(load_recipe("quick"), large).train.transfer.tiles_per_image == 1024
    assert settle_given(load_recipe("quick"), SPEC).train.transfer.tiles_per_image is None
    asked = load_recipe("quick", settings=["train.transfer.tiles_per_image=9000"])
    assert settle_given(asked, large).train.transfer.tiles_per_image == 9000


def test_auto_takes_members_that_need_no_pixels() -> None:
    recipe = settle_portfolio(load_recipe("auto"), features=True)
    assert recipe.portfolio.members == "features"
    assert settle_portfolio(load_recipe("auto"), features=False) == load_recipe("auto")
    for _, own in load_portfolio(recipe):
        settle_given(own, SPEC)
