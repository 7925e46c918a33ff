"""Open any supported image; nothing else in smalti opens image files.

The structure of a file is looked at before it is decoded. TIFF is read with tifffile, slides with OpenSlide (extra
``openslide``), PNG and JPEG 2000 of more than 8 bits with imagecodecs, the rest with Pillow; which, is told by the
first bytes of a file and the suffix of a slide.

How pixels become 8-bit RGB:

    8 bits a value       as they are; an embedded colour profile is not applied
    fewer bits           spread over 0..255
    12, 10 or 14 bits    the highest 8 of those in use, as BitsPerSample, MaxSampleValue (if 2**n - 1) or OME's
      in 16              SignificantBits say; where none does, the fewest of 8, 10, 12, 14, 16 that hold every value of
                         the cohort, with a note. Where its files differ that is a question (data.bits). A file that is
                         read without a cohort is taken by its own largest value
    16 bits              the high byte; of a PGM once its values are spread over 0..65535, as its header says
    floats, 32 bits,     refused: their range is not known
      signed, Lab
    grey                 repeated into three channels; white-is-zero is turned round, for any number of bits
    palette              the palette's colours
    planes, tiles, any   put together, whatever the compression; what imagecodecs does not know is refused
      byte order
    opacity              laid over white, as paper would show it; premultiplied or not, as the file says. 0 everywhere
                         was never filled: the colours are taken, with a note
    further samples      left out, with a note
    CMYK, YCbCr, HSV     Pillow's conversion; YCbCr in JPEG is its decoder's

Which pages of a TIFF are read (`smalti.images.stored.pages`):

    labels, macros,      passed over, with a note: by name, by NewSubfileType, or smaller than the main picture and of
      thumbnails           its proportions
    pyramids             the largest level; the others serve views of large images
    R, G, B as grey      put together, with a note, where OME or ImageJ calls three pages channels, or they bear names,
                           or where they are the three values of one page
    focal planes, time,  refused, naming the pages; so are three grey pages that nothing calls colours, other pictures
      other stacks         of a quarter of the size or more, and animated GIF, PNG, WebP
    JPEG of two          the first, as its format means it; a second one of the same size is a warning

EXIF orientation is applied (the TIFF tag likewise), also where a PNG has it behind its pixels. A slide is what its
bounds enclose, as QuPath shows and counts it.

What a decoder fills with black or passes over, a PNG of too few rows or with a wrong checksum, a TIFF of too few
strips, is refused. Only regular files are opened, and whatever a decoder raises becomes a `DataError` with file and
fix. A ``.tif`` goes to OpenSlide only where that knows the scanner.
"""

from .checking import RULES, check_image, find_remarks
from .colours import count_bits
from .facts import PLAUSIBLE_MPP, read_encoding, read_mpp, read_orientation, read_plane
from .holding import HELD_BYTES, changed_error, hold_files
from .masks.planes import LOOK_PX, MOST_NAMED, MaskFacts, read_mask, read_mask_size, survey_mask, turn_plane
from .opening import open_stored
from .pictures import LARGEST_WHOLE_PX, PICTURE_FORMATS
from .regions import Regions, open_regions, read_image, read_region, read_size, read_thumbnail
from .slides import SLIDE_SUFFIXES, TIFF_SUFFIXES
from .sources import hash_image, list_parts, list_times, open_file, read_stamp

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_SUFFIXES = (
    ".png", *JPEG_SUFFIXES, *TIFF_SUFFIXES, ".bmp", ".webp", ".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
    ".ppm", ".pgm", ".pbm", ".pnm", *SLIDE_SUFFIXES,
)  # fmt: skip
WHOLE_PX = 64_000_000  # images beyond are read by region and masks at every n-th pixel: 0.2 GB of RGB are held at most

__all__ = [
    "HELD_BYTES", "IMAGE_SUFFIXES", "LARGEST_WHOLE_PX", "LOOK_PX", "MOST_NAMED", "PICTURE_FORMATS", "PLAUSIBLE_MPP",
    "RULES", "SLIDE_SUFFIXES", "TIFF_SUFFIXES", "WHOLE_PX", "MaskFacts", "Regions", "changed_error", "check_image",
    "count_bits", "find_remarks", "hash_image", "hold_files", "list_parts", "list_times", "open_file", "open_regions",
    "open_stored", "read_encoding", "read_image", "read_mask", "read_mask_size", "read_mpp", "read_orientation",
    "read_plane", "read_region", "read_size", "read_stamp", "read_thumbnail", "survey_mask", "turn_plane",
]  # fmt: skip
