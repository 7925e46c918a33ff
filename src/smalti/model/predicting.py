"""New images through a model, one after the other: memory does not grow with their number.

Each image is cut as in training, by the same functions. An image is scored by itself, so that neither the order of
the images nor what else is asked changes its answer.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import images, recipe
from ..audit.measure.digest import digest_sample
from ..errors import DataError, RecipeError
from ..records import FeaturePopulation, GivenRecord, ModelRecord, TrainingPopulation
from ..samples import iterate_ahead
from ..tile import TileStore, build_store, cut_array, cut_bag, hold_bag, is_large
from ..types import Cohort, MaskReading, Sample, score_columns
from .bundle import find_model, read_model
from .loaded import Bags, LoadedMember, load_members, score_image
from .look import Look, measure_look, measure_traits
from .mapping import TileMap, map_scores
from .refusal import Refuser, refuse_unreadable
from .taught_bags import BagLook, EncoderError, hold_features, judge_bag, look_at_bag

Array = NDArray[np.uint8]
FITTED = ("mask_exif", "mask_fit")  # knobs of ``data`` that bring a mask to its image
DEVICES = ("auto", "cuda", "mps", "cpu")
# Versions that change what pixels and networks become.
CONCERNED = ("smalti", "torch", "timm", "numpy", "opencv-python-headless", "Pillow")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that is in memory, or whose mask is.

    Attributes:
        pixels: (H, W, 3) RGB of 8 bits, or the file; (N, D) of a model on features.
        mask: (H, W), not 0 where the disease is, or the file; None takes tissue.
    """

    image: str
    case: str
    pixels: Array | Path
    mask: NDArray[np.generic] | Path | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says about one image.

    Attributes:
        scores: (C,) of the classes; None where the image could not be read.
        agreement: share of the networks that name the class with the largest score, of those that have a share in the
            answer; None without scores.
        refused: why there is no answer, beginning with a code of `smalti.model.refusal.CODES`; empty where there is
            one.
        traits: by which many new images are compared with those of training; None where they are not known.
    """

    image: str
    case: str
    scores: tuple[float, ...] | None = None
    agreement: float | None = None
    refused: str = ""
    traits: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Cut:
    """An image whose tiles are there, by tiling; or why they are not."""

    image: str
    case: str
    stores: Mapping[str, TileStore]
    refused: str = ""
    look: Look | BagLook | None = None


class Model:
    """A model folder, loaded.

    Attributes:
        folder: where it lies.
        record: what it holds.
        members: its networks.
        population: what it learned from; None in a model that does not say it, which refuses only what it cannot read,
            and of features, which are compared by ``bags``.
        bags: the bags of features that it learned from; None of images.
        trained: the section ``data`` of its networks, which all of its members share.
        reading: how a file of a mask is read, by that section.
        notes: libraries that have another version than where the model was made.
    """

    def __init__(
        self,
        folder: Path,
        record: ModelRecord,
        members: tuple[LoadedMember, ...],
        population: TrainingPopulation | None = None,
        bags: FeaturePopulation | None = None,
    ) -> None:
        self.folder, self.record, self.members, self.population = folder, record, members, population
        self.bags = bags
        self.trained = next(member.recipe.data for member in members if member.backbone is not None)
        self.reading = MaskReading(values=self.trained.mask_values, inverted=bool(self.trained.mask_inverted))
        self.notes = _compare_versions(record.libraries)
        self._refuser = None if population is None else Refuser(population)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes in the order of the scores."""
        return self.record.classes

    def predict(
        self,
        pictures: Sequence[str | Path | Array] | str | Path,
        masks: Sequence[str | Path | NDArray[np.generic] | None] | None = None,
        cases: Sequence[str] | None = None,
        *,
        mpp: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> pd.DataFrame:
        """Answer for some images.

        Args:
            pictures: files, or arrays (H, W, 3) of RGB, uint8; or a single file. Of a model on features files of
                features, or arrays (N, D) or (D,) of floating numbers.
            masks: of each, a file or an array (H, W) that is not 0 where the disease is; None takes tissue. A file is
                read by ``data.mask_values`` and ``data.mask_inverted`` of the recipe.
            cases: of each (the patient); None: each image is its own.
            mpp: microns per pixel of pictures that do not say their own.
            progress: hears how many are done, and how many there are.

        Returns:
            One row a picture: image, case, predicted, score_<class>..., agreement (share of the networks that name
            that class, of those that have a share in the answer), refused (why there is no answer; empty where there is
            one).

        Raises:
            DataError: a mask is a file, and the recipe fitted masks to their images, which is known of a folder alone.
        """
        # A single path is a list of one; a text would be taken letter by letter.
        pictures = [pictures] if isinstance(pictures, str | Path) else pictures
        masks = [masks] if isinstance(masks, str | Path | np.ndarray) else masks
        cases = [cases] if isinstance(cases, str) else cases
        for what, given in (("masks", masks), ("cases", cases)):
            if given is not None and len(given) != len(pictures):
                message = f"{len(pictures)} pictures and {len(given)} {what} were given"
                raise DataError(message, fix=f"give one of {what} for each picture; None where a picture has none")
        fitted = [f"data.{knob}={getattr(self.trained, knob)}" for knob in FITTED if getattr(self.trained, knob)]
        if fitted and any(isinstance(mask, str | Path) for mask in masks or ()):
            raise DataError(
                f"the model learned from masks that were brought to their images by {' and '.join(fitted)}, which "
                "predict() does not do to a single file",
                fix="'smalti predict MODEL FOLDER' (answer_folder), or give masks as arrays that lie on the image",
            )
        items = [self._take(i, pictures, masks, cases) for i in range(len(pictures))]
        rows = []
        for answer in self.stream(items, mpp=mpp):
            rows.append(answer)
            if progress is not None:
                progress(len(rows), len(items))
        return tabulate_answers(rows, self.classes)

    def stream(self, items: Iterable[Sample | Drawn], *, mpp: float | None = None) -> Iterator[Answer]:
        """Yield the answer for each image in their order; the next one is cut while one is scored."""
        with tempfile.TemporaryDirectory(prefix="smalti-") as room:
            cut = (self._cut(item, Path(room, str(i)), mpp=mpp) for i, item in enumerate(items))
            for i, found in enumerate(iterate_ahead(cut, depth=1)):
                yield self._answer(found)
                shutil.rmtree(Path(room, str(i)), ignore_errors=True)  # the tiles of a large image

    def map_answer(self, item: Sample | Drawn, *, mpp: float | None = None) -> tuple[Answer, TileMap | None]:
        """Answer for one image, with the map of the class that is named.

        Returns:
            The answer; and the map, None where the image is refused or no network sees more than one tile of it.
        """
        with tempfile.TemporaryDirectory(prefix="smalti-") as room:
            found = self._cut(item, Path(room), mpp=mpp)
            answer = self._answer(found)
            if answer.refused or answer.scores is None or self.record.features is not None:
                return answer, None
            pixels = item.pixels if isinstance(item, Drawn) else item.path
            size_px = images.read_size(pixels) if isinstance(pixels, Path) else pixels.shape[:2]
            label = int(np.argmax(answer.scores))
            bags = Bags(found.stores)
            return answer, map_scores(self.members, bags, classes=self.classes, label=label, size_px=size_px)

    def _take(
        self,
        i: int,
        pictures: Sequence[str | Path | Array],
        masks: Sequence[str | Path | NDArray[np.generic] | None] | None,
        cases: Sequence[str] | None,
    ) -> Sample | Drawn:
        picture, mask = pictures[i], None if masks is None else masks[i]
        name = str(picture) if isinstance(picture, str | Path) else str(i)
        case = name if cases is None else str(cases[i])
        pixels = Path(picture) if isinstance(picture, str | Path) else picture
        marks = Path(mask) if isinstance(mask, str | Path) else mask
        if isinstance(pixels, Path) and (marks is None or isinstance(marks, Path)):
            return Sample(name, pixels, marks, None, case, name, bits=self.record.bits, mask_reading=self.reading)
        return Drawn(name, case, pixels, marks)

    def _cut(self, item: Sample | Drawn, room: Path, *, mpp: float | None) -> _Cut:
        """Cut the tiles of an image for every member; a file that cannot be read is refused, with the reason."""
        if self.record.features is not None:
            return self._hold(item, self.record.features)
        stores: dict[str, TileStore] = {}
        try:
            for member in self.members:
                if member.backbone is None or member.tiling in stores:
                    continue
                tile, tile_px = member.recipe.tile, member.member.tile_px or 0
                tile = tile if mpp is None else tile.model_copy(update={"image_mpp": mpp})
                bits, reading = self.record.bits, self.reading
                stores[member.tiling] = _cut_item(item, tile, tile_px=tile_px, bits=bits, reading=reading, room=room)
            look = None if self._refuser is None else _look(item, bits=self.record.bits, mpp=mpp)
        except ScaleError as error:
            return _Cut(item.image, item.case, {}, f"scale: {error}")
        except DataError as error:
            why = error.problems[0].message if error.problems else error.message
            marks = item.mask_path if isinstance(item, Sample) else item.mask
            if isinstance(marks, Path) and error.problems and error.problems[0].file == str(marks):
                why = f"its mask {marks} {why}"
            return _Cut(item.image, item.case, {}, refuse_unreadable(why))
        except RecipeError as error:
            return _Cut(item.image, item.case, {}, f"scale: {error.message}")
        return _Cut(item.image, item.case, stores, look=look)

    def _hold(self, item: Sample | Drawn, given: GivenRecord) -> _Cut:
        """Open a bag of features and look at all of its tiles; what cannot be answered is refused, with the reason."""
        try:
            if isinstance(item, Drawn):
                if isinstance(item.pixels, Path) or item.mask is not None:
                    raise DataError("features have no pixels that a mask could lie on")
                store = hold_features((item.image, item.pixels), given)
            else:
                store = hold_features(item, given)
            look = look_at_bag(store)
        except EncoderError as error:
            return _Cut(item.image, item.case, {}, f"encoder: {error.message}")
        except DataError as error:
            why = error.problems[0].message if error.problems else error.message
            return _Cut(item.image, item.case, {}, refuse_unreadable(why))
        tilings = {member.tiling for member in self.members if member.backbone is not None}
        return _Cut(item.image, item.case, dict.fromkeys(tilings, store), look=look)

    def _answer(self, found: _Cut) -> Answer:
        if found.refused:
            return Answer(found.image, found.case, refused=found.refused)
        scores, single = score_image(self.members, Bags(found.stores), classes=self.classes)
        agreement = float(np.mean(single.argmax(axis=1) == scores.argmax()))
        refused: str = ""
        traits: tuple[float, ...] | None = None
        if self.bags is not None and isinstance(found.look, BagLook):
            refused, traits = judge_bag(self.bags, found.look, scores=scores, agreement=agreement)
        if self._refuser is not None and isinstance(found.look, Look):
            refused = self._refuser.judge_look(found.look, scores=scores, agreement=agreement)
            traits = tuple(float(number) for number in found.look.traits)
        return Answer(found.image, found.case, tuple(scores.tolist()), agreement, refused, traits)


def load_model(path: str | Path, *, device: str = "auto") -> Model:
    """Load a model folder, or the one of a run folder; nothing else is needed, and nothing is fetched.

    Args:
        path: ``RUN/model``, a copy of it, or ``RUN``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.

    Raises:
        RunError: there is no model, it is damaged, or of another version.
        WeightsError: the installed timm builds other networks.
        RecipeError: there is no such device.
    """
    if device not in DEVICES:
        raise RecipeError(f"no device is called '{device}'", fix=f"one of {', '.join(DEVICES)}")
    folder = find_model(Path(path))
    record = read_model(folder)
    of_images = record.features is None
    population = TrainingPopulation.read(folder) if record.population_files and of_images else None
    bags = FeaturePopulation.read(folder) if record.population_files and not of_images else None
    return Model(folder, record, load_members(folder, record, device=device), population, bags)


def tabulate_answers(answers: Sequence[Answer], classes: tuple[str, ...]) -> pd.DataFrame:
    """Return answers as a table, one row an image; no class is named where an image is refused."""
    nothing = (float("nan"),) * len(classes)
    rows = [
        (
            a.image, a.case, "" if a.refused or a.scores is None else classes[int(np.argmax(a.scores))],
            *(a.scores or nothing), a.agreement, a.refused,
        )
        for a in answers
    ]  # fmt: skip
    columns = ["image", "case", "predicted", *score_columns(classes), "agreement", "refused"]
    return pd.DataFrame(rows, columns=columns).astype({"agreement": float})


class ScaleError(DataError):
    """An image whose scale is asked for and unknown."""


def _look(item: Sample | Drawn, *, bits: int | None, mpp: float | None) -> Look:
    """Measure an image by what the training images were measured by."""
    path = item.path if isinstance(item, Sample) else item.pixels if isinstance(item.pixels, Path) else None
    own = mpp if path is None else images.read_mpp(path) or mpp
    if isinstance(item, Sample):
        digest = digest_sample(replace(item, mask_path=None))
    elif isinstance(pixels := item.pixels, Path):
        digest = digest_sample(Sample(item.image, pixels, None, None, item.case, item.image, bits=bits))
    else:
        return measure_look(pixels, mpp=own)
    return Look(digest, measure_traits(digest), own)


def _cut_item(
    item: Sample | Drawn, tile: recipe.Tile, *, tile_px: int, bits: int | None, reading: MaskReading, room: Path
) -> TileStore:
    """Return the tiles of an image; those of a large one on disk, in ``room``.

    Raises:
        DataError: it cannot be read, or its scale is asked for and unknown.
        RecipeError: tiles show far larger squares.
    """
    path = item.path if isinstance(item, Sample) else item.pixels if isinstance(item.pixels, Path) else None
    if tile.mpp is not None:
        own = None if path is None else images.read_mpp(path)
        tile = tile.model_copy(update={"image_mpp": own or tile.image_mpp})
        if tile.image_mpp is None:
            message = f"it does not say its microns per pixel, and the model looks at {tile.mpp:g} of them"
            raise ScaleError(message, fix="--mpp NUMBER")
    if isinstance(item, Drawn):
        pixels = images.read_image(item.pixels, bits=bits) if isinstance(item.pixels, Path) else item.pixels
        mask = images.read_mask(item.mask, reading=reading)[0] if isinstance(item.mask, Path) else item.mask
        return hold_bag(item.image, cut_array(item.image, pixels, mask, tile, tile_px=tile_px))
    if is_large(item, tile, tile_px=tile_px):
        return build_store(Cohort(item.path.parent, "", (), (item,), ()), tile, tile_px=tile_px, cache=room)
    return hold_bag(item.image, cut_bag(item, tile, tile_px=tile_px))


def _compare_versions(libraries: Mapping[str, str]) -> tuple[str, ...]:
    notes = []
    for name in CONCERNED:
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if libraries.get(name, here) != here:
            notes.append(f"the model was made with {name} {libraries[name]}; here is {here}")
    return tuple(notes)
