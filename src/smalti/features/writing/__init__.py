"""Write the bag of a slide as smalti, CLAM, TRIDENT or STAMP lay it out, so that their own code reads it.

What each file holds was taken from the code that writes it there. smalti's layout is the fastest to read: contiguous,
half precision. Readers of all of them are in `smalti.features`.
"""

from .clam_files import write_clam
from .feature_bag import FeatureBag
from .file_layout import FILE_LAYOUTS, FileLayout, find_file_layout
from .own_files import write_own
from .stamp_files import write_stamp
from .trident_files import write_trident

__all__ = [
    "FILE_LAYOUTS", "FeatureBag", "FileLayout", "find_file_layout", "write_clam", "write_own", "write_stamp",
    "write_trident",
]  # fmt: skip
