"""What a phase learns on: the same face to the loop for stored features and for tiles, and the plainest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from ..models import Head, ParameterGroup
from ..samples import draw_images

# Logits (B, C) of one batch and a further loss where there is one; a sharpness-aware step asks twice.
Forward = Callable[[], tuple[torch.Tensor, torch.Tensor | None]]


class Task(Protocol):
    """The loop's view of a phase."""

    @property
    def fabric(self) -> Fabric:
        """Where and in which number format it learns."""

    @property
    def module(self) -> nn.Module:
        """What learns."""

    @property
    def forward(self) -> nn.Module:
        """The module as Fabric wraps it."""

    def list_groups(self) -> list[ParameterGroup]:
        """Parameters with their relative rates."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set modes, open layers, set the strength of augmentation."""

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Each batch's way to its logits, and its targets (B,), in one pass over the training images."""

    def score_inner(self) -> torch.Tensor:
        """Logits (n, C) of the inner images."""

    def score_watched(self) -> torch.Tensor:
        """Logits (m, C) of the watched images, which neither teach nor choose."""


@dataclass
class TransferTask:
    """A head on frozen image embeddings.

    Attributes:
        embeddings: (views, n, D) of the training images; a view is drawn for each image at each step.
        targets: (n,) their classes.
        inner, watched: (m, D) plain embeddings of the inner and of the watched images.
        chances: (n,) of each training image at each draw; None takes each once in a pass.
    """

    module: Head
    fabric: Fabric
    embeddings: torch.Tensor
    targets: torch.Tensor
    inner: torch.Tensor
    watched: torch.Tensor
    batch_images: int
    chances: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)

    def list_groups(self) -> list[ParameterGroup]:
        """The head alone."""
        named = dict(self.module.named_parameters())
        weights, biases = (named["linear.weight"],), (named["linear.bias"],)
        return [ParameterGroup(weights, 0, 1.0, True), ParameterGroup(biases, 0, 1.0, False)]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Dropout on."""
        self.module.train()

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """One view drawn for each image."""
        views, count, _ = self.embeddings.shape
        for chosen in draw_images(count, self.batch_images, rng=rng, chances=self.chances):
            drawn = self.embeddings[rng.integers(0, views, len(chosen)), chosen]
            yield partial(self._forward, drawn), self.targets[chosen]

    def _forward(self, drawn: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.forward(drawn), None

    def score_inner(self) -> torch.Tensor:
        """Logits of the inner images."""
        return self._score(self.inner)

    def score_watched(self) -> torch.Tensor:
        """Logits of the watched images."""
        return self._score(self.watched)

    def _score(self, embeddings: torch.Tensor) -> torch.Tensor:
        self.module.eval()
        with torch.inference_mode():
            logits: torch.Tensor = self.forward(embeddings)
        return logits.cpu()
