"""Tiles through a frozen network in batches; a batch is halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..faults import MEMORY_WORDS
from ..samples import normalise_tiles
from ..types import InputSpec

CHUNK_TILES = 16  # of 32, the maps of a mobile network take 150 MB and leave every cache
ACCELERATOR_TILES = 128  # fewer leave an accelerator idle; on a small one they are halved


def batch_tiles(device: torch.device) -> int:
    """Return how many tiles a device takes at once, as long as its memory lasts."""
    return CHUNK_TILES if device.type == "cpu" else ACCELERATOR_TILES


class Embedder:
    """A frozen network that embeds tiles on a device.

    Its number format is that with which Fabric has set it up. The batch stays at the size that memory has allowed.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        *,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.module = module
        self.spec = spec
        self.device = device
        self.say = say
        self.tiles = batch_tiles(device)

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings (n, D) of tiles (n, H, W, 3); torch's own error where memory runs out for a single one."""
        done: list[torch.Tensor] = []
        start = 0
        while start < len(tiles):
            part = tiles[start : start + self.tiles]
            try:
                with torch.inference_mode():
                    images = normalise_tiles(torch.from_numpy(part).to(self.device), spec=self.spec)
                    done.append(self.module(images).float().cpu())
            except RuntimeError as error:
                if len(part) == 1 or not any(words in str(error).lower() for words in MEMORY_WORDS):
                    raise
            else:
                start += len(part)
                continue
            # Here, not above: the error holds the frames, and they hold the tensors that are in the way.
            self.tiles = len(part) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.say(f"features: memory ran out at {len(part)} tiles at once; {self.tiles} from here on")
        return torch.cat(done).numpy()
