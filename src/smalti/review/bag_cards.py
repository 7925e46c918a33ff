"""Draw a bag of features for the page: it has no picture, so its numbers and the places of its tiles are shown."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import show_text
from ..features import FeatureFile, open_features
from ..types import FeatureSpec, Sample

LEAST_PX, MOST_PX = 128, 1024
PAPER, INK, DOT = (244, 241, 238), (60, 50, 45), (190, 160, 120)  # BGR
TOP_FRAC = 0.34  # of the sheet; what is above is cut off in the gallery, or lies under a mark
LONGEST = 26  # letters of a line


def draw_bag(sample: Sample, spec: FeatureSpec, *, px: int) -> bytes:
    """Return a square JPEG with the places of the tiles and what is known of the bag, ``px`` wide within bounds.

    Raises:
        DataError: its file cannot be read.
    """
    side = min(max(px, LEAST_PX), MOST_PX)
    sheet = np.full((side, side, 3), PAPER, dtype=np.uint8)
    file = open_features(sample.path) if sample.bag is None else None
    coords = None if file is None else file.read_coords()
    if coords is not None and len(coords) > 1:
        _draw_places(sheet, coords)
    step = side / 11
    for i, line in enumerate(_list_facts(sample, spec, file)):
        text = show_text(line).encode("ascii", "replace").decode()  # what the font has
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
        place = (round(step / 2), round(side * TOP_FRAC + step * i))
        cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, side / 420, INK, max(1, side // 400), cv2.LINE_AA)
    return cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _list_facts(sample: Sample, spec: FeatureSpec, file: FeatureFile | None) -> list[str]:
    tiles = len(sample.bag or ()) if file is None else file.tiles
    facts = [f"{tiles} tile{'s' * (tiles != 1)}", f"{spec.size} numbers", "no pixels"]
    facts += [f"site {sample.site}"] if sample.site else []
    facts += [sample.case] if sample.case != sample.image else []
    return facts + ([spec.encoder] if spec.encoder else [])


def _draw_places(sheet: NDArray[np.uint8], coords: NDArray[np.float64]) -> None:
    """Draw a dot for each tile, where it lies on the slide, on the right half of the sheet."""
    side, part = len(sheet), len(sheet) * 0.5
    low, wide = coords.min(axis=0), max(float(np.ptp(coords, axis=0).max()), 1.0)
    places = np.unique(np.round((coords - low) / wide * part).astype(int), axis=0)
    places += [round(side * 0.46), round(side * (TOP_FRAC - 0.06))]
    dot = max(1, round(part / max(len(np.unique(coords[:, 0])), len(np.unique(coords[:, 1])), 1) * 0.8))
    for x, y in places:
        cv2.rectangle(sheet, (int(x), int(y)), (int(x) + dot - 1, int(y) + dot - 1), DOT, -1)
