"""Masks as planes of 0 and 1: a mask is where something is marked.

    values         as the file stores them: numbers of a palette, not its colours; of a TIFF whatever it calls white
    colours        the brightest channel; where the colour is the same everywhere, and the opacity is not, the opacity
    0              is the ground, and all else is marked: 1, 255, classes and instances numbered 1, 2, ... alike
    grey levels    JPEG, soft edges, maps of probabilities: what is nearer to the lowest level drawn than to the ground
    one value      all is marked, unless that value is 0
    several files  what any of them marks

Values between the smallest and the largest are labels where their areas are solid, and grey levels where they are not.
What a recipe says (`data.mask_values` and its like) goes before; it reaches every reader as a `MaskReading`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...types import MaskReading
from ..colours import to_colours
from ..completeness import check_whole
from ..failures import COPY_AGAIN, data_error, name_failures, refuse_whole
from ..opening import open_stored
from ..pictures import LARGEST_WHOLE_PX, find_turned_size, open_picture, refuse_mode, turn
from ..pyramids import BAND_PX
from ..slides import find_slide_size, is_slide, open_slide, read_slide_region
from ..stored.picture import Stored
from .marks import Marks

AS_STORED = MaskReading()
MOST_NAMED = 64  # values of a mask that are listed
LOOK_PX = 64  # longer side of the small copy by which masks are judged
Mask = NDArray[np.uint8]
Planes = tuple[NDArray[Any], Mask | None]  # values and opacity


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """The content of a mask, for the decision about its meaning.

    Attributes:
        size_px: (height, width) as the files say it, turned as they say.
        orientation: EXIF orientation of the first file; 1 for none.
        values: what is stored, numbers or colours ``#rrggbb``, smallest first; at most `MOST_NAMED`.
        ground: the lowest value that fills areas, of colours that of the brightest channel.
        shown: the colours of a palette for these values; empty without one.
        grey: whether grey levels were cut.
        shown_inverted: whether the file shows its 0 brighter than what it marks.
        marked_frac: share that is mask.
        look: the mask as packed bits, its longer side no more than `LOOK_PX`, of the shape `look_px`.
        look_px: (height, width).
    """

    size_px: tuple[int, int]
    orientation: int
    values: tuple[int | float | str, ...]
    ground: float
    shown: tuple[str, ...]
    grey: bool
    shown_inverted: bool
    marked_frac: float
    look: bytes
    look_px: tuple[int, int]

    def draw_look(self) -> Mask:
        """Return the small copy, (h, w) of 0 and 1."""
        bits = np.unpackbits(np.frombuffer(self.look, dtype=np.uint8), count=math.prod(self.look_px))
        return bits.reshape(self.look_px)


def read_mask(path: Path, *, reading: MaskReading = AS_STORED, most_px: int | None = None) -> tuple[Mask, bool]:
    """Return a mask as (H, W) of 0 and 1 by the rules above, and whether grey levels were cut.

    With ``most_px`` a larger mask is given at every n-th row and column, from the first of each, by the smallest n
    that leaves about ``most_px`` pixels; values are those of all pixels. It is decoded in bands, so that little more
    is held than what a file without bands takes (PNG: a byte a pixel).

    Raises:
        DataError, MissingExtraError: as `read_image`, without ``most_px`` also of the size; a float mask that is not
            finite is damaged; files of one mask that differ in size.
    """
    mask, files = _unite(path, reading, most_px)
    grey = any(file.grey for file in files)
    if reading.size_px is None or files[0].size_px == reading.size_px:
        return mask, grey
    # Bring the mask to the size of its image, thinned as it is.
    step = _find_step(reading.size_px, most_px)
    height, width = (math.ceil(n / step) for n in reading.size_px)
    if reading.fit == "stretch":
        return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8), grey
    fitted = np.zeros((height, width), dtype=np.uint8)
    part = mask[:height, :width]
    fitted[: part.shape[0], : part.shape[1]] = part
    return fitted, grey


def survey_mask(path: Path, *, reading: MaskReading = AS_STORED, most_px: int | None = None) -> MaskFacts:
    """Read a mask as `read_mask`, and say what it holds; it is not brought to another size.

    Raises:
        DataError, MissingExtraError: as `read_mask`.
    """
    mask, files = _unite(path, reading, most_px)
    scale = min(1.0, LOOK_PX / max(mask.shape))
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    look = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    named = {value: colour for file in files for value, colour in file.name_values().items()}
    values = sorted(named, key=lambda value: (isinstance(value, str), value))[:MOST_NAMED]
    return MaskFacts(
        size_px=files[0].size_px,
        orientation=files[0].orientation,
        values=tuple(values),
        ground=min(file.levels.ground for file in files if file.levels is not None),
        shown=tuple(named[value] for value in values if named[value]),
        grey=any(file.grey for file in files),
        shown_inverted=any(file.shown_inverted for file in files),
        marked_frac=cv2.countNonZero(mask) / mask.size,
        look=np.packbits(look).tobytes(),
        look_px=(size[1], size[0]),
    )


def read_mask_size(path: Path, *, reading: MaskReading = AS_STORED) -> tuple[int, int]:
    """Return size (height_px, width_px) as `read_mask` gives it without ``most_px``, from the header alone.

    Raises:
        DataError, MissingExtraError: as `smalti.images.read_size`.
    """
    if reading.size_px is not None:
        return reading.size_px
    with _open_file(path, reading, whole=False, decode=False) as file:
        return file.size_px


def turn_plane(plane: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a plane (H, W) as an EXIF orientation wants it."""
    if orientation in {5, 6, 7, 8}:
        plane = plane.T
    if orientation in {2, 3, 6, 7}:
        plane = plane[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        plane = plane[::-1]
    return np.ascontiguousarray(plane)


def _unite(path: Path, reading: MaskReading, most_px: int | None) -> tuple[Mask, list[_File]]:
    """Return the union of what the files mark, and the files."""
    united: Mask | None = None
    files: list[_File] = []
    for part in (path, *reading.more):
        with _open_file(part, reading, whole=most_px is None) as file:
            padded = reading.size_px if reading.fit == "pad" else None
            step = _find_step(padded or file.size_px, most_px)
            mask = file.cut(step, reading.values)
        files.append(file)
        if united is not None and file.size_px != files[0].size_px:
            own, first = ("{} x {} px".format(*one.size_px) for one in (file, files[0]))
            message = f"is {own}, and {path.name}, of the same mask, {first}."
            raise data_error(part, "mask-size", message=message, fix="export the masks of one image at one size")
        united = mask if united is None else np.maximum(united, mask)
    assert united is not None
    return 1 - united if reading.inverted else united, files


def _find_step(size_px: tuple[int, int], most_px: int | None) -> int:
    return 1 if most_px is None else max(1, math.ceil(math.sqrt(math.prod(size_px) / most_px)))


@dataclass
class _File:
    """One file of a mask, open.

    Attributes:
        path: where it is.
        size_px: (height, width) after turning.
        orientation: its own EXIF orientation.
        read: from first and last row to values (h, W) or (h, W, 3), and opacity (h, W) where there is one.
        palette: (n, 4) colours and opacity of the values; None without a palette.
        white_is_zero: whether it shows 0 as white.
        lossy: whether values waver.
        levels: what was cut.
        colours: numbers of the colours, where there are any.
    """

    path: Path
    size_px: tuple[int, int]
    orientation: int
    read: Callable[[int, int], Planes]
    palette: Mask | None = None
    white_is_zero: bool = False
    lossy: bool = False
    levels: Marks | None = None
    colours: Marks | None = None

    @property
    def grey(self) -> bool:
        return self.levels is not None and self.levels.grey

    @property
    def shown_inverted(self) -> bool:
        """Return whether what is 0 looks brighter than what is not."""
        if self.palette is None or self.levels is None:
            return self.white_is_zero
        marked = {int(v): n for v, n in self.levels.counts.items() if 0 < v < len(self.palette)}
        if not marked or not self.palette[0, 3]:
            return False
        light = self.palette[:, :3].astype(float).mean(axis=1)
        return bool(light[0] > np.average(light[list(marked)], weights=list(marked.values())))

    def name_values(self) -> dict[int | float | str, str]:
        """Return the values that were found, or colours as ``#rrggbb``, and the colour of a palette for each."""
        assert self.levels is not None
        if self.colours is not None and len(self.colours.counts) > 1:
            return {f"#{int(number):06x}": "" for number in self.colours.counts}
        shown = {} if self.palette is None else {i: f"#{_number(c):06x}" for i, c in enumerate(self.palette)}
        return {int(v) if v == int(v) else v: shown.get(int(v), "") for v in self.levels.counts}

    def cut(self, step: int, values: tuple[int | str, ...]) -> Mask:
        """Return the marked pixels, (h, w) of 0 and 1, at every ``step``-th row and column; by ``values``, if any."""
        height_px, width_px = self.size_px
        light, opacity, shown, colours = (Marks(self.path, step, lossy=self.lossy) for _ in range(4))
        codes = [int(value[1:], 16) for value in values if isinstance(value, str)]
        rows = height_px if step == 1 else max(1, BAND_PX // width_px // step) * step
        for row in range(0, height_px, rows):
            band, solid = self.read(row, min(row + rows, height_px))
            if band.ndim == 3:
                red, green, blue = band[..., 0], band[..., 1], band[..., 2]
                if codes or not ((red == green).all() and (green == blue).all()):
                    wide = (band >> 8 if band.dtype == np.uint16 and band.max() > 255 else band).astype(np.uint32)
                    colours.add(np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]), keep=bool(codes))
                band = np.maximum(np.maximum(red, green), blue)
            light.add(band)
            if solid is not None:
                opacity.add(solid)
                shown.add(((band.astype(np.uint32) * solid + 127) // 255).astype(band.dtype))
        self.levels, self.colours = light, colours
        if opacity.parts and opacity.low != opacity.high:
            self.levels = opacity if light.low == light.high and len(colours.counts) < 2 else shown
        if not values:
            return self.levels.cut()
        plane = self.levels.join()
        numbers = [value for value in values if not isinstance(value, str)]
        if colours.parts:
            return np.asarray(np.isin(plane, numbers) | np.isin(colours.join(), codes), dtype=np.uint8)
        if self.palette is not None:
            numbers += [i for i, colour in enumerate(self.palette) if _number(colour) in codes]
        else:
            numbers += [code & 255 for code in codes if code == (code & 255) * 0x010101]
        return np.asarray(np.isin(plane, numbers), dtype=np.uint8)


def _number(colour: NDArray[Any]) -> int:
    return int(colour[0]) << 16 | int(colour[1]) << 8 | int(colour[2])


@contextmanager
def _open_file(path: Path, reading: MaskReading, *, whole: bool, decode: bool = True) -> Iterator[_File]:
    """Open a file of a mask; without ``decode`` only its header is read."""
    if is_slide(path):
        with open_slide(path) as slide:
            height_px, width_px = find_slide_size(slide)

            def read_slide(row: int, stop: int) -> Planes:
                return np.asarray(read_slide_region(slide, (row, 0, stop - row, width_px)), dtype=np.uint8), None

            yield _File(path, (height_px, width_px), 1, read_slide, lossy=True)
        return
    with open_stored(path) as stored:
        if stored is not None:
            with name_failures(path):
                yield _open_raw(stored, reading, whole=whole)
            return
    with open_picture(path) as (image, own):
        orientation = own if reading.orientation is None else reading.orientation
        size_px, lossy = find_turned_size(image, orientation), image.format == "JPEG"
        palette: Mask | None = None  # colours and opacity (n, 4) of the values
        if decode:
            if whole:
                refuse_whole(path, (image.height, image.width), most_px=LARGEST_WHOLE_PX)
            image.load()
            check_whole(image, path)
            image = turn(image, orientation)
        if decode and image.mode == "P":
            image.apply_transparency()
            palette = np.array(image.getpalette("RGBA"), dtype=np.uint8).reshape(-1, 4)
            if not len(palette):
                message = "cannot be decoded: its palette is not there."
                raise data_error(path, "unreadable", message=message, fix=COPY_AGAIN)

        def read_picture(row: int, stop: int) -> Planes:
            # Numbers as the file holds them, (h, W) or (h, W, 3); opacity (h, W) where it has one.
            part = image if stop - row == image.height else image.crop((0, row, image.width, stop))
            plain = part.mode in {"L", "I", "F", "1"} and not part.has_transparency_data
            if plain or part.mode == "P" or part.mode.startswith("I;16"):
                return np.asarray(part), None
            refuse_mode(part, path)
            if not part.has_transparency_data:
                return np.asarray(part if part.mode == "RGB" else part.convert("RGB")), None
            colour = np.asarray(part.convert("RGBA"))
            return colour[..., :3], colour[..., 3]

        yield _File(path, size_px, own, read_picture, palette, lossy=lossy)


def _open_raw(stored: Stored, reading: MaskReading, *, whole: bool) -> _File:
    """Return a file whose values are read as stored."""
    own, meaning = stored.orientation, stored.meaning
    stored.orientation = own if reading.orientation is None else reading.orientation
    if whole:
        refuse_whole(stored.path, stored.size_px, most_px=LARGEST_WHOLE_PX)
    palette = None
    if meaning.palette is not None:
        colours = meaning.palette >> 8 if meaning.palette.max() > 255 else meaning.palette
        palette = np.column_stack([colours, np.full(len(colours), 255)]).astype(np.uint8)

    def read(row: int, stop: int) -> Planes:
        values = stored.read((row, 0, stop - row, stored.size_px[1]))
        if values.ndim == 2:
            return values, None
        opacity = None
        if meaning.alpha is not None:
            opacity = values[..., meaning.alpha]
            opacity = (opacity >> 8 if opacity.dtype == np.uint16 else opacity).astype(np.uint8)
        colour = values[..., : meaning.samples]
        if meaning.photometric in {"cmyk", "ycbcr"}:
            return to_colours(colour, replace(meaning, extras=()), bits=meaning.bits, ends=None), opacity
        return colour[..., 0] if meaning.samples == 1 else colour, opacity

    if meaning.samples == 1 and 0 in meaning.extras:
        message = f"holds {1 + len(meaning.extras)} values a pixel, and nothing says which of them is mask."
        fix = "export the mask with one value a pixel"
        raise data_error(stored.path, "several-pictures", message=message, fix=fix)
    inverted = meaning.photometric == "miniswhite"
    lossy = bool({"jpeg", "ojpeg"} & set(stored.form.split()))  # JPEG 2000, XL and XR may be without loss
    return _File(stored.path, stored.size_px, own, read, palette, inverted, lossy)
