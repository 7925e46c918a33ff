"""Pairs of images that show the same field, also turned, mirrored, recompressed, recoloured, cropped or painted on.

Images that share rare points are proposed (`words`), laid over one another by those points and compared part by part
(`overlay`). Nothing compares all pairs at full size: about twenty overlays an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..measure.digest import ImageDigest
from ..measure.keypoints import mirror_texture
from .overlay import Overlay, match_points, overlay_textures
from .words import propose_pairs

LEAST_CONTRAST = 3.0  # grey levels; empty glass resembles empty glass
# Unrelated fields reach 9, charts of one layout 13; whole images that were spoilt twice keep 28 and more.
LEAST_MATCHES = 14
LEAST_CORRELATION = 0.4  # unrelated fields reach 0.22, copies painted on over a quarter 0.55
LEAST_OVERLAP = 0.7  # of the smaller field; below it, two fields only touch one another
WORKERS = 2
CHUNK_TERMS = 100_000  # likenesses of points that a worker holds at once, of one pair or of many: what a cache holds


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two images that show the same field, or fields that overlap.

    Attributes:
        images: their names; the first is the one that the second is laid over.
        matches: points that both have in the same place.
        correlation: of the textures where they overlap, in all but the worst parts, which paint may cover.
        scale: enlargement that lays the second over the first, in pixels of both.
        turn_deg: counter-clockwise turn that lays the second over the first, after mirroring; -180 to 180.
        mirrored: whether it is mirrored left to right first.
        overlap_frac: share of the first, share of the second that the other shows.
    """

    images: tuple[str, str]
    matches: int
    correlation: float
    scale: float
    turn_deg: float
    mirrored: bool
    overlap_frac: tuple[float, float]

    @property
    def partial(self) -> bool:
        """Whether each shows much that the other does not: neighbouring fields, not copies."""
        return max(self.overlap_frac) < LEAST_OVERLAP

    def lay(self, image: str) -> tuple[float, float]:
        """(scale, turn_deg) that lay this image, after mirroring if need be, over the other."""
        if image == self.images[1]:
            return self.scale, self.turn_deg
        # Mirroring turns the sense of rotation round, so the way back of a mirrored turn is the same turn.
        return 1 / self.scale, self.turn_deg if self.mirrored else -self.turn_deg


def find_near_pairs(digests: Sequence[ImageDigest]) -> tuple[NearPair, ...]:
    """All pairs that show the same field, in whatever order the images come; those without texture belong to none."""
    textured = sorted((d for d in digests if d.contrast >= LEAST_CONTRAST), key=lambda d: d.image)
    textures = [d.texture for d in textured]
    proposals = propose_pairs(textures)
    size = max(1, CHUNK_TERMS // max([1, *(len(t.points) for t in textures)]) ** 2)
    chunks = [proposals[start : start + size] for start in range(0, len(proposals), size)]
    best: dict[tuple[str, str], NearPair] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for pair in (p for found in pool.map(lambda chunk: _verify(textured, chunk), chunks) for p in found):
            if pair.images not in best or pair.matches > best[pair.images].matches:
                best[pair.images] = pair
    return tuple(best.values())


def _verify(digests: Sequence[ImageDigest], proposals: Sequence[tuple[int, int, bool]]) -> list[NearPair]:
    """Those of the proposals, (first, second, whether to mirror the second), that show the same field."""
    pairs = [
        (digests[i].texture, mirror_texture(digests[j].texture) if mirrored else digests[j].texture)
        for i, j, mirrored in proposals
    ]
    found = []
    for (i, j, mirrored), (first, second), matches in zip(proposals, pairs, match_points(pairs), strict=True):
        overlay = overlay_textures(first, second, least_matches=LEAST_MATCHES, matches=matches)
        if overlay is not None and overlay.correlation >= LEAST_CORRELATION:
            found.append(_describe(digests[i], digests[j], overlay, mirrored=mirrored))
    return found


def _describe(first: ImageDigest, second: ImageDigest, overlay: Overlay, *, mirrored: bool) -> NearPair:
    linear = overlay.matrix[:, :2]
    # Rows count downwards, so what the matrix calls positive turns clockwise.
    turn = -np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    scale = np.sqrt(np.linalg.det(linear)) * max(first.size_px) / max(second.size_px)
    return NearPair(
        images=(first.image, second.image),
        matches=overlay.matches,
        correlation=overlay.correlation,
        scale=float(scale),
        turn_deg=float(turn),
        mirrored=mirrored,
        overlap_frac=overlay.overlap_frac,
    )
