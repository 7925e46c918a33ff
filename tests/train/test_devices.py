"""Where is computed: what this machine does not have is refused, and nothing mixes devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bags import draw_bags, store_features
from smalti import recipe
from smalti.errors import RecipeError
from smalti.models import FUSIONS, MASK_WIDTH, POOLERS, TILE_WIDTH, BagReader, Head, MaskBranch
from smalti.train import choose_device
from smalti.train.tasks.bags import fit_reader


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(RecipeError, match=rf"train.device={name}.*Fix: --set train.device=auto"):
            choose_device(recipe.Train(device=name))
    assert choose_device(recipe.Train()).accelerator == "cpu"


def test_float16_on_a_cpu_is_refused_and_not_replaced() -> None:
    with pytest.raises(RecipeError, match=r"16-mixed.*Fix: --set train.precision=auto"):
        choose_device(recipe.Train(device="cpu", precision="16-mixed"))


def build_fused(name: str, *, features: int = 6) -> BagReader:
    """A pooler that does not learn beside a branch that reads the mask."""
    pooler = POOLERS.build(name, features + TILE_WIDTH, 3)
    fusion = FUSIONS.build("concat", pooler.features, MASK_WIDTH, features + TILE_WIDTH)
    branch = MaskBranch(features, 4, fusion, dropout=0.0)
    return BagReader(pooler, Head(fusion.features, 3, dropout=0.0), branch=branch)


@pytest.mark.parametrize("name", ["mean", "mean_spread", "covariance"])
def test_the_scale_of_a_fused_embedding_is_fitted_where_the_network_is(name: str, tmp_path: Path) -> None:
    """The device without numbers refuses tensors of another one, as an accelerator would."""
    fit_reader(build_fused(name).to("meta"), store_features(tmp_path, draw_bags(8)), np.arange(8))


def test_the_scale_of_a_fused_embedding_is_that_of_its_own_dimensions(tmp_path: Path) -> None:
    """Mean and spread have one half each; what the branch will add to the tiles stays as it is."""
    bags = [bag for bag in draw_bags(30, seed=3) if len(bag) > 1]
    reader = build_fused("mean_spread")
    fit_reader(reader, store_features(tmp_path, bags), np.arange(len(bags)))
    assert reader.branch is not None
    tiles = np.concatenate(bags)
    ready = [(bag - tiles.mean(axis=0)) / tiles.std(axis=0, ddof=1) for bag in bags]
    pooled = np.concatenate([[bag.mean(axis=0) for bag in ready], [bag.std(axis=0) for bag in ready]], axis=1)
    half = 6 + TILE_WIDTH
    own = [*range(6), *range(half, half + 6)]
    rest = np.setdiff1d(np.arange(2 * half), own)
    center, scale = reader.branch.fusion.center, reader.branch.fusion.scale
    np.testing.assert_allclose(center[own], pooled.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(scale[own], pooled.std(axis=0, ddof=1), rtol=1e-4)
    assert torch.equal(center[rest], torch.zeros(len(rest)))
    assert torch.equal(scale[rest], torch.ones(len(rest)))
