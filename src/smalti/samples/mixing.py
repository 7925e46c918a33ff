"""Two bags of the training part as one: a share of the tiles of each, and the same shares of their labels.

What is mixed is which tiles a bag holds, never a pixel or a feature, so that tiles stay what a backbone has seen. The
share is drawn as in mixup (Zhang et al. 2018) and the bags are mixed as in PseMix (Liu et al. 2024), whose labels have
the share of the tiles that a bag gave. A tile that decides may be among those left behind, as it may in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pairing:
    """Each of B bags with a partner among them.

    Attributes:
        partners: (B,) which bag of the batch it is mixed with; some with themselves.
        shares: (B,) of its own tiles that it keeps, the rest is that of the partner.
    """

    partners: NDArray[np.int64]
    shares: NDArray[np.float64]


def pair_bags(count: int, *, alpha: float, rng: np.random.Generator) -> Pairing:
    """Draw partners in a random order, shares from Beta(alpha, alpha): small alphas leave most bags nearly alone."""
    return Pairing(rng.permutation(count), rng.beta(alpha, alpha, count))


def split_tiles(own: int, partners: int, *, share: float) -> tuple[int, int, float]:
    """Count how many of its ``own`` tiles a bag keeps and how many it takes of its partner's, and what its label then
    keeps.

    Each bag gives its share of its own size, rounded; the label goes by what was given, so that it is exact also where
    rounding leaves a bag of few tiles out.
    """
    kept = round(share * own)
    taken = round((1 - kept / own) * partners)
    given, received = kept / own, taken / partners
    return kept, taken, given / (given + received)


def mix_targets(targets: torch.Tensor, pairing: Pairing, *, kept: NDArray[np.float64], classes: int) -> torch.Tensor:
    """Return soft targets (B, C): ``kept`` (B,) of the bag's own class (B,), the rest of its partner's."""
    own = F.one_hot(targets, classes).float()
    weight = torch.as_tensor(kept, dtype=own.dtype, device=own.device)[:, None]
    return weight * own + (1 - weight) * own[torch.from_numpy(pairing.partners).to(own.device)]


def measure_step(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the shift (B, 2) that lays the tiles of a partner to the right of bags with ``places`` (B, N, 2).

    Places are counted from the corner of the image, so that no two tiles of a mixed bag fall on one another.
    """
    widest = places[..., 1].max(axis=1, initial=0.0) + 1
    return np.stack([np.zeros_like(widest), widest], axis=1)
