"""Members of an ensemble, what a fit sees of them, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...records import FoldBlend

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = pd.DataFrame
PartName = Literal["inner", "outer", "test", "sealed"]

KEYS = ["seed", "fold", "image"]
PARTS: tuple[PartName, ...] = ("outer", "inner", "test", "sealed")


@dataclass(frozen=True, slots=True)
class Member:
    """The prediction tables of one finished run; ``test`` and ``sealed`` are None where there are no such images."""

    name: str
    inner: Table
    outer: Table
    test: Table | None = None
    sealed: Table | None = None


@dataclass(frozen=True, slots=True)
class Combined:
    """Prediction tables of an ensemble, rows in the order of the first member.

    Attributes:
        inner: its scores of the rows that it was fitted on, which are optimistic; they give the optimism.
        outer, test, sealed: its scores of rows that had no say.
        record: how the members were combined in each seed and fold.
    """

    inner: Table
    outer: Table
    test: Table | None
    sealed: Table | None
    record: tuple[FoldBlend, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """The inner rows of one seed and fold, which is all that a fit gets to see.

    Attributes:
        names: (M,) names of the members.
        scores: (M, n, C) their scores.
        y_true: (n,) class index.
        case: (n,) case index, 0 to the number of cases - 1.
    """

    names: tuple[str, ...]
    scores: Floats
    y_true: Ints
    case: Ints


@dataclass(frozen=True, slots=True)
class Blend:
    """What was fitted: ``apply`` maps scores of the members (M, n, C) to (n, C); the rest is for the record."""

    apply: Callable[[Floats], Floats]
    weights: dict[str, float] | None = None
    C: float | None = None
    note: str = ""
    temperature: float = 1.0  # of what the members make together
