"""Files held still while they are decoded, so that what was decoded is what was hashed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from .failures import data_error, name_failures
from .slides import is_slide
from .sources import HELD, hash_image, open_file, read_stamp

HELD_BYTES = 64_000_000  # larger files stay on disk while they are decoded


@contextmanager
def hold_files(paths: Iterable[Path], *, expected: Mapping[Path, str] | None = None) -> Iterator[None]:
    """Read files once: all that this thread decodes of them inside the block are these bytes.

    With ``expected``, hashes as `hash_image` gives them, the bytes are compared before any is decoded. Files above
    `HELD_BYTES` and slides stay on disk; they are hashed at the end of the block, and may not have been touched since
    its beginning.

    Raises:
        DataError: a file cannot be read, or is not the one that was expected.
    """
    before = HELD.bytes
    held: dict[Path, bytes] = {}
    stamps = {path: read_stamp(path) for path in paths}
    for path in list(stamps):
        if stamps[path][0] <= HELD_BYTES and not is_slide(path):
            with name_failures(path), open_file(path) as file:
                held[path] = file.read()
            del stamps[path]
    HELD.bytes = {**before, **held}
    try:
        if expected is not None:
            _compare(held, expected)
        yield
        if expected is not None:
            _compare(stamps, expected)
            for path, stamp in stamps.items():
                if read_stamp(path) != stamp:
                    raise changed_error(path)
    finally:
        HELD.bytes = before


def _compare(paths: Iterable[Path], expected: Mapping[Path, str]) -> None:
    for path in paths:
        if hash_image(path) != expected[path]:
            raise changed_error(path)


def changed_error(path: Path) -> DataError:
    """Return the error about a file that is not what it was a moment ago."""
    return data_error(
        path,
        "changed",
        message="changed while smalti was reading it; nothing of it is kept.",
        fix="wait until nobody writes to the data folder, then run the same command again",
    )
