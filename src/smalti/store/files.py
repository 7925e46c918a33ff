"""Files and folders of runs and caches: written atomically, read with one clear error."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import RunError
from ..types import SITE_COLUMN, SUBGROUP_PREFIX
from .leftovers import name_temporary, remove_leftovers

# What network shares, FUSE and WSL answer where they know no such request; EIO and ENOSPC are losses and stay errors.
UNKNOWN_REQUEST = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
FOLDER_REFUSALS = UNKNOWN_REQUEST | {errno.EPERM, errno.EACCES, errno.EISDIR, errno.EBADF}


def write_atomic(path: Path, content: bytes | str) -> Path:
    """Write to a temporary name beside ``path``, then rename; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A path from a command line may hold bytes that are not UTF-8; in JSON, the escape means the same.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = name_temporary(path.parent)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            with passing_over(UNKNOWN_REQUEST):
                os.fsync(file.fileno())
        with passing_over(UNKNOWN_REQUEST | {errno.EPERM}):  # shares and FAT keep modes of their own
            temporary.chmod(0o644)
        temporary.replace(path)
        _keep_renames(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _keep_renames(folder: Path) -> None:
    """Put the names in a folder on disk; without it a power cut could bring the old file back."""
    if os.name == "nt":
        return  # Windows opens no folder, and its file system keeps renames in a journal
    with passing_over(FOLDER_REFUSALS):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def passing_over(answers: frozenset[int]) -> Iterator[None]:
    """Go on where the file system answers a request of the block with one of these error numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in answers:
            raise


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Fill ``folder`` with ``build(temporary folder)`` unless it is there; safe when two processes do it at once.

    The first to finish renames its folder into place; a later one drops its own.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary = name_temporary(folder.parent)
    try:
        temporary.mkdir()
        build(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def replace_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Put ``build(temporary folder)`` in the place of a folder and all that it holds; whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary, old = name_temporary(folder.parent), name_temporary(folder.parent)
    try:
        temporary.mkdir()
        build(temporary)
        with suppress(FileNotFoundError):  # there is none, or another process has just replaced it
            folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        _keep_renames(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically; keys keep their order."""
    return write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV atomically; floats keep nine digits, with which single precision is read back to the same number."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n", float_format="%.9g")
    return write_atomic(path, buffer.getvalue())


# What Python says where a record is not what it should be.
UNFIT = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, EOFError, RecursionError, OSError,
    pd.errors.ParserError, pd.errors.EmptyDataError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def reading(path: Path, *, fix: str = "delete it and run the stage again") -> Iterator[None]:
    """Turn whatever goes wrong while a record is taken apart into one message that names it.

    Args:
        path: the record, a file or a folder.
        fix: what to do where it is damaged.

    Raises:
        RunError: the record is missing or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path} does not exist", fix="run the stage that writes it ('smalti run')") from None
    except UNFIT as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no fault of the record
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise RunError(f"{path} is damaged: {what or type(error).__name__}", fix=fix) from None


def read_json(path: Path, *keys: str) -> Any:
    """Read a JSON file of a run folder; with ``keys``, one that must be a mapping and have them.

    Raises:
        RunError: the file is missing or damaged.
    """
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if keys:
            for key in keys:
                content[key]
            dict(content)
        return content


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV of a run folder, which must have ``columns``; text columns stay text, empty stays empty text.

    Raises:
        RunError: the file is missing or damaged.
    """
    with reading(path):
        text = dict.fromkeys(("image", "case", "label", "mask", "part", "index", "role", "phase"), str)
        header = pd.read_csv(path, nrows=0).columns
        text |= {name: str for name in header if name == SITE_COLUMN or name.startswith(SUBGROUP_PREFIX)}
        if absent := [name for name in columns if name not in header]:
            raise KeyError(", ".join(absent))
        # A class may be called "None" or "NA": only numbers may be missing.
        missing = {name: ["", "nan"] for name in header if name not in text}
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing)


def find_table(path: Path) -> pd.DataFrame | None:
    """Read a CSV of a run folder as `read_table` does; None where there is none."""
    return read_table(path) if path.is_file() else None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write named arrays as ``.npz`` atomically; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return write_atomic(path, buffer.getvalue())


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` by name, or all of them; pickles are refused.

    Raises:
        RunError: the file is missing or damaged, or an array is not in it.
    """
    with reading(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in (file.files if names is None else names)}


def now_text() -> str:
    """Return the present moment, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
