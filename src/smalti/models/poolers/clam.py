"""Attention pooling with a loss on the tiles it attends to most and least: CLAM (Lu et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import AttentionScores, Hidden, LearnedPooler
from .pooler import POOLERS, Pooled, blank_padding, fill_mask, masked_softmax, weigh_tiles


def smooth_svm(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Smooth top-1 SVM loss of logits (n, 2) for targets (n,), the mean (Berrada et al. 2018, equation 9).

    ``log(sum_j exp(1[j != y] + s_j - s_y))``: margin and temperature are 1, as in the code of Lu et al.
    """
    margin = 1.0 - F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    raised = logits + margin - logits.gather(1, targets[:, None])
    return raised.logsumexp(dim=1).mean()


@POOLERS.register(
    "clam_sb",
    summary="gated attention, one branch; most and least attended tiles are told apart by a loss of their own",
    reference="CLAM-SB, Lu et al. 2021",
)
class ClamPooler(LearnedPooler):
    """Gated attention with one branch for all classes.

    Args:
        features: D.
        classes: C.
        hidden: dimensions that tiles are projected to, one layer each; None leaves them.
        width: units of the attention.
        dropout: after the projection.
        k: most and least attended tiles of a bag that the loss looks at.
        weight: of the loss on tiles; the bag's loss has 1 (the paper's 0.3 to 0.7).
    """

    weighs = True

    def __init__(
        self, features: int, classes: int, *, hidden: Hidden = 128, width: int = 64, dropout: float = 0.25, k: int = 8,
        weight: float = 0.43,
    ) -> None:  # fmt: skip
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.k = k
        self.weight = weight
        self.score = AttentionScores(self.features, width, gated=True, branches=classes if self.by_class else 1)
        self.instances = nn.ModuleList(nn.Linear(self.features, 2) for _ in range(classes))

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, H)."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        attention = masked_softmax(self.score(tiles).transpose(1, 2), weigh_tiles(mask, coverage)[:, None])  # (B, 1, N)
        return Pooled((attention @ tiles)[:, 0], attention[:, 0], hidden=tiles)

    def instance_loss(self, pooled: Pooled, mask: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The k most attended tiles belong to the bag's class, the k least do not; nor do the most to other classes.

        Classes exclude each other, so that the most attended tiles are evidence against the others (the paper's
        ``subtyping``). The loss of a class is the mean over its tiles, that of a bag the mean over classes. A mixed
        bag has the loss of each of its classes by the share of it (mixup, Zhang et al. 2018).
        """
        shares = F.one_hot(targets, self.classes) if targets.ndim == 1 else targets
        losses = []
        for bag, row in enumerate(shares):
            present = row.nonzero()[:, 0]
            each = torch.stack([self._score_bag(pooled, bag, mask[bag], name) for name in present.tolist()])
            losses.append((row[present] * each).sum())
        return self.weight * torch.stack(losses).mean()

    def _score_bag(self, pooled: Pooled, bag: int, mask: torch.Tensor, target: int) -> torch.Tensor:
        if pooled.hidden is None:
            raise ValueError("a loss on tiles needs the tiles that this pooler keeps")
        tiles = pooled.hidden[bag][mask]
        k = min(self.k, len(tiles))
        losses = []
        for name, classify in enumerate(self.instances):
            shares = self._shares_of(pooled, bag, name)[mask]
            top = tiles[shares.topk(k).indices]
            if name == target:
                low = tiles[(-shares).topk(k).indices]
                wanted = torch.cat([torch.ones(k), torch.zeros(k)])
                losses.append(smooth_svm(classify(torch.cat([top, low])), wanted.long().to(tiles.device)))
            else:
                losses.append(smooth_svm(classify(top), torch.zeros(k, dtype=torch.long, device=tiles.device)))
        return torch.stack(losses).mean()

    def _shares_of(self, pooled: Pooled, bag: int, name: int) -> torch.Tensor:
        return pooled.attention[bag]


@POOLERS.register(
    "clam_mb",
    summary="gated attention with a branch and an embedding for each class, and the loss on tiles of clam_sb",
    reference="CLAM-MB, Lu et al. 2021",
)
class ClamBranchPooler(ClamPooler):
    """Each class attends by itself and is scored from its own embedding; arguments as in `ClamPooler`."""

    by_class = True

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, C, H)."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        attention = masked_softmax(self.score(tiles).transpose(1, 2), weigh_tiles(mask, coverage)[:, None])  # (B, C, N)
        return Pooled(attention @ blank_padding(tiles, mask), attention.mean(dim=1), attention, hidden=tiles)

    def _shares_of(self, pooled: Pooled, bag: int, name: int) -> torch.Tensor:
        if pooled.class_attention is None:
            raise ValueError("this pooler attends for each class apart")
        return pooled.class_attention[bag, name]
