"""Methods of pretraining. Losses and heads are lightly's (MIT, extra ``pretrain``) where it has them.

Batches hold one tile of a case where there are enough cases (`smalti.train.pretraining.views`), so that no tile is
pushed away from another of its case: that would teach who the patient is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import MissingExtraError
from .objective import PRETRAININGS, Objective

WIDTH = 512  # of projections; lightly's 8,192 are made for a million images


def load_lightly() -> Any:
    """Import the losses and heads of lightly.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import lightly.loss
        import lightly.models.modules.heads
    except ImportError:
        raise MissingExtraError("pretraining by this method (train.pretrain.method)", "pretrain") from None
    return lightly


class Diet(Objective):
    """The number of a tile is its class."""

    views = 1

    def __init__(self, features: int, tiles: int, *, smoothing: float) -> None:
        super().__init__()
        self.classes = nn.Linear(features, tiles, bias=False)
        self.smoothing = smoothing

    def forward(self, views: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the numbers."""
        return F.cross_entropy(self.classes(views[0]), tiles, label_smoothing=self.smoothing)


@PRETRAININGS.register(
    "diet",
    summary="the number of each tile is its class; no negatives, no second network, nothing to tune",
    reference="Balestriero 2023 (DIET); continued pretraining with it, arXiv 2509.06990",
)
def build_diet(features: int, tiles: int, *, smoothing: float = 0.8) -> Objective:
    """Build DIET; the paper smooths labels by 0.8, since every class has one image."""
    return Diet(features, tiles, smoothing=smoothing)


class Pair(Objective):
    """Two views through a projection into a loss that takes both."""

    def __init__(self, projection: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.projection, self.loss = projection, loss

    def forward(self, views: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        """Return the loss of the projections."""
        first, second = (self.projection(view) for view in views)
        value: torch.Tensor = self.loss(first, second)
        return value


@PRETRAININGS.register(
    "vicreg",
    summary="views agree, each dimension varies, none repeats another",
    reference="Bardes, Ponce & LeCun 2022; lightly",
)
def build_vicreg(
    features: int, tiles: int, *, agree: float = 25.0, vary: float = 25.0, apart: float = 1.0
) -> Objective:
    """Build VICReg with the weights of the paper."""
    lightly = load_lightly()
    head = lightly.models.modules.heads.VICRegProjectionHead(features, WIDTH, WIDTH, num_layers=2)
    return Pair(head, lightly.loss.VICRegLoss(agree, vary, apart))


@PRETRAININGS.register(
    "barlow",
    summary="the correlation of two views is the identity",
    reference="Zbontar et al. 2021 (Barlow Twins); lightly",
)
def build_barlow(features: int, tiles: int, *, redundancy: float = 0.005) -> Objective:
    """Build Barlow Twins."""
    lightly = load_lightly()
    head = lightly.models.modules.heads.BarlowTwinsProjectionHead(features, WIDTH, WIDTH)
    return Pair(head, lightly.loss.BarlowTwinsLoss(redundancy))


class LeJepa(Objective):
    """Views agree, and projections are spread as an isotropic Gaussian."""

    def __init__(self, projection: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.projection, self.loss = projection, loss

    def forward(self, views: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        """Return the loss; both views are global ones, and lightly wants local ones, for which they stand once more."""
        projected = torch.stack([self.projection(view) for view in views])
        value: torch.Tensor = self.loss(local_proj=projected, global_proj=projected)
        return value


@PRETRAININGS.register(
    "lejepa",
    summary="views agree, and embeddings are spread as a Gaussian; one knob, stable in small batches",
    reference="Balestriero & LeCun 2025, arXiv 2511.08544; lightly",
)
def build_lejepa(features: int, tiles: int, *, share: float = 0.05) -> Objective:
    """Build LeJEPA; ``share`` is the weight of the Gaussian."""
    lightly = load_lightly()
    head = lightly.models.modules.heads.LeJEPAProjectionHead(features, WIDTH, 64)
    return LeJepa(head, lightly.loss.LeJEPALoss(share, sigreg_num_vectors=256))


class SimClr(Objective):
    """Each view finds the other among views of other cases, of this batch and of batches before.

    lightly's memory bank does not know whose its entries are, and would push tiles of one case apart.
    """

    bank: torch.Tensor
    owners: torch.Tensor
    place: torch.Tensor

    def __init__(self, projection: nn.Module, *, width: int, temperature: float, memory: int) -> None:
        super().__init__()
        self.projection, self.temperature = projection, temperature
        self.register_buffer("bank", torch.zeros(memory, width))
        self.register_buffer("owners", torch.full((memory,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(self, views: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of both directions."""
        first, second = (F.normalize(self.projection(view).float(), dim=1) for view in views)
        known = self.owners >= 0
        others = torch.cat([first, second, self.bank[known].to(first.dtype)])
        owners = torch.cat([cases, cases, self.owners[known]])
        losses = []
        for one, two in ((first, second), (second, first)):
            likeness = one @ others.T / self.temperature
            likeness = likeness.masked_fill(owners[None] == cases[:, None], -torch.inf)
            right = (one * two).sum(dim=1, keepdim=True) / self.temperature
            losses.append(-F.log_softmax(torch.cat([right, likeness], dim=1), dim=1)[:, 0].mean())
        if self.training and len(self.bank):
            self._remember(second.detach(), cases)
        return torch.stack(losses).mean()

    def _remember(self, views: torch.Tensor, cases: torch.Tensor) -> None:
        size = len(self.bank)
        rows = (int(self.place) + torch.arange(min(len(views), size), device=views.device)) % size
        self.bank[rows] = views[: len(rows)].to(self.bank.dtype)
        self.owners[rows] = cases[: len(rows)]
        self.place.fill_((int(self.place) + len(rows)) % size)


@PRETRAININGS.register(
    "simclr",
    summary="each view finds the other among tiles of other cases, also of earlier batches",
    reference="Chen et al. 2020; memory bank as in Wu et al. 2018; head of lightly",
)
def build_simclr(features: int, tiles: int, *, temperature: float = 0.5, memory: int = 1024) -> Objective:
    """Build SimCLR with a bank of ``memory`` earlier views."""
    head = load_lightly().models.modules.heads.SimCLRProjectionHead(features, WIDTH, 128)
    return SimClr(head, width=128, temperature=temperature, memory=memory)
