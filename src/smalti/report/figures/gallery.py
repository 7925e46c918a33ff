"""The images with the highest out-of-fold loss, as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw

from ...errors import SmaltiError
from ...images import read_size, read_thumbnail
from ..blocks import Card

LONGEST_PX = 280
QUALITY = 78  # 24 pictures stay near half a megabyte


def make_cards(table: pd.DataFrame, *, classes: Sequence[str], root: Path | None) -> tuple[list[Card], str]:
    """Cards of `smalti.evaluate.highest_losses`, and why pictures are missing (empty when none is)."""
    cards, unread = [], []
    for row in table.to_dict("records"):
        picture = encode_picture(root, str(row["image"]))
        if not picture:
            unread.append(str(row["image"]))
        cards.append(
            Card(
                picture=picture,
                alt=f"Image {row['image']}: labelled {row['label']}, predicted {row['predicted']}",
                image=str(row["image"]),
                label=str(row["label"]),
                predicted=str(row["predicted"]),
                details=_describe(row),
                scores=[(name, float(row[f"score_{name}"])) for name in classes],
            )
        )
    return cards, _explain_missing(unread, root)


def _describe(row: Mapping[Hashable, Any]) -> str:
    folds = str(row["folds"])
    word = "folds" if "," in folds else "fold"
    return f"loss {row['loss']:.2f} · case {row['case']} · {word} {folds}".replace(", ", ",\u00a0")


def _explain_missing(unread: list[str], root: Path | None) -> str:
    if not unread:
        return ""
    if root is None:
        return "No pictures: the run folder does not say where the data folder is (cohort.json)."
    if not root.is_dir():
        return f"No pictures: the data folder {root} is not there. Bring it back and run 'smalti report' again."
    return f"No picture of {', '.join(unread)}: the file is missing or cannot be read in {root}."


def encode_picture(
    root: Path | None, image: str, *, outline: Sequence[Sequence[Sequence[int]]] = (), longest_px: int = LONGEST_PX
) -> str:
    """A small picture as a data address; empty where the image is missing, unreadable or outside the folder.

    ``outline`` holds polygons of (row_px, col_px) of the full image, which are drawn over it.
    """
    if root is None:
        return ""
    path = root / image
    # Names come from a table: nothing outside the data folder is shown.
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        return ""
    try:
        picture = Image.fromarray(read_thumbnail(path, longest_px=longest_px))
        scale = max(picture.size) / max(read_size(path))
    except SmaltiError:  # the card says that the picture cannot be read
        return ""
    for polygon in outline:
        corners = [(col * scale, row * scale) for row, col in polygon]
        # Black under yellow: seen on dark and on bright tissue, and by any eye.
        for colour, width in (("black", 4), ("yellow", 2)):
            ImageDraw.Draw(picture).line([*corners, *corners[:1]], fill=colour, width=width)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
