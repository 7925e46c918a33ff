"""A bag that is read in parts has the embedding of the whole bag."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from smalti.models import POOLERS, LearnedPooler, pool_parts

WHOLE = {"dsmil", "transmil", "set_transformer"}  # they compare tiles with each other


def draw(name: str) -> tuple[torch.Tensor, torch.nn.Module]:
    """A bag, and a pooler whose weights are not those that it begins with."""
    torch.manual_seed(0)
    pooler = POOLERS.build(name, 6, 3).eval()
    for parameter in pooler.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tiles = 2 * torch.randn(50, 6) + 1
    if isinstance(pooler, LearnedPooler):
        pooler.center.copy_(tiles.mean(dim=0))
        pooler.scale.copy_(tiles.std(dim=0))
    return tiles, pooler


@pytest.mark.parametrize("size", [7, 50])
@pytest.mark.parametrize("name", sorted({entry.name for entry in POOLERS} - WHOLE))
def test_parts_and_whole_are_one(name: str, size: int) -> None:
    tiles, pooler = draw(name)

    def read() -> Iterator[torch.Tensor]:
        yield from tiles.split(size)

    found = pool_parts(pooler, read)  # type: ignore[arg-type]
    assert found is not None
    with torch.inference_mode():
        assert torch.allclose(found, pooler(tiles[None]).embedding[0], atol=2e-4)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_poolers_that_compare_tiles_take_the_whole_bag(name: str) -> None:
    tiles, pooler = draw(name)
    assert pool_parts(pooler, lambda: iter([tiles])) is None  # type: ignore[arg-type]
