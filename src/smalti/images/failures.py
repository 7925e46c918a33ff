"""What an image file can be found guilty of, as a `DataError`."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, Problem


def data_error(path: Path, code: str, *, message: str, fix: str) -> DataError:
    """The error about one file."""
    problem = Problem(code=code, file=str(path), message=message, fix=fix)
    return DataError("an image cannot be read", [problem])


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
