"""Errors about image files, each as a `DataError`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError, Problem, SmaltiError

COPY_AGAIN = "copy or export the file again"
CHECK_PLACE = "check its permissions and the disk that it lies on, then run again"
# What the system says about a file, in words: code of the problem, what is wrong, what to do.
SYSTEM_ERRORS = {
    errno.ENOENT: ("missing-file", "does not exist", "copy the file there or remove its row"),
    errno.ENOTDIR: ("missing-file", "does not exist", "copy the file there or remove its row"),
    errno.ELOOP: ("not-a-file", "is a link in a ring of links", "put the file itself in the place of the link"),
    errno.EACCES: ("unreadable", "may not be read: permission denied", CHECK_PLACE),
    errno.EPERM: ("unreadable", "may not be read: permission denied", CHECK_PLACE),
    errno.ENOMEM: (
        "too-little-memory",
        "needs more memory than there is",
        "close other programs, or export it smaller",
    ),
}


def data_error(path: Path, code: str, *, message: str, fix: str) -> DataError:
    """Return the error about one file."""
    problem = Problem(code=code, file=str(path), message=message, fix=fix)
    return DataError("a file cannot be read", [problem])


@contextmanager
def name_failures(path: Path) -> Iterator[None]:
    """Open what fails inside becomes a `DataError` about the file: decoders raise anything on damaged bytes."""
    try:
        yield
    except SmaltiError:
        raise
    except MemoryError:
        code, what, fix = SYSTEM_ERRORS[errno.ENOMEM]
        raise data_error(path, code, message=f"{what}.", fix=fix) from None
    except Exception as error:  # noqa: BLE001  # named and raised again, whatever a decoder raised
        number = (error.errno or 0) if isinstance(error, OSError) else 0  # Pillow raises its own without a number
        said, fix = ("read", CHECK_PLACE) if number else ("decoded", COPY_AGAIN)
        reason = os.strerror(number) if number else str(error) or f"the decoder gave up ({type(error).__name__})"
        other = ("unreadable", f"cannot be {said}: {reason.rstrip('.')}", fix)
        code, what, fix = SYSTEM_ERRORS.get(number, other)
        raise data_error(path, code, message=f"{what}.", fix=fix) from None


def refuse_outside(path: Path, corner: tuple[int, int], *, wanted: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise a `DataError` where a rectangle at ``corner`` does not lie inside an image of ``size``."""
    if min(corner) < 0 or min(wanted) < 1 or any(c + w > s for c, w, s in zip(corner, wanted, size, strict=True)):
        raise data_error(
            path,
            "region-outside",
            message=f"region {wanted} px at {corner} leaves the image of {size} px.",
            fix="ask for a region inside the image",
        )


def refuse_whole(path: Path, size: tuple[int, int], *, most_px: int) -> None:
    """Raise a `DataError` where an image has more than ``most_px`` pixels."""
    if size[0] * size[1] > most_px:
        raise data_error(
            path,
            "image-too-large",
            message=f"is too large ({size[0]} x {size[1]} px) to be read whole.",
            fix="read it by regions, or export the tissue at a lower magnification",
        )
