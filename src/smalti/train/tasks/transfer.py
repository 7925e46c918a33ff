"""A head on stored image embeddings as the task of phase ``transfer``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from ...models import Head, ParameterGroup
from ...samples import draw_images

# Logits (B, C) of one batch and a further loss where there is one; a sharpness-aware step asks twice.
Forward = Callable[[], tuple[torch.Tensor, torch.Tensor | None]]


@dataclass
class FrozenTask:
    """A module that learns on stored features, all of it at one rate."""

    module: nn.Module
    fabric: Fabric

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)

    def list_groups(self) -> list[ParameterGroup]:
        """Return all that learns; biases and the like do not decay."""
        learned = [p for p in self.module.parameters() if p.requires_grad]
        weights, rest = tuple(p for p in learned if p.ndim > 1), tuple(p for p in learned if p.ndim <= 1)
        return [ParameterGroup(weights, 0, 1.0, True), ParameterGroup(rest, 0, 1.0, False)]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Switch dropout on."""
        self.module.train()


@dataclass
class TransferTask(FrozenTask):
    """A head on frozen image embeddings.

    Attributes:
        embeddings: (views, n, D) of the training images; a view is drawn for each image at each step.
        targets: (n,) their classes.
        inner, watched: (m, D) plain embeddings of the inner and of the watched images.
        chances: (n,) of each training image at each draw; None takes each once an epoch.
    """

    module: Head
    embeddings: torch.Tensor
    targets: torch.Tensor
    inner: torch.Tensor
    watched: torch.Tensor
    batch_images: int
    chances: NDArray[np.float64] | None = None

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Yield batches with one view drawn for each image."""
        views, count, _ = self.embeddings.shape
        for chosen in draw_images(count, self.batch_images, rng=rng, chances=self.chances):
            drawn = self.embeddings[rng.integers(0, views, len(chosen)), chosen]
            yield partial(self._forward, drawn), self.targets[chosen]

    def _forward(self, drawn: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.forward(drawn), None

    def score(self, part: Literal["inner", "watched"]) -> torch.Tensor:
        """Return logits (n, C) of the images of a part."""
        self.module.eval()
        with torch.inference_mode():
            logits: torch.Tensor = self.forward(self.inner if part == "inner" else self.watched)
        return logits.cpu()
