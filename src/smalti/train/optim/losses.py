"""Losses for small, imbalanced classes, all on soft targets, so that mixed images need nothing of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ...registry import Registry

# (logits (B, C), targets (B, C) that add up to 1) to the mean loss.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: Registry[Loss] = Registry("loss")


def soften(targets: torch.Tensor, *, classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """Targets (B, C) of classes (B,), or of shares (B, C), with label smoothing (Szegedy et al. 2016)."""
    soft = F.one_hot(targets, classes).float() if targets.ndim == 1 else targets
    return soft * (1 - smoothing) + smoothing / classes


def _mean_by_weight(losses: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Losses (B, C) of each class, weighted, over the weight of the images: torch's own weighted mean."""
    return (losses * targets * weights).sum() / (targets * weights).sum()


def measure_divergence(views: Sequence[torch.Tensor]) -> torch.Tensor:
    """Jensen-Shannon divergence between predictions of V views, logits (B, C) each, in nats; the mean over B.

    Mean Kullback-Leibler divergence of each view from their mixture (Hendrycks et al. 2020, eq. 2).
    """
    scores = torch.stack([view.log_softmax(dim=1) for view in views])
    mixture = scores.logsumexp(dim=0) - math.log(len(views))
    return (scores.exp() * (scores - mixture)).sum(dim=-1).mean()


@LOSSES.register("cross_entropy", summary="log loss of the true class", reference="torch cross_entropy")
def build_cross_entropy(counts: torch.Tensor, *, weights: torch.Tensor) -> Loss:
    """Classes (C,) count by their weights."""
    return lambda logits, targets: _mean_by_weight(-logits.log_softmax(dim=1), targets, weights)


@LOSSES.register("focal", summary="log loss that looks away from what is easy", reference="Lin et al. 2017")
def build_focal(counts: torch.Tensor, *, weights: torch.Tensor, gamma: float = 2.0) -> Loss:
    """``(1 - p)^gamma`` times the log loss; gamma 0 is the log loss."""

    def measure(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = logits.log_softmax(dim=1)
        # expm1 keeps what is left of a score near 1; its gradient at exactly 0 would be infinite for gamma below 1.
        rest = (-torch.expm1(scores)).clamp_min(1e-8)
        return _mean_by_weight(-scores * rest**gamma, targets, weights)

    return measure


@LOSSES.register("logit_adjusted", summary="log loss with the classes' shares added", reference="Menon et al. 2021")
def build_logit_adjusted(counts: torch.Tensor, *, weights: torch.Tensor, tau: float = 1.0) -> Loss:
    """``tau * log(share)`` is added while learning only, so that rare classes must win without it."""
    shift = tau * (counts.clamp_min(1) / counts.clamp_min(1).sum()).log()
    return lambda logits, targets: _mean_by_weight(-(logits + shift).log_softmax(dim=1), targets, weights)


@LOSSES.register("ldam", summary="log loss with a margin that is larger for rare classes", reference="Cao et al. 2019")
def build_ldam(counts: torch.Tensor, *, weights: torch.Tensor, largest: float = 0.5) -> Loss:
    """Margins in proportion to ``count^(-1/4)``, at most ``largest``; the paper's scaling is left to the head."""
    margins = counts.clamp_min(1) ** -0.25
    margins = margins * (largest / margins.max())
    return lambda logits, targets: _mean_by_weight(-(logits - targets * margins).log_softmax(dim=1), targets, weights)


@LOSSES.register("macro_f1", summary="1 - macro-F1 of scores instead of classes, so that it has a gradient")
def build_macro_f1(counts: torch.Tensor, *, weights: torch.Tensor) -> Loss:
    """Over the classes of the batch; it weighs classes evenly by itself, whatever ``weights`` say.

    ``2 tp / (2 tp + fp + fn)`` with sums of scores for counts (surrogate of Bénédict et al. 2022 without the sigmoid).
    """

    def measure(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = logits.softmax(dim=1)
        hits = (scores * targets).sum(dim=0)
        f1 = 2 * hits / (scores.sum(dim=0) + targets.sum(dim=0)).clamp_min(1e-8)
        # Label smoothing gives absent classes a share too, the least of the batch.
        present = (targets.amax(dim=0) > targets.amin() + 1e-6).float()
        present = present if present.any() else torch.ones_like(present)
        return 1 - (f1 * present).sum() / present.sum()

    return measure


def weigh_classes(counts: np.ndarray, *, kind: str, beta: float = 0.999) -> torch.Tensor:
    """Weights (C,) of classes that have ``counts`` (C,) images.

    ``balanced`` as scikit-learn's n / (C * count); ``effective`` by the effective number (1 - beta^n) / (1 - beta) of
    Cui et al. 2019, scaled to a mean of 1 over images; ``none``.
    """
    counts = np.maximum(counts.astype(np.float64), 1)
    if kind == "none":
        return torch.ones(len(counts))
    weights = 1 / counts if kind == "balanced" else (1 - beta) / (1 - beta**counts)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)
