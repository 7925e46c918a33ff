"""What a trained run knows about each image: ``traces.json``, ``dynamics.npz``, ``embeddings.npz``, ``stain.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..store import read_arrays, write_arrays
from .layout import FEATURES, STAIN, TRACES
from .record import Part, Record

NUMBERS = ("image", "seed", "epoch", "logits")


class Trace(Part):
    """One labelled image as networks saw it that had not learned from its case.

    Attributes:
        image: name in the cohort.
        loss: out-of-fold cross-entropy of the given label, mean over seeds.
        scores: class -> out-of-fold score, mean over seeds.
        history: (epoch, held-out cross-entropy of the given label, mean over seeds); empty where none was recorded.
        alike: nearest images of the given label in other cases, nearest first.
        unlike: nearest images of other labels in other cases, nearest first.
    """

    image: str
    loss: float
    scores: dict[str, float]
    history: tuple[tuple[int, float], ...] = ()
    alike: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


class Traces(Record):
    """``traces.json``: every labelled image."""

    FILE: ClassVar[str] = TRACES
    FIX: ClassVar[str] = "run 'smalti evaluate' on this run again"

    images: tuple[Trace, ...]


class Stains(Record):
    """``stain.json``: how stain was normalised.

    Attributes:
        normalise: the method.
        summary: how many images and tiles were normalised, in words.
        left: image that could not be normalised -> why.
        left_tiles: why -> number of tiles of the other images that could not be.
        references: fold and seed -> the reference of its training cases; None where none could be told.
    """

    FILE: ClassVar[str] = STAIN

    normalise: str
    summary: str
    left: dict[str, str]
    left_tiles: dict[str, int]
    references: dict[str, tuple[tuple[float, ...], ...] | tuple[float, ...] | None]


class FeatureView(Record):
    """``features.json``, in a folder of the cache: one view of frozen features of every tile.

    Attributes:
        size: numbers of a tile.
        view: number of the view.
        backbone: its name.
    """

    FILE: ClassVar[str] = FEATURES
    FIX: ClassVar[str] = "delete its folder and run again"

    size: int
    view: int
    backbone: str


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """Held-out logits of images, one row for each image, seed and epoch; rows of an image and seed in epoch order.

    Attributes:
        names: images.
        classes: in the order of the logits.
        image: (R,) position in ``names``.
        seed, epoch: (R,) which training, and how far it was; epochs count on from phase to phase.
        logits: (R, C).
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    image: NDArray[np.int64]
    seed: NDArray[np.int64]
    epoch: NDArray[np.int64]
    logits: NDArray[np.float32]

    @classmethod
    def read_file(cls, path: Path) -> Dynamics:
        """Read an ``.npz``.

        Raises:
            RunError: the file is missing or damaged.
        """
        arrays = read_arrays(path, ("names", "classes", *NUMBERS))
        names, classes = (tuple(str(text) for text in arrays.pop(key)) for key in ("names", "classes"))
        return cls(names, classes, **arrays)

    def write_file(self, path: Path) -> Path:
        """Write an ``.npz`` atomically; equal dynamics give equal bytes."""
        texts = {key: np.array(getattr(self, key), dtype=np.str_) for key in ("names", "classes")}
        return write_arrays(path, texts | {key: getattr(self, key) for key in NUMBERS})


def join_dynamics(parts: Sequence[Path]) -> Dynamics:
    """Read the dynamics of several folds and seeds as one."""
    read = [Dynamics.read_file(part) for part in parts]
    names = tuple(dict.fromkeys(name for one in read for name in one.names))
    position = {name: i for i, name in enumerate(names)}
    moved = [np.array([position[name] for name in one.names], dtype=np.int64)[one.image] for one in read]
    return Dynamics(
        names=names,
        classes=read[0].classes,
        image=np.concatenate(moved),
        seed=np.concatenate([one.seed for one in read]),
        epoch=np.concatenate([one.epoch for one in read]),
        logits=np.concatenate([one.logits for one in read]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """What images look like to a backbone, to compare them: names, and (n, D) in half precision where it holds them."""

    images: tuple[str, ...]
    points: NDArray[np.floating]

    @classmethod
    def read_file(cls, path: Path) -> Embeddings:
        """Read an ``.npz``.

        Raises:
            RunError: the file is missing or damaged.
        """
        arrays = read_arrays(path, ("images", "embeddings"))
        return cls(tuple(str(name) for name in arrays["images"]), arrays["embeddings"])

    def write_file(self, path: Path) -> Path:
        """Write an ``.npz`` atomically."""
        # Numbers that were measured elsewhere may be larger than half precision holds.
        wide = len(self.points) and np.abs(self.points).max() > np.finfo(np.float16).max
        points = self.points.astype(np.float32 if wide else np.float16)
        arrays = {"images": np.array(self.images, np.str_), "embeddings": points}
        return write_arrays(path, arrays)

    def order(self, images: tuple[str, ...]) -> NDArray[np.floating] | None:
        """Return the points (n, D) of images in their order; None where one has none."""
        position = {name: i for i, name in enumerate(self.images)}
        if not position.keys() >= set(images):
            return None
        return np.asarray(self.points[[position[name] for name in images]])
