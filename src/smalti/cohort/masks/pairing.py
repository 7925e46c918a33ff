"""Masks among the files, and the image of each, by their names alone.

beside         NAME_mask, mask_NAME, NAME_seg, NAME-labelled, NAME_anno, NAME_gt; img_0001 and mask_0001
parallel tree  images/ and masks/, train_images/ and train_label_masks/, img/ and gt/, Images/ and Labels/, ...
several        NAME_mask_1 and NAME_mask_2, masks/NAME/*: all are the mask of NAME
by name alone  a folder of masks each of which has just one image of its name, wherever that lies
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..tables.names import drop_image_suffix

PART_WORDS = frozenset({"train", "training", "tr", "val", "valid", "validation", "test", "testing", "ts"})
IMAGE_WORDS = frozenset({"image", "images", "img", "imgs"})
SURE_WORDS = frozenset({"mask", "masks", "segmentation", "segmentations", "groundtruth"})  # at the end of a folder name
WORDS = SURE_WORDS | {
    "seg", "label", "labels", "labelled", "labeled", "anno", "annot", "annotation", "annotations", "gt",
}  # fmt: skip
_NUMBER = r"(?:[ _-]?[0-9]+)?"
_WORD = "|".join(sorted(WORDS | {"ground[ _-]?truth"}, key=len, reverse=True))
_MASK_STEM = re.compile(rf"^(?:masks?[ _-]|masks?(?=[0-9]))|[ _.-]masks?{_NUMBER}$", re.IGNORECASE)
_BEFORE = re.compile(rf"^({_WORD})(?:[ _-]+|(?=[0-9]))(?=.)", re.IGNORECASE)
_AFTER = re.compile(rf"(?<=.)[ _.-]+({_WORD}){_NUMBER}$", re.IGNORECASE)
_IMAGE = re.compile(r"^(?:image|img)(?:[ _-]+|(?=[0-9]))(?=.)|(?<=.)[ _-]+(?:image|img)$", re.IGNORECASE)
Place = tuple[tuple[str, ...], str]  # folders and stem, without the words that tell images from masks


@dataclass(frozen=True, slots=True)
class Pairs:
    """The masks of a folder.

    Attributes:
        of: image -> its masks, one or several of one kind.
        names: every file that is a mask, whether it has an image or not.
        loose: masks that were given to their image by its name alone.
    """

    of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()


def is_mask_folder(name: str) -> bool:
    """Return whether a folder holds masks: ``masks``, ``train_label_masks``, ``tumour masks``, ``Ground Truth``."""
    words = [word for word in _split(name) if word not in PART_WORDS | IMAGE_WORDS]
    sure = bool(words) and (words[-1] in SURE_WORDS or words[0] in SURE_WORDS - {"mask"})
    return sure or (bool(words) and all(word in WORDS for word in words))


def is_mask_name(name: str) -> bool:
    """Return whether a path is that of a mask: ``mask_...``, ``..._mask_2``, or below a folder of masks."""
    path = PurePosixPath(name)
    return bool(_MASK_STEM.search(_find_stem(path.name))) or any(map(is_mask_folder, path.parts[:-1]))


def pair_masks(names: Sequence[str]) -> Pairs:
    """Find the masks among files, and the image of each."""
    sure = [name for name in names if is_mask_name(name)]
    images = [name for name in names if not is_mask_name(name)]
    # Files such as NAME_anno are masks where an image NAME is beside them.
    stems = [(path, _find_stem(path.name)) for path in map(PurePosixPath, images)]
    known = {(p.parent, text.lower()) for p, stem in stems for text in (stem, _IMAGE.sub("", stem, count=1))}
    bare = ((path, stem, _strip_mask(stem)) for path, stem in stems)
    doubtful = {p.as_posix() for p, stem, rest in bare if rest != stem and (p.parent, rest.lower()) in known}
    images = [name for name in images if name not in doubtful]
    masks = sure + sorted(doubtful)
    owners: dict[str, list[str]] = {}
    for exact in (True, False):
        at = _index(images, exact=exact)
        for mask in masks:
            if mask not in owners and (found := at.get(_place(mask, mask=True, exact=exact))):
                owners[mask] = found
    # Masks in a folder that has the name of an image, or in a folder of masks beside a lone image, are its own.
    named = _index(images, exact=True)
    lone: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (above, _), inside in named.items():
        lone[above] += inside
    for mask in [mask for mask in sure if mask not in owners]:
        above = _strip_folders(PurePosixPath(mask).parts[:-1])
        if above and (found := named.get((above[:-1], above[-1]))):
            owners[mask] = found
        elif above and len(lone.get(above, ())) == 1:
            owners[mask] = lone[above]
    loose = _give_by_name(images, [mask for mask in sure if mask not in owners], owners)
    # Each image gets masks of one kind: those beside it, else those that are called masks, else the first folder's.
    kinds: dict[str, dict[tuple[bool, bool, str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for mask, owned in owners.items():
        path = PurePosixPath(mask)
        stem = _find_stem(path.name)
        word = _AFTER.search(stem) or _BEFORE.search(stem)
        called, tree = word[1].lower() if word else "", path.parent.as_posix()
        for image in owned:
            beside = path.parent == PurePosixPath(image).parent
            kinds[image][not beside, "mask" not in f"{tree}/{called}".lower(), tree, called].append(mask)
    chosen = {image: tuple(groups[min(groups)]) for image, groups in kinds.items()}
    return Pairs(chosen, frozenset(masks), frozenset(loose))


def _split(name: str) -> list[str]:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+", name)
    return re.sub(r"\bground truth\b", "groundtruth", " ".join(words).lower()).split()


def _find_stem(name: str) -> str:
    """Return a name without suffixes: ``a`` of ``a.png``, ``a.ome.tif``, and ``a.jpg.png``, the mask of ``a.jpg``."""
    while (shorter := drop_image_suffix(name).removesuffix(".ome")) != name:
        name = shorter
    return name


def _strip_mask(stem: str) -> str:
    stripped = _AFTER.sub("", stem, count=1)
    return _find_stem(stripped if stripped != stem else _BEFORE.sub("", stem, count=1))


def _place(name: str, *, mask: bool, exact: bool) -> Place:
    path = PurePosixPath(name)
    stem = _find_stem(path.name)
    stem = _strip_mask(stem) if mask else stem
    if not exact:
        stem = _IMAGE.sub("", stem, count=1)
    return _strip_folders(path.parts[:-1]), stem.lower()


def _strip_folders(parts: Iterable[str]) -> tuple[str, ...]:
    """Return folders without the words by which images and masks are told apart; what has no other word is left out."""
    kept = []
    for part in parts:
        words = _split(part)
        dropped = WORDS | IMAGE_WORDS if is_mask_folder(part) else IMAGE_WORDS
        rest = [word for word in words if word not in dropped]
        if len(rest) == len(words):
            kept.append(part.lower())
        elif rest:
            kept.append("_".join(rest))
    return tuple(kept)


def _index(images: Iterable[str], *, exact: bool) -> dict[Place, list[str]]:
    found: dict[Place, list[str]] = defaultdict(list)
    for name in images:
        found[_place(name, mask=False, exact=exact)].append(name)
    return found


def _give_by_name(images: Iterable[str], masks: Iterable[str], owners: dict[str, list[str]]) -> list[str]:
    """Give whole folders of masks to images of their names, wherever these lie, and return the masks.

    An image of another part of the data is not meant.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for image in images:
        stems[_find_stem(PurePosixPath(image).name).lower()].append(image)
    folders: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for mask in masks:
        stem = _strip_mask(_find_stem(PurePosixPath(mask).name)).lower()
        folders[PurePosixPath(mask).parent.as_posix()][mask] = [
            image for image in stems.get(stem, ()) if _list_parts(image) == _list_parts(mask)
        ]
    given = []
    for found in folders.values():
        if all(len(owned) == 1 for owned in found.values()):
            owners.update(found)
            given += list(found)
    return given


def _list_parts(name: str) -> set[str]:
    return {word for part in PurePosixPath(name).parts[:-1] for word in _split(part) if word in PART_WORDS}
