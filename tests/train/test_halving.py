"""Batches that halve when memory runs out: the same bytes, said once for each halving, and an end at one tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smalti.train.halving import ACCELERATOR_TILES, CHUNK_TILES, Embedder, batch_tiles
from smalti.types import InputSpec

SPEC = InputSpec(8, False, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
TILES = np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), np.uint8)


def run_out() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def run_out_of_ram() -> None:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


class Limited(nn.Module):
    """Colours of the corners of a tile, each tile by itself; memory runs out above ``most`` tiles."""

    def __init__(self, most: int, fail: Callable[[], None] = run_out) -> None:
        super().__init__()
        self.most, self.fail = most, fail
        self.seen: list[int] = []

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(tiles))
        if len(tiles) > self.most:
            self.fail()
        return tiles[:, :, ::7, ::7].flatten(1)


def embed(module: Any) -> tuple[np.ndarray, list[str]]:
    said: list[str] = []
    embedder = Embedder(module, SPEC, device=torch.device("cpu"), say=said.append)
    found = np.concatenate([embedder.embed(TILES[:16]), embedder.embed(TILES[16:])])
    return found, said


@pytest.mark.parametrize("fail", [run_out, run_out_of_ram])
@pytest.mark.parametrize("most", [15, 7, 3, 1])
def test_halved_batches_give_the_same_bytes_and_are_said(most: int, fail: Callable[[], None]) -> None:
    wanted, silent = embed(Limited(16))
    module = Limited(most, fail)
    found, said = embed(module)
    assert silent == []
    assert found.tobytes() == wanted.tobytes()
    refused = [seen for seen in module.seen if seen > most]
    assert refused == [size for size in (16, 8, 4, 2) if size > most]  # what was refused once is not tried again
    assert len(said) == len(refused)
    assert "16 tiles at once; 8 from here on" in said[0]


def test_one_tile_that_does_not_fit_and_other_errors_end_it() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        embed(Limited(0))

    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        embed(Limited(1, fail))


def test_a_cpu_keeps_its_batch_and_an_accelerator_has_a_larger_one() -> None:
    assert batch_tiles(torch.device("cpu")) == CHUNK_TILES == 16
    assert batch_tiles(torch.device("cuda")) == ACCELERATOR_TILES > CHUNK_TILES
    module = Limited(16)
    embed(module)
    assert module.seen == [16, 5]
