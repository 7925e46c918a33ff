"""Grad-CAM of a whole bag, tiles in chunks (Selvaraju et al. 2017; captum's ``LayerGradCam``).

The logit of an image depends on its tiles through their embeddings alone. Its gradient by the maps of one tile is
therefore that of the tile's embedding times the logit's gradient by this embedding, which the pooler gives for all
tiles at once; so a bag of any size is explained exactly, share of the pooler included, a few tiles at a time.
"""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam

from ..models import UpperPart


def find_cams(part: UpperPart, tiles: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (K, n, h, w) of n tiles for K classes, zero or above.

    Args:
        part: of the backbone.
        tiles: (n, 3, H, W) normalised.
        wanted: (K, n, D) gradient of the bag's logit of each class by the embeddings of these tiles.
    """
    lower = part.run_lower(tiles)
    cam = LayerGradCam(part, part.tap)
    found = []
    for gradient in wanted:
        inputs = lower.detach().clone().requires_grad_()
        maps = cam.attribute(inputs, additional_forward_args=(gradient,), relu_attributions=True)
        found.append(maps.detach()[:, 0])
    return torch.stack(found)
