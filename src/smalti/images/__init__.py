"""Open any supported image; nothing else in smalti opens image files.

How pixels become 8-bit RGB:

    8 bits per channel   as they are; an embedded colour profile is not applied
    16 bits per channel  the high byte (linear, full range: value >> 8)
    grey                 repeated into three channels
    1 bit                0 and 255
    palette              the palette's colours
    alpha                laid over white, as paper would show it
    CMYK, YCbCr, HSV     Pillow's conversion
    32-bit, Lab          refused: their range is not known
    EXIF orientation     applied (the TIFF tag likewise); a mask is turned like its image
    several frames       the first, with a warning

What a decoder fills with black or passes over, a PNG of too few rows or with a wrong checksum, a TIFF of too few
strips, is refused. Only regular files are opened, and whatever a decoder raises becomes a `DataError` with file and
fix.

Whole-slide files are read with OpenSlide (extra ``openslide``), at the highest resolution, over white. A ``.tif`` goes
there only when it is large (`LARGE_PX`) or Pillow does not know it.
"""

from .facts import PLAUSIBLE_MPP, read_encoding, read_mpp
from .files import hash_image, list_parts, list_times, open_file, read_stamp
from .holding import HELD_BYTES, changed_error, hold_files
from .masks import read_mask
from .pictures import LARGE_PX, LARGEST_WHOLE_PX, PICTURE_FORMATS
from .regions import Regions, check_image, open_regions, read_image, read_region, read_size, read_thumbnail
from .slides import SLIDE_SUFFIXES, TIFF_SUFFIXES

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", *TIFF_SUFFIXES, ".bmp", ".webp", ".gif", ".jp2", ".j2k", ".j2c", ".jpc",
    ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", *SLIDE_SUFFIXES,
)  # fmt: skip
WHOLE_PX = 64_000_000  # images beyond are read by region and masks at every n-th pixel: 0.2 GB of RGB are held at most

__all__ = [
    "HELD_BYTES",
    "IMAGE_SUFFIXES",
    "LARGEST_WHOLE_PX",
    "LARGE_PX",
    "PICTURE_FORMATS",
    "PLAUSIBLE_MPP",
    "SLIDE_SUFFIXES",
    "TIFF_SUFFIXES",
    "WHOLE_PX",
    "Regions",
    "changed_error",
    "check_image",
    "hash_image",
    "hold_files",
    "list_parts",
    "list_times",
    "open_file",
    "open_regions",
    "read_encoding",
    "read_image",
    "read_mask",
    "read_mpp",
    "read_region",
    "read_size",
    "read_stamp",
    "read_thumbnail",
]
