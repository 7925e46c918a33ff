"""Memory that is freed and soon wanted again: a planar picture of 1,000 px takes 4 MB, the maps of a network 150."""

from __future__ import annotations

import ctypes
import sys

# As malloc.h numbers them. The C library hands large blocks back to the system at once, which then clears each page
# anew: a tenth of the time in which images are looked at, a quarter of that of frozen features.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_BYTES = 512 << 20, 128 << 20


def keep_freed() -> None:
    """Have this process keep up to 512 MB of freed memory for its next use; larger blocks than 128 MB go back at once.

    Does nothing where the C library has no such setting (musl, macOS, Windows).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, LARGEST_BYTES)
