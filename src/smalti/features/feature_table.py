"""A table of features: one row a slide, or one row a tile; columns of numbers are the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError, Problem


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The numbers of a table.

    Attributes:
        columns: names of the features.
        values: (rows, D) float32.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float32]


def read_feature_table(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> FeatureTable:
    """Read the named columns of a table; read once for as long as the file stays as it is.

    Raises:
        DataError: it cannot be read, or a column is gone or holds no numbers.
    """
    state = path.stat()
    return _read(path, tuple(columns), delimiter, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, columns: tuple[str, ...], delimiter: str, *stamp: int) -> FeatureTable:
    try:
        table = pd.read_csv(path, sep=delimiter, usecols=list(columns), dtype=np.float64, comment=None)
    except (ValueError, OSError) as error:
        message = f"cannot be read as a table of numbers: {str(error).splitlines()[0]}."
        fix = "leave columns of text out of data.features, and write missing numbers as empty cells"
        raise DataError(
            f"{path} is no table of features", [Problem("features-table", str(path), message, fix)]
        ) from None
    return FeatureTable(columns, table[list(columns)].to_numpy().astype(np.float32))
