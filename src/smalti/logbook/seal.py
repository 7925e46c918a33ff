"""The sealed part: cases that no run learns from or is scored on, until the seal is opened on purpose.

Whoever looks at a test set twice has chosen upon it (Dwork et al. 2015). A seal is about the content of images and
holds for every data folder beside whose runs it lies, under whatever name an image or a folder goes; each opening is
written down, and a second one cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..store import hash_files, name_apart, now_text, read_json, write_json
from ..types import Cohort, Content

SUFFIX = ".seal.json"


@dataclass(frozen=True, slots=True)
class Opening:
    """One look at the sealed part: when, at which runs, and what they scored (metric -> value, low, high)."""

    time: str
    runs: tuple[str, ...]
    scores: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seal:
    """Which images are sealed, and who looked.

    Attributes:
        data: the data folder.
        share: of the cases, as asked for.
        images: names of the sealed images.
        runs_before: runs that were there before the seal, and may have seen these cases.
        files: hashes of the bytes of all images that were sealed there; empty in a seal that is older than them.
        pixels: hashes of their decoded pixels.
        cases: names of the sealed cases.
    """

    data: str
    share: float
    sealed_at: str
    images: tuple[str, ...]
    n_images: int
    n_cases: int
    runs_before: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = field(default=())
    files: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()


def find_seal(data: Path, *, runs: Path) -> Path:
    """Where the seal of a data folder is kept, or will be: beside that of another folder of the same last name."""
    root = data.resolve()
    plain = runs / f"{root.name}{SUFFIX}"
    seal = read_seal(plain)
    return plain if seal is None or seal.data == str(root) else runs / f"{name_apart(root)}{SUFFIX}"


def list_seals(runs: Path) -> dict[Path, Seal]:
    """All seals of a folder of runs.

    Raises:
        RunError: a file is damaged.
    """
    found = {path: read_seal(path) for path in sorted(runs.glob(f"*{SUFFIX}"))}
    return {path: seal for path, seal in found.items() if seal is not None}


def read_seal(path: Path) -> Seal | None:
    """The seal, or None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        content = read_json(path)
        openings = tuple(Opening(o["time"], tuple(o["runs"]), o["scores"]) for o in content["openings"])
        lists = {name: tuple(content[name]) for name in ("images", "runs_before")}
        lists |= {name: tuple(content.get(name, ())) for name in ("files", "pixels", "cases")}
        return Seal(**{**content, **lists, "openings": openings})
    except (AttributeError, KeyError, TypeError, OSError, RunError):
        raise RunError(f"{path} is damaged. Fix: restore it from a copy; a new seal is another one") from None


def write_seal(path: Path, seal: Seal) -> Path:
    """Write ``<data>.seal.json``."""
    return write_json(path, asdict(seal))


def make_seal(
    cohort: Cohort,
    images: Sequence[str],
    *,
    share: float,
    runs_before: Sequence[str],
    contents: Mapping[str, Content] | None = None,
) -> Seal:
    """A new seal on images of the cohort; without ``contents`` the next run on this folder adds them."""
    chosen = set(images)
    cases = {sample.case for sample in cohort.labelled if sample.image in chosen}
    root = str(cohort.root.resolve())
    before = tuple(sorted(runs_before))
    seal = Seal(root, share, now_text(), tuple(sorted(chosen)), len(chosen), len(cases), before)
    return extend_seal(seal, chosen, contents or {}, cases=cases)


def extend_seal(
    seal: Seal, images: Collection[str], contents: Mapping[str, Content], *, cases: Collection[str]
) -> Seal:
    """The seal with the content of images that are sealed with it, and the names of their cases."""
    known = [contents[image] for image in images if image in contents]
    files = {*seal.files, *(content.file for content in known)}
    pixels = {*seal.pixels, *(content.pixels for content in known)} - {""}
    every = {*seal.cases, *cases}
    return replace(seal, files=tuple(sorted(files)), pixels=tuple(sorted(pixels)), cases=tuple(sorted(every)))


def hash_sealed(seal: Seal, *, memo: Path | None) -> Seal:
    """A seal that is older than hashes with those of the files in its own data folder, as far as they are there."""
    if seal.files:
        return seal
    paths = [path for image in seal.images if (path := Path(seal.data) / image).is_file()]
    return replace(seal, files=tuple(sorted(set(hash_files(paths, memo=memo).values()))))


def find_sealed(cohort: Cohort, seal: Seal, contents: Mapping[str, Content]) -> frozenset[str]:
    """Labelled images that a seal holds: in any folder by content, in its own by name and case too."""
    files, pixels = set(seal.files), set(seal.pixels)
    held = {image for image, content in contents.items() if content.file in files or content.pixels in pixels}
    own = seal.data == str(cohort.root.resolve())
    names, cases = (set(seal.images), set(seal.cases)) if own else (set(), set())
    return frozenset(s.image for s in cohort.labelled if s.image in held | names or s.case in cases)


def add_opening(seal: Seal, scores: Mapping[str, Any]) -> Seal:
    """The seal with one more opening; ``scores`` by run."""
    return replace(seal, openings=(*seal.openings, Opening(now_text(), tuple(scores), dict(scores))))


def apply_seal(cohort: Cohort, images: Collection[str]) -> Cohort:
    """The cohort with the cases of these images out of its labelled part, their labels taken off.

    Whole cases: an image that came later, or that the audit joined to a sealed one, is sealed with it.
    """
    cases = {sample.case for sample in cohort.labelled if sample.image in images}
    inside = tuple(replace(sample, label=None) for sample in cohort.labelled if sample.case in cases)
    outside = tuple(sample for sample in cohort.labelled if sample.case not in cases)
    note = f"{len(inside)} images of {len(cases)} cases are sealed"
    return replace(cohort, labelled=outside, sealed=inside, notes=(*cohort.notes, note))
