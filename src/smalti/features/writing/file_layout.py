"""The layouts by name: which numbers each holds by default, and what writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...registry import Registry
from .clam_files import write_clam
from .feature_bag import FeatureBag
from .own_files import write_own
from .stamp_files import write_stamp
from .trident_files import write_trident


@dataclass(frozen=True, slots=True)
class FileLayout:
    """A way to lay out the bags of a cohort.

    Attributes:
        dtype: of the numbers, as the tool itself writes them: code that trains on them may take no other.
        folders: whether the folders of slides are kept; elsewhere all slides lie side by side.
        needs_mpp: whether microns per pixel must be known.
        write: writes one bag below a folder and returns the paths there, last the one to be read.
    """

    dtype: Literal["float16", "float32"]
    folders: bool
    needs_mpp: bool
    write: Callable[[Path, FeatureBag], tuple[str, ...]]


FILE_LAYOUTS: Registry[FileLayout] = Registry("layout of features")
for _name, _layout, _what in (
    ("smalti", FileLayout("float16", True, False, write_own), "one file a slide, contiguous"),
    ("clam", FileLayout("float32", False, False, write_clam), "patches, h5_files and pt_files of CLAM"),
    ("trident", FileLayout("float32", False, False, write_trident), "patches and features_<encoder> of TRIDENT"),
    (
        "stamp",
        FileLayout("float16", True, True, write_stamp),
        "one file a slide, coordinates in micrometres; STAMP 2.1",
    ),
):
    FILE_LAYOUTS.add(_name, _layout, summary=_what)


def find_file_layout(name: str) -> FileLayout:
    """Return a layout by its name.

    Raises:
        PartError: there is none.
    """
    return FILE_LAYOUTS.find(name).build()
