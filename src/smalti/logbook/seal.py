"""The sealed part: cases that no run learns from or is scored on, until the seal is opened on purpose.

Whoever looks at a test set twice has chosen upon it (Dwork et al. 2015). The seal belongs to a data folder and holds
for all runs beside it; each opening is written down, and a second one cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..runs import now_text, read_json, write_json
from ..types import Cohort


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
    """

    data: str
    share: float
    sealed_at: str
    images: tuple[str, ...]
    n_images: int
    n_cases: int
    runs_before: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = field(default=())


def find_seal(data: Path, *, runs: Path) -> Path:
    """Where the seal of a data folder is kept."""
    return runs / f"{data.resolve().name}.seal.json"


def read_seal(path: Path) -> Seal | None:
    """The seal, or None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        openings = tuple(Opening(o["time"], tuple(o["runs"]), o["scores"]) for o in content["openings"])
        lists = {name: tuple(content[name]) for name in ("images", "runs_before")}
        return Seal(**{**content, **lists, "openings": openings})
    except (KeyError, TypeError):
        raise RunError(f"{path} is damaged. Fix: restore it from a copy; a new seal is another one") from None


def write_seal(path: Path, seal: Seal) -> Path:
    """Write ``<data>.seal.json``."""
    return write_json(path, asdict(seal))


def make_seal(cohort: Cohort, images: Sequence[str], *, share: float, runs_before: Sequence[str]) -> Seal:
    """A new seal on images of the cohort."""
    chosen = set(images)
    cases = {sample.case for sample in cohort.labelled if sample.image in chosen}
    root = str(cohort.root.resolve())
    return Seal(root, share, now_text(), tuple(sorted(chosen)), len(chosen), len(cases), tuple(sorted(runs_before)))


def add_opening(seal: Seal, scores: Mapping[str, Any]) -> Seal:
    """The seal with one more opening; ``scores`` by run."""
    return replace(seal, openings=(*seal.openings, Opening(now_text(), tuple(scores), dict(scores))))


def apply_seal(cohort: Cohort, seal: Seal) -> Cohort:
    """The cohort with the sealed cases out of its labelled part, their labels taken off.

    Whole cases: an image that came later, or that the audit joined to a sealed one, is sealed with it.
    """
    named = set(seal.images)
    cases = {sample.case for sample in cohort.labelled if sample.image in named}
    inside = tuple(replace(sample, label=None) for sample in cohort.labelled if sample.case in cases)
    outside = tuple(sample for sample in cohort.labelled if sample.case not in cases)
    note = f"{len(inside)} images of {len(cases)} cases are sealed"
    return replace(cohort, labelled=outside, sealed=inside, notes=(*cohort.notes, note))
