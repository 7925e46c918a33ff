"""What a network that has learned without an operation makes of tiles with it.

The network is the one that phase ``transfer`` leaves: its backbone has seen photographs, its head the plain tiles of
the training images. Loss and score are those of images that it did not learn from, so that a fall is the operation's
work. All operations are applied to the same tiles with the same draws, and so differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric

from ...models import Network
from ...samples import Batch, Edit, Operation, normalise_tiles, run_steps
from ...types import InputSpec
from ..forward import CHUNK_TILES, at_rest
from ..guides import GuideSource
from ..optim.losses import weigh_classes

RESAMPLES = 1000
DOUBT = 0.05  # of any false alarm among all operations
FEW_CASES = 5  # below it, drawing cases anew says nothing about noise

Progress = Callable[[int, int], None]  # (done, total)
# What is drawn for one tile of a probe.
DrawEdit = Callable[[np.random.Generator], Edit]


@dataclass
class Probe:
    """A frozen network and a few tiles of some images.

    Attributes:
        network: as it stands; it looks in eval mode and is left as it was.
        batch: the images, with their tiles as the network sees them.
        classes: number of classes.
        guides: what the mask says, where the reader asks.
    """

    network: Network
    batch: Batch
    classes: int
    spec: InputSpec
    fabric: Fabric
    guides: GuideSource
    seed: int = 0

    def __post_init__(self) -> None:
        self.targets = self.batch.targets.numpy()
        self.places = torch.from_numpy(self.batch.places).to(self.fabric.device)
        guide = self.guides.read(self.batch.bags, self.batch.rows, turns=np.zeros_like(self.batch.rows))
        self.guide = None if guide is None else guide.to(self.fabric.device)
        counts = np.bincount(self.targets, minlength=self.classes)
        self.weights = weigh_classes(counts, kind="balanced")[self.batch.targets].double()

    def embed(self, draw: DrawEdit | None = None) -> torch.Tensor:
        """Features (n, tiles_per_image, D) of the tiles after what is drawn for each; None leaves them as they are."""
        rng = np.random.default_rng(self.seed + 1)
        flat = self.batch.tiles.reshape(-1, *self.batch.tiles.shape[2:])
        edited = flat if draw is None else np.stack([draw(rng)(tile) for tile in flat])
        with at_rest(self.network), torch.inference_mode(), self.fabric.autocast():
            chunks = torch.from_numpy(edited).split(CHUNK_TILES)
            parts = [
                self.network.backbone(normalise_tiles(part.to(self.fabric.device), spec=self.spec)).float()
                for part in chunks
            ]
        # A copy: what learns on features needs tensors that were not made in inference mode.
        return torch.cat(parts).clone().reshape(*self.batch.rows.shape, -1)

    def look(self, draw: DrawEdit | None = None) -> torch.Tensor:
        """Logits (n, C) of the images."""
        features = self.embed(draw)
        with at_rest(self.network), torch.inference_mode():
            logits = self.network.reader(features, positions=self.places, guide=self.guide)[0]
        return torch.as_tensor(logits).float().cpu()

    def measure(self, logits: torch.Tensor) -> float:
        """Cross-entropy of logits (n, C), classes of equal weight."""
        losses = F.cross_entropy(logits.double(), self.batch.targets, reduction="none")
        return float((losses * self.weights).sum() / self.weights.sum())


@dataclass(frozen=True, slots=True)
class Effect:
    """What one operation does to the score of images that the network has not learned from.

    Attributes:
        fall: how much of the balanced accuracy is lost.
        low: lower bound of the fall, by a bootstrap of cases, for all operations together; NaN with too few cases.
    """

    operation: str
    amount: float
    fall: float
    low: float

    @property
    def destroys(self) -> bool:
        """Whether the score falls by more than noise; not where that cannot be told."""
        return self.low > 0


def draw_operation(operation: Operation, amount: float, rng: np.random.Generator) -> Edit:
    """One operation of one size, its sign a coin's."""
    return partial(run_steps, [(operation, amount * float(rng.choice([-1.0, 1.0])), int(rng.integers(2**32)))])


def weigh_operations(
    probe: Probe,
    operations: Mapping[str, Operation],
    *,
    amount: float,
    cases: Sequence[str],
    progress: Progress | None = None,
) -> tuple[Effect, ...]:
    """The effect of each operation at one amount (0 to 1).

    Args:
        cases: (n,) case of each image of the probe; whole cases are drawn anew.
        progress: told (operations weighed, operations in all) after each operation.
    """
    truth, weights = probe.batch.targets, probe.weights.numpy()
    right = (probe.look().argmax(dim=1) == truth).numpy().astype(float)
    names, groups = np.unique(np.asarray(cases), return_inverse=True)
    rng = np.random.default_rng(probe.seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)[:, groups]
    effects = []
    for name, operation in operations.items():
        logits = probe.look(partial(draw_operation, operation, amount))
        lost = weights * (right - (logits.argmax(dim=1) == truth).numpy())
        drawn = (counts * lost).sum(axis=1) / np.maximum((counts * weights).sum(axis=1), 1e-12)
        low = float(np.quantile(drawn, DOUBT / len(operations))) if len(names) >= FEW_CASES else float("nan")
        effects.append(Effect(name, amount, float(lost.sum() / weights.sum()), low))
        if progress is not None:
            progress(len(effects), len(operations))
    return tuple(effects)
