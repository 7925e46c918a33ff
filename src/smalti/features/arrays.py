"""Arrays in ``.npz`` and ``.pt`` files: which there are, where they lie, and nothing in a file is carried out."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, Problem

LONELY = "values"  # what an array without a name is called
IN_PLACE = ("f2", "f4", "f8")  # values that are read where they lie
LOCAL_HEADER = struct.Struct("<26x2H")  # of a zip member: lengths of its name and of its extra field
GLOBAL = re.compile(r"GLOBAL (\S+)")  # how torch names what a pickle asks for


@dataclass(frozen=True, slots=True, eq=False)
class StoredArray:
    """An array in a file.

    Attributes:
        shape: of it.
        dtype: of its values once they are read.
        offset: where they begin in the file, if they lie there as they are; None otherwise.
        read: reads all of it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    read: Callable[[], NDArray[Any]]


def list_arrays(path: Path) -> dict[str, StoredArray]:
    """Return the arrays of an ``.npz``, or the tensors of a ``.pt``, by their names.

    Raises:
        DataError: a ``.pt`` holds objects, which would have to be carried out.
        OSError, ValueError, RuntimeError, zipfile.BadZipFile: the file is damaged.
    """
    return _list_npz(path) if path.suffix.lower() == ".npz" else _list_torch(path)


def _list_npz(path: Path) -> dict[str, StoredArray]:
    """Read the headers of the arrays alone."""
    found: dict[str, StoredArray] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                old = version == (1, 0)
                header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                shape, by_columns, dtype = header(file)
                begin = file.tell()
            plain = member.compress_type == zipfile.ZIP_STORED and dtype.isnative and dtype.str[1:] in IN_PLACE
            offset = _find_member(raw, member) + begin if plain and not by_columns else None

            def read(name: str = name) -> NDArray[Any]:
                with np.load(path, allow_pickle=False) as file:
                    return np.asarray(file[name])

            found[name] = StoredArray(shape, dtype.newbyteorder("="), offset, read)
    return found


def _list_torch(path: Path) -> dict[str, StoredArray]:
    import torch

    zipped = zipfile.is_zipfile(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it refuses anyway
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refuse_objects(path, str(error)) from None
    named = {LONELY: content} if isinstance(content, torch.Tensor) else content if isinstance(content, dict) else {}
    tensors = {str(name): part for name, part in named.items() if isinstance(part, torch.Tensor)}
    found: dict[str, StoredArray] = {}
    for name, tensor in tensors.items():
        wide = tensor.dtype == torch.bfloat16  # which NumPy does not know

        def read(tensor: Any = tensor, *, wide: bool = wide) -> NDArray[Any]:
            return np.asarray((tensor.detach().float() if wide else tensor.detach()).numpy())

        shape = tuple(tensor.shape)
        dtype = np.dtype(np.float32) if wide else np.dtype(str(tensor.dtype).removeprefix("torch."))
        # The place of a single tensor can be told, for the file holds one block of values.
        alone = zipped and len(tensors) == 1 and not wide and tensor.is_contiguous() and dtype.str[1:] in IN_PLACE
        found[name] = StoredArray(shape, dtype, _find_block(path, tensor) if alone else None, read)
    return found


def _find_block(path: Path, tensor: Any) -> int | None:
    """Return where the values of the only tensor of a zipped ``.pt`` begin; None where that cannot be told."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        blocks = [member for member in archive.infolist() if "/data/" in member.filename]
        order = [member for member in archive.infolist() if member.filename.endswith("/byteorder")]
        if len(blocks) != 1 or blocks[0].compress_type != zipfile.ZIP_STORED:
            return None
        if order and archive.read(order[0]).strip() != b"little":
            return None
        return _find_member(raw, blocks[0]) + tensor.storage_offset() * tensor.element_size()


def _find_member(raw: BinaryIO, member: zipfile.ZipInfo) -> int:
    raw.seek(member.header_offset)
    name, extra = LOCAL_HEADER.unpack(raw.read(LOCAL_HEADER.size))
    return member.header_offset + LOCAL_HEADER.size + int(name) + int(extra)


def _refuse_objects(path: Path, said: str) -> DataError:
    asked = GLOBAL.search(said)
    what = "is no file of torch"
    if asked:
        what = f"holds more than tensors ({asked[1]}), and nothing in it was carried out"
    fix = "save the tensor alone, torch.save(features.cpu(), FILE), or as .npz or .h5; a file of unknown origin that "
    fix += "asks for functions may be an attack"
    return DataError(f"{path} {what}", [Problem("features-unsafe", str(path), f"{what}.", fix)])
