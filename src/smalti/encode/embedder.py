"""An encoder on its device, loaded once in a process however many slides it sees."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import recipe
from ..errors import WeightsError
from ..models import Backbone, build_encoder, check_weights, hash_weights, name_encoder
from ..samples import normalise_tiles
from ..train.devices import Device, choose_device, make_fabric

OPTIONS = {"weights_part": "--weights-part", "weights": "--weights", "backbone": "--encoder"}  # for knobs of a recipe
KNOB = re.compile(rf"(?:--set )?model\.({'|'.join(OPTIONS)})[= ]*")
CPU_TILES, GPU_TILES = 16, 256  # at once; on a CPU, maps of more leave every cache


class Embedder:
    """From tiles to features.

    Attributes:
        backbone: the encoder.
        device: that it is on.
        weights: hash of its weights and layers.
        batch: tiles at once; halved where memory runs out.
    """

    def __init__(self, backbone: Backbone, device: Device) -> None:
        self.backbone, self.device, self.weights = backbone, device, hash_weights(backbone.module)
        self.batch = CPU_TILES if device.accelerator == "cpu" else GPU_TILES
        self._fabric = make_fabric(device)
        self._module: Any = None

    def embed(
        self, pieces: Iterable[NDArray[np.uint8]], *, say: Callable[[str], None] = lambda text: None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield features (n, D) of tiles (N, H, W, 3) that come in pieces of any size, in their order.

        Batches are the same wherever the pieces end.
        """
        waiting: list[NDArray[np.uint8]] = []
        for piece in pieces:
            waiting.append(piece)
            while sum(map(len, waiting)) >= self.batch:
                tiles = np.concatenate(waiting)
                waiting = [tiles[self.batch :]]
                yield self._pass(tiles[: self.batch], say)
        if sum(map(len, waiting)):
            yield self._pass(np.concatenate(waiting), say)

    def _pass(self, tiles: NDArray[np.uint8], say: Callable[[str], None]) -> NDArray[np.float32]:
        if self._module is None:
            self._module = self._fabric.setup_module(self.backbone.module).eval()
        try:
            images = normalise_tiles(torch.from_numpy(tiles).to(self._fabric.device), spec=self.backbone.spec)
            with torch.inference_mode():
                values: NDArray[np.float32] = self._module(images).float().cpu().numpy()
            return values
        except torch.OutOfMemoryError:
            if len(tiles) == 1:
                raise
            half = len(tiles) // 2
        torch.cuda.empty_cache()
        if half < self.batch:
            self.batch = half
            say(f"the memory of the device ran out: {half} tiles at once from here on")
        return np.concatenate([self._pass(part, say) for part in (tiles[:half], tiles[half:])])


@functools.lru_cache(maxsize=1)
def open_embedder(
    name: str, weights: str | None = None, part: str | None = None, *, device: str = "auto", precision: str = "auto"
) -> Embedder:
    """Load an encoder.

    Raises:
        WeightsError: there is no such encoder, or its weights cannot be had.
        RecipeError: this machine has no such device.
    """
    train = recipe.Train.model_validate({"device": device, "precision": precision})
    chosen = choose_device(train, fix="--device auto")
    file = None if weights is None else Path(weights)
    try:
        check_weights(name_encoder(name, weights=file, part=part))
        return Embedder(build_encoder(name, weights=file, part=part), chosen)
    except WeightsError as error:
        fix = error.fix.replace(", --set model.pretrained=false none", "")
        fix = KNOB.sub(lambda found: OPTIONS[found[1]] + " " * found[0].endswith(("=", " ")), fix)
        raise WeightsError(error.message, fix=fix) from None


def label_encoder(name: str) -> str:
    """Return the name of an encoder without what a folder cannot be called, and without where it lies."""
    last = name.rstrip("/").rpartition("/")[2] if "/" in name else name
    return re.sub(r"[^\w.+-]+", "-", last)
