"""Grad-CAM of a whole bag, tiles in chunks (Selvaraju et al. 2017).

The logit of an image depends on its tiles through their embeddings alone. Its gradient by the maps of one tile is
therefore that of the tile's embedding times the logit's gradient by this embedding, which the pooler gives for all
tiles at once. So a bag of any size is explained exactly, share of the pooler included, a few tiles at a time.
"""

from __future__ import annotations

import torch

from ..models import UpperPart


def find_cams(part: UpperPart, tiles: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return Grad-CAM (K, n, h, w) of n tiles for K classes, zero or above.

    Args:
        part: of the backbone.
        tiles: (n, 3, H, W) normalised.
        wanted: (K, n, D) gradient of the bag's logit of each class by the embeddings of these tiles.
    """
    lower = part.run_lower(tiles)
    maps = part.take_maps(lower).detach().requires_grad_()
    with torch.enable_grad():
        embeddings = part(maps, lower)
    found = []
    for gradient in wanted:
        slopes = torch.autograd.grad(embeddings, maps, gradient, retain_graph=True)[0]
        found.append(torch.relu((slopes.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)).detach())
    return torch.stack(found)
