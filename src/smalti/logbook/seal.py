"""The sealed part: cases that no run learns from or is scored on, until the seal is opened on purpose.

Whoever looks at a test set twice has chosen on it (Dwork et al. 2015). A seal holds the content of images. It is valid
for every data folder whose runs lie beside it, whatever the names of images and folders. Each opening is recorded, and
no record can be taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import RunError
from ..project import Project
from ..records.layout import SEAL_SUFFIX
from ..records.scored import Margin
from ..records.studies.seal import OpenedScore, Opening, Seal
from ..store import hash_files, name_apart, now_text
from ..types import Cohort, Content


def find_seal(project: Project) -> Path:
    """Return where the seal of a data folder is, or will be; two folders of one last name have two seals."""
    root = project.data.resolve()
    plain = project.runs / f"{root.name}{SEAL_SUFFIX}"
    seal = read_seal(plain)
    return plain if seal is None or seal.data == str(root) else project.runs / f"{name_apart(root)}{SEAL_SUFFIX}"


def list_seals(runs: Path) -> dict[Path, Seal]:
    """Read all seals of a folder of runs.

    Raises:
        RunError: a file is damaged.
    """
    found = {path: read_seal(path) for path in sorted(runs.glob(f"*{SEAL_SUFFIX}"))}
    return {path: seal for path, seal in found.items() if seal is not None}


def read_seal(path: Path) -> Seal | None:
    """Read a seal; None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if path.is_dir():
        raise RunError(f"{path} is damaged: it is a folder", fix=Seal.FIX)
    return Seal.read_file(path) if path.exists() else None


def write_seal(path: Path, seal: Seal) -> Path:
    """Write a seal."""
    return seal.write_file(path)


def make_seal(
    cohort: Cohort,
    images: Sequence[str],
    *,
    share: float,
    runs_before: Sequence[str],
    contents: Mapping[str, Content] | None = None,
) -> Seal:
    """Return a new seal on images of the cohort; without ``contents`` the next run on this folder adds them."""
    chosen = set(images)
    cases = {sample.case for sample in cohort.labelled if sample.image in chosen}
    root = str(cohort.root.resolve())
    seal = Seal(
        data=root, share=share, sealed_at=now_text(), images=tuple(sorted(chosen)), n_images=len(chosen),
        n_cases=len(cases), runs_before=tuple(sorted(runs_before)),
    )  # fmt: skip
    return extend_seal(seal, chosen, contents or {}, cases=cases)


def extend_seal(
    seal: Seal, images: Collection[str], contents: Mapping[str, Content], *, cases: Collection[str]
) -> Seal:
    """Return the seal with the content of more images, and the names of their cases."""
    known = [contents[image] for image in images if image in contents]
    files = {*seal.files, *(content.file for content in known)}
    pixels = {*seal.pixels, *(content.pixels for content in known)} - {""}
    every = {*seal.cases, *cases}
    content = {"files": tuple(sorted(files)), "pixels": tuple(sorted(pixels)), "cases": tuple(sorted(every))}
    return seal.model_copy(update=content)


def hash_sealed(seal: Seal, *, memo: Path | None) -> Seal:
    """Return an older seal, which has no hashes, with those of the files that are still in its data folder."""
    if seal.files:
        return seal
    paths = [path for image in seal.images if (path := Path(seal.data) / image).is_file()]
    return seal.model_copy(update={"files": tuple(sorted(set(hash_files(paths, memo=memo).values())))})


def find_sealed(cohort: Cohort, seal: Seal, contents: Mapping[str, Content]) -> frozenset[str]:
    """Return the labelled images that a seal holds: in any folder by content, in its own also by name and case."""
    files, pixels = set(seal.files), set(seal.pixels)
    held = {image for image, content in contents.items() if content.file in files or content.pixels in pixels}
    own = seal.data == str(cohort.root.resolve())
    names, cases = (set(seal.images), set(seal.cases)) if own else (set(), set())
    return frozenset(s.image for s in cohort.labelled if s.image in held | names or s.case in cases)


def add_opening(seal: Seal, scores: Mapping[str, dict[str, Margin]]) -> Seal:
    """Return the seal with one more opening; ``scores`` by run and metric."""
    found = {run: {m: OpenedScore(**x.model_dump()) for m, x in metrics.items()} for run, metrics in scores.items()}
    opening = Opening(time=now_text(), runs=tuple(scores), scores=found)
    return seal.model_copy(update={"openings": (*seal.openings, opening)})


def apply_seal(cohort: Cohort, images: Collection[str]) -> Cohort:
    """Return the cohort with the cases of these images sealed: out of the labelled part, and without labels.

    Whole cases are sealed: also an image that came later, or that the audit joined to a sealed one.
    """
    cases = {sample.case for sample in cohort.labelled if sample.image in images}
    inside = tuple(replace(sample, label=None) for sample in cohort.labelled if sample.case in cases)
    outside = tuple(sample for sample in cohort.labelled if sample.case not in cases)
    note = f"{len(inside)} images of {len(cases)} cases are sealed"
    return replace(cohort, labelled=outside, sealed=inside, notes=(*cohort.notes, note))
