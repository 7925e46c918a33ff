"""Settle for the whole process what the C libraries do with freed memory and with threads."""

from __future__ import annotations

import ctypes
import os
import sys

# As malloc.h numbers them. The C library hands large blocks back to the system at once, which then clears each page
# anew, and a map of 1,000 px takes 4 MB: a tenth of the time of looking at images, a quarter of that of features.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_BYTES = 512 << 20, (128 << 20, 32 << 20)
IMAGE_THREADS = 2  # that look at images; where there are no more cores, threads of OpenCV wait for one another


def settle_process() -> None:
    """Keep up to 512 MB of freed memory for its next use, and OpenCV on its caller's thread where cores are few.

    To be called before OpenCV is imported. Blocks above 128 MB go back at once. What the C library (musl, macOS,
    Windows) does not let one say is left as it is.
    """
    if (os.cpu_count() or 1) <= IMAGE_THREADS:
        os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Some versions take no more than half of what a heap of theirs may hold; without either, nothing is changed.
    if mallopt is not None and any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST_BYTES):
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
