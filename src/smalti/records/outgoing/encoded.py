"""Slides after an encoder: what their features stand on, where their tiles are, what became of each slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...store import read_arrays, reading, write_arrays, write_table
from ..layout import ENCODED, ENCODED_SLIDES, ENCODING, PLACES_RECORD
from ..record import Number, Part, Record


class PlacesRecord(Record):
    """``coords/rules.json``: by which rules the tiles of all slides of a folder were chosen.

    Attributes:
        root: the folder of the slides.
        mpp: microns per pixel of a tile; None where pixels are taken as they are.
        image_mpp: those of slides that do not say their own.
        tile_px, overlap_frac, min_tissue, keep_pen: the other rules.
        code: hash of the code that finds tiles.
    """

    FILE: ClassVar[str] = PLACES_RECORD
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "give another folder with --out"
    OLD: ClassVar[str] = "give another folder with --out"

    root: str
    mpp: Number
    image_mpp: Number
    tile_px: int
    overlap_frac: float
    min_tissue: float
    keep_pen: bool
    code: str


class EncodingRecord(Record):
    """``encoding.json``: what the features of an encoder stand on; files of another key are never mixed with them.

    Attributes:
        key: hash of all below, of the rules of the tiles and of the code.
        encoder: name.
        weights: hash of its weights and layers.
        licence: of the weights.
        layout: of the files.
        dtype: of the numbers in them.
        device, precision: what computed them.
        tile_px: side of a tile.
        mpp: microns per pixel of a tile; None where pixels were taken as they are.
        smalti: version.
    """

    FILE: ClassVar[str] = ENCODING
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "give another folder with --out"
    OLD: ClassVar[str] = "give another folder with --out"

    key: str
    encoder: str
    weights: str
    licence: str
    layout: str
    dtype: str
    device: str
    precision: str
    tile_px: int
    mpp: Number
    smalti: str


class SlideRecord(Record):
    """A file of ``slides/``, written last: the slide is done.

    Attributes:
        image: its name in the folder.
        key: of the encoding.
        content: hash of the file of the slide.
        size: bytes of that file.
        files: of features, below the folder of the encoder.
        tiles: how many.
        glass, pen: how many were left out.
        side_px: side of a tile at level 0.
        mpp: microns per pixel of level 0; None where not known.
        seconds: that it took.
        note: what is to be known; empty where there is nothing.
    """

    FILE: ClassVar[str] = f"{ENCODED_SLIDES}/slide.json"
    FIX: ClassVar[str] = "delete it and run the same command again"

    image: str
    key: str
    content: str
    size: int
    files: tuple[str, ...]
    tiles: int
    glass: int
    pen: int
    side_px: int
    mpp: Number
    seconds: float
    note: str = ""


class EncodedRow(Part):
    """A row of ``encoded.csv``.

    Attributes:
        image: name of the slide.
        status: what became of it.
        tiles, glass, pen: of its tiles, those that were encoded and those that were left out.
        side_px, mpp, seconds: as in `SlideRecord`.
        reason: why it failed, or what is to be known.
    """

    image: str
    status: Literal["encoded", "empty", "failed"]
    tiles: int = 0
    glass: int = 0
    pen: int = 0
    side_px: int = 0
    mpp: float | None = None
    seconds: float = 0.0
    reason: str = ""


def write_encoded(folder: Path, rows: Sequence[EncodedRow]) -> Path:
    """Write ``encoded.csv``."""
    table = pd.DataFrame([row.model_dump() for row in rows], columns=list(EncodedRow.model_fields))
    return write_table(folder / ENCODED, table)


@dataclass(frozen=True, slots=True, eq=False)
class TilePlaces:
    """The tiles of a slide, for every encoder.

    Attributes:
        positions: (N, 2) int64, (row_px, col_px) at level 0.
        side_px: their side there.
        content: hash of the file of the slide.
        left_out: how many squares of the grid were left out, by reason.
        note: what is to be known; empty where there is nothing.
    """

    positions: NDArray[np.int64]
    side_px: int
    content: str
    left_out: Mapping[str, int]
    note: str = ""

    @classmethod
    def read_file(cls, path: Path) -> TilePlaces:
        """Read an ``.npz``.

        Raises:
            RunError: it is damaged.
        """
        with reading(path, fix="delete it and run the same command again"):
            arrays = read_arrays(path, ("positions", "side_px", "content", "reasons", "counts", "note"))
            left_out = dict(zip(arrays["reasons"].tolist(), arrays["counts"].tolist(), strict=True))
            return cls(
                arrays["positions"], int(arrays["side_px"]), str(arrays["content"]), left_out, str(arrays["note"])
            )

    def write_file(self, path: Path) -> Path:
        """Write an ``.npz`` atomically; equal places give equal bytes."""
        return write_arrays(
            path,
            {
                "positions": self.positions,
                "side_px": np.array(self.side_px),
                "content": np.array(self.content),
                "reasons": np.array(list(self.left_out), dtype=np.str_),
                "counts": np.array(list(self.left_out.values()), dtype=np.int64),
                "note": np.array(self.note, dtype=np.str_),
            },
        )
