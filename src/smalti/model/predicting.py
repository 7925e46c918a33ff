"""New images through a model, one after the other: memory does not grow with their number.

Each image is cut as in training, by the same functions. An image is scored by itself, so that neither the order of
the images nor what else is asked changes its answer.
"""

from __future__ import annotations

import importlib.metadata
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import images, recipe
from ..audit.measure.digest import COPY_PX
from ..errors import DataError, RecipeError
from ..records import FeaturePopulation, GivenRecord, ModelRecord, TrainingPopulation
from ..samples import iterate_ahead
from ..tile import Scene, TileStore, build_store, frame_array, hold_scene, is_large, open_scene
from ..types import Cohort, MaskReading, Sample, score_columns
from .bundle import find_model, read_model
from .loaded import Bags, LoadedMember, load_members, score_image
from .look import Look, measure_look
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
        notes: what was read by a rule that is not plain, one of `smalti.images.RULES`, as ``code: sentence``.
    """

    image: str
    case: str
    scores: tuple[float, ...] | None = None
    agreement: float | None = None
    refused: str = ""
    traits: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cut:
    """An image whose tiles are there, by tiling; or why they are not."""

    image: str
    case: str
    stores: Mapping[str, TileStore]
    refused: str = ""
    look: Look | BagLook | None = None
    notes: tuple[str, ...] = ()


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
        say: Callable[[str], None] = lambda text: None,
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
            say: hears what was read by a rule that is not plain, such as an opacity of 0 everywhere.

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
        for note in sum_notes(rows):
            say(note)
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
        try:
            with images.hold_files(_list_files(item)):
                return self._read(item, room, mpp=mpp)
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

    def _read(self, item: Sample | Drawn, room: Path, *, mpp: float | None) -> _Cut:
        """Cut and measure an image that is decoded once; one that is too large to be held is cut on disk."""
        tilings = {
            member.tiling: (_settle_scale(item, member.recipe.tile, mpp=mpp), member.member.tile_px or 0)
            for member in self.members
            if member.backbone is not None
        }
        stores: dict[str, TileStore] = {}
        for tiling, (tile, tile_px) in tilings.items():
            if isinstance(item, Sample) and is_large(item, tile, tile_px=tile_px):
                cohort = Cohort(item.path.parent, "", (), (item,), ())
                stores[tiling] = build_store(cohort, tile, tile_px=tile_px, cache=room)
        bits = item.bits if isinstance(item, Sample) else self.record.bits
        given = (item.mask_path if isinstance(item, Sample) else item.mask) is not None
        picture = None
        if len(stores) < len(tilings):
            with _open_item(item, bits=bits, reading=self.reading) as scene:
                for tiling, (tile, tile_px) in tilings.items():
                    if tiling not in stores:
                        stores[tiling] = hold_scene(scene, tile, tile_px=tile_px, given=given, name=item.image)
                picture = scene.picture
        path = _find_path(item)
        look = None if self._refuser is None else _look(path, picture, bits=bits, mpp=mpp)
        remarks = () if path is None else images.find_remarks(path)
        return _Cut(item.image, item.case, stores, look=look, notes=tuple(f"{p.code}: {p.message}" for p in remarks))

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
        return Answer(found.image, found.case, tuple(scores.tolist()), agreement, refused, traits, found.notes)


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


def sum_notes(answers: Iterable[Answer]) -> list[str]:
    """Return one sentence a note: its code, the number of images, and the first of them."""
    named: dict[str, list[str]] = {}
    for answer in answers:
        for note in answer.notes:
            named.setdefault(note, []).append(answer.image)
    return [
        f"{code} ({len(found)}): {found[0]} {message}"
        for (code, _, message), found in ((note.partition(": "), found) for note, found in named.items())
    ]


class ScaleError(DataError):
    """An image whose scale is asked for and unknown."""


def _find_path(item: Sample | Drawn) -> Path | None:
    """Return the file of an image; None of one that is in memory."""
    return item.path if isinstance(item, Sample) else item.pixels if isinstance(item.pixels, Path) else None


def _list_files(item: Sample | Drawn) -> tuple[Path, ...]:
    """Return the files of an image and its mask, as far as they are files."""
    return item.files if isinstance(item, Sample) else tuple(p for p in (item.pixels, item.mask) if isinstance(p, Path))


def _settle_scale(item: Sample | Drawn, tile: recipe.Tile, *, mpp: float | None) -> recipe.Tile:
    """Return the knobs with the microns per pixel of an image, where they are asked for.

    Raises:
        ScaleError: neither the image nor ``mpp`` says them.
        DataError: the image cannot be read.
    """
    own = mpp or tile.image_mpp
    if tile.mpp is not None:
        path = _find_path(item)
        own = (None if path is None else images.read_mpp(path)) or own
        if own is None:
            message = f"it does not say its microns per pixel, and the model looks at {tile.mpp:g} of them"
            raise ScaleError(message, fix="--mpp NUMBER")
    return tile.model_copy(update={"image_mpp": own})


@contextmanager
def _open_item(item: Sample | Drawn, *, bits: int | None, reading: MaskReading) -> Iterator[Scene]:
    """Open an image and its mask.

    Raises:
        DataError: a file cannot be read, an array is no picture, or the mask is of another size.
    """
    if isinstance(item, Sample):
        with open_scene(item) as scene:
            yield scene
    else:
        pixels = images.read_image(item.pixels, bits=bits) if isinstance(item.pixels, Path) else item.pixels
        mask = images.read_mask(item.mask, reading=reading)[0] if isinstance(item.mask, Path) else item.mask
        yield frame_array(item.image, pixels, mask)


def _look(path: Path | None, picture: Array | None, *, bits: int | None, mpp: float | None) -> Look:
    """Measure an image by what the training images were measured by; its file is read where ``picture`` is None."""
    if path is None:
        assert picture is not None
        return measure_look(picture, mpp=mpp)
    size_px = images.read_size(path)
    if math.prod(size_px) > images.WHOLE_PX:
        picture = images.read_thumbnail(path, longest_px=COPY_PX, bits=bits)
    elif picture is None:
        picture = images.read_image(path, bits=bits)
    return measure_look(picture, mpp=images.read_mpp(path) or mpp, size_px=size_px)


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
