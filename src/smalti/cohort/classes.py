"""The class folders layout: ``root/<class>/*.png``, or ``root/train/<class>/`` and ``root/test/``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

from ..types import Sample
from .folder import MASK_FOLDERS, Folder, is_mask_name
from .reading import Draft, Reading

TRAIN_FOLDERS = ("train", "training", "val", "valid", "validation")
TEST_FOLDERS = ("test", "testing", "unlabelled", "unlabeled")
NOT_CLASSES = MASK_FOLDERS | {"images", "image", "imgs", "truth", "runs"}


def list_classes(folder: Folder, below: str = "") -> list[str]:
    """Folders directly below that hold images and may be classes."""
    reserved = NOT_CLASSES if below else NOT_CLASSES | set(TRAIN_FOLDERS) | set(TEST_FOLDERS)
    return [name for name in folder.list_folders(below) if name.lower() not in reserved]


def list_parts(folder: Folder, names: tuple[str, ...]) -> list[str]:
    """Folders in the root that bear one of the names."""
    return [name for name in folder.list_folders() if name.lower() in names]


def has_class_folders(folder: Folder, *, at_least: int) -> bool:
    """Whether enough folders may be classes, in the root or below a training folder."""
    return any(len(list_classes(folder, below)) >= at_least for below in ("", *list_parts(folder, TRAIN_FOLDERS)))


def read_class_folders(folder: Folder) -> Reading:
    """Read class folders; a case is the folder below the class where every image lies in one, else the image."""
    reading = Reading("class-folders", submission_columns=("image", "label"))
    parts = [part for part in list_parts(folder, TRAIN_FOLDERS) if list_classes(folder, part)] or [""]
    pictures: dict[str, tuple[str, str]] = {}  # image: label and folder of the class
    spellings: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        classes, start = set(list_classes(folder, part)), f"{part}/" if part else ""
        for name in folder.list_images(part):
            label = name[len(start) :].split("/")[0]
            if label in classes and not is_mask_name(name):
                pictures[name] = label.strip(), start + label
                spellings[label.strip()].add(label)
    _report_spaces(spellings, reading)
    by_case = all(PurePosixPath(name).parent.as_posix() != top for name, (_, top) in pictures.items())
    if by_case:
        reading.notes.append("case: the folder below the class folder")
    for name, (label, top) in pictures.items():
        case = name[len(top) + 1 :].split("/")[0] if by_case else name
        reading.add(Draft(_sample(folder, name, label=label, case=case), name))
    _add_tests(folder, reading)
    _report_loose(folder, parts, reading=reading)
    return reading


def _report_spaces(spellings: dict[str, set[str]], reading: Reading) -> None:
    for label, names in spellings.items():
        listed = " and ".join(repr(name) for name in sorted(names))
        if len(names) > 1:
            reading.report(
                "ambiguous-class",
                listed,
                message="differ only in the spaces around the name.",
                fix="rename one of them, or move their images into one folder",
            )
        elif label not in names:
            reading.notes.append(f"class folder {listed}: its label is read without the spaces around it, '{label}'")


def _sample(folder: Folder, name: str, *, label: str | None, case: str) -> Sample:
    return Sample(name, folder.files[name], folder.guess_mask_path(name), label, case, name)


def _add_tests(folder: Folder, reading: Reading) -> None:
    for part in list_parts(folder, TEST_FOLDERS):
        for name in folder.list_images(part):
            if not is_mask_name(name):
                reading.add(Draft(_sample(folder, name, label=None, case=name), name, test=True))
        if list_classes(folder, part):
            reading.notes.append(f"the folders below {part}/ are not read as labels: it is the part to predict")


def _report_loose(folder: Folder, parts: list[str], *, reading: Reading) -> None:
    for part in dict.fromkeys(["", *parts]):
        start = f"{part}/" if part else ""
        for name in folder.list_images(part):
            if "/" not in name[len(start) :] and not is_mask_name(name):
                reading.report(
                    "file-without-row",
                    name,
                    message="lies in no class folder, so it has no label.",
                    fix="move it into the folder of its class, or away",
                    images=(name,),
                )
