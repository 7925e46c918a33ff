"""What was planted, what was found, and how the two agree.

The standard library alone, so that it runs in the environment of any tool.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Pair = frozenset[str]
IMAGE_KINDS = ("foreign", "painted", "blank")
PAIR_KINDS = ("exact-duplicate", "near-duplicate")


class Planted(NamedTuple):
    """A row of ``planted.csv``.

    Attributes:
        image: name within the data folder.
        kind: what was planted.
        detail: for a copy ``WAY of SOURCE`` (the drawn cohort says ``SOURCE`` alone), for a wrong label the true one.
    """

    image: str
    kind: str
    detail: str

    @property
    def way(self) -> str:
        """How it was made; empty where the truth does not say."""
        return self.detail.split(" of ", 1)[0] if self.source else self.detail

    @property
    def source(self) -> str:
        """The image that this one repeats; empty where it repeats none."""
        if self.kind == "wrong-label":
            return ""
        if " of " in self.detail:
            return self.detail.split(" of ", 1)[1]
        return self.detail if "." in self.detail and " " not in self.detail else ""

    @property
    def pair_kind(self) -> str:
        """Which of `PAIR_KINDS` the image and its source are; empty without a source."""
        if not self.source:
            return ""
        return "exact-duplicate" if self.way == "same-bytes" or self.kind == "exact-duplicate" else "near-duplicate"


@dataclass
class Flags:
    """What a tool said.

    Attributes:
        images: code -> images that it names.
        pairs: code -> pairs of images that it calls duplicates.
        codes: what the tool can say and could say here.
    """

    images: dict[str, set[str]] = field(default_factory=dict)
    pairs: dict[str, set[Pair]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)


class Score(NamedTuple):
    """How the flags of some codes agree with what was planted.

    Attributes:
        planted: images (or pairs) of the kind.
        found: those of them that the codes name.
        named: those of them that any code names.
        flagged: images (or pairs) that the codes name, planted or not.
        wrong: those of them that nothing of the sort was done to.
    """

    planted: int
    found: int
    named: int
    flagged: int
    wrong: int

    @property
    def recall(self) -> float:
        """Share of the planted that was found; NaN where nothing was planted."""
        return self.found / self.planted if self.planted else float("nan")

    @property
    def precision(self) -> float:
        """Share of the flagged that is right; NaN where nothing was flagged."""
        return 1 - self.wrong / self.flagged if self.flagged else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where nothing was found."""
        return 2 * self.recall * self.precision / (self.recall + self.precision) if self.found else 0.0


def read_truth(folder: Path) -> list[Planted]:
    """Rows of ``folder/truth/planted.csv``."""
    with (folder / "truth" / "planted.csv").open(encoding="utf-8", newline="") as file:
        return [Planted(row["image"], row["kind"], row["detail"]) for row in csv.DictReader(file)]


def write_truth(folder: Path, rows: list[Planted]) -> None:
    """Write ``folder/truth/planted.csv``."""
    (folder / "truth").mkdir(exist_ok=True)
    with (folder / "truth" / "planted.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Planted._fields)
        writer.writerows(rows)


def read_flags(findings: Path) -> Flags:
    """What a ``findings.json`` says; a finding names its first image, a duplicate also pairs it with the others."""
    content = json.loads(findings.read_text(encoding="utf-8"))
    flags = Flags(codes={c for c, o in content["outcomes"].items() if not o.startswith("not applicable")})
    for finding in content["findings"]:
        if not finding["images"]:
            continue
        first, *others = finding["images"]
        flags.images.setdefault(finding["code"], set()).add(first)
        if finding["code"] in PAIR_KINDS:
            flags.pairs.setdefault(finding["code"], set()).update(frozenset({first, other}) for other in others)
    return flags


def score_images(truth: Sequence[Planted], flags: Flags, *, kind: str, codes: Iterable[str]) -> Score:
    """Foreign, painted, blank: wrong is a flag on an image that none of the three was done to."""
    planted = {row.image for row in truth if row.kind == kind}
    spoilt = {row.image for row in truth if row.kind in IMAGE_KINDS}
    flagged = _join(flags.images, codes)
    named = _join(flags.images, flags.images) | set().union(*_join(flags.pairs, flags.pairs))
    return Score(len(planted), len(planted & flagged), len(planted & named), len(flagged), len(flagged - spoilt))


def score_labels(truth: Sequence[Planted], flags: Flags, *, kind: str, codes: Iterable[str]) -> Score:
    """Contradicting copies (their sources contradict as much) and wrong labels."""
    planted, partners = _find_mislabelled(truth, kind)
    flagged, named = _join(flags.images, codes), _join(flags.images, flags.images)
    wrong = flagged - planted - partners
    return Score(len(planted), len(planted & flagged), len(planted & named), len(flagged), len(wrong))


def _find_mislabelled(truth: Sequence[Planted], kind: str) -> tuple[set[str], set[str]]:
    """The images of a kind of label problem, and the sources of those that are copies."""
    wrong = {row.image for row in truth if row.kind == "wrong-label"}
    if kind == "wrong-label":
        return wrong, set()
    # A copy of a wrongly labelled image, or a wrongly labelled copy, contradicts as well.
    rows = [r for r in truth if r.kind == kind or (r.source and (r.image in wrong) != (r.source in wrong))]
    return {row.image for row in rows}, {row.source for row in rows}


def score_pairs(truth: Sequence[Planted], flags: Flags, *, kind: str, codes: Iterable[str]) -> Score:
    """Duplicates: wrong is a pair of images that planting did not make copies of one another, directly or not."""
    planted = {frozenset({row.image, row.source}) for row in truth if row.pair_kind == kind}
    flagged, named = _join(flags.pairs, codes), _join(flags.pairs, flags.pairs)
    true_groups = _group({frozenset({row.image, row.source}) for row in truth if row.source})
    wrong = sum(not _is_joined(pair, true_groups) for pair in flagged)
    found, any_found = (sum(_is_joined(p, _group(pairs)) for p in planted) for pairs in (flagged, named))
    return Score(len(planted), found, any_found, len(flagged), wrong)


def _join(sets: dict[str, set[T]], codes: Iterable[str]) -> set[T]:
    return set().union(*(sets.get(code, set()) for code in codes))


def _group(pairs: set[Pair]) -> dict[str, int]:
    """Image -> number of its connected group."""
    groups: dict[str, int] = {}
    for number, pair in enumerate(sorted(pairs, key=sorted)):
        old = {groups[name] for name in pair if name in groups}
        groups |= dict.fromkeys([*pair, *(name for name, group in groups.items() if group in old)], number)
    return groups


def _is_joined(pair: Pair, groups: dict[str, int]) -> bool:
    return len({groups.get(name, name) for name in pair}) == 1


def list_missed(truth: Sequence[Planted], flags: Flags, *, kind: str, codes: Iterable[str]) -> list[str]:
    """What of a kind was not found, in words."""
    if kind in PAIR_KINDS:
        groups = _group(_join(flags.pairs, codes))
        rows = [r for r in truth if r.pair_kind == kind and not _is_joined(frozenset({r.image, r.source}), groups)]
    else:
        flagged = _join(flags.images, codes)
        planted = {r.image for r in truth if r.kind == kind}
        if kind not in IMAGE_KINDS:
            planted = _find_mislabelled(truth, kind)[0]
        rows = [r for r in truth if r.image in planted - flagged]
    return [f"{r.image} ({r.kind}: {r.detail})" for r in rows]


def list_wrong(truth: Sequence[Planted], flags: Flags, *, kind: str, codes: Iterable[str]) -> list[str]:
    """What was flagged although nothing of the sort was planted there, in words."""
    if kind in PAIR_KINDS:
        groups = _group({frozenset({row.image, row.source}) for row in truth if row.source})
        return sorted(" = ".join(sorted(p)) for p in _join(flags.pairs, codes) if not _is_joined(p, groups))
    right = {row.image for row in truth if row.kind in IMAGE_KINDS}
    if kind not in IMAGE_KINDS:
        right = set().union(*_find_mislabelled(truth, kind))
    return sorted(_join(flags.images, codes) - right)


def describe(values: Sequence[float], *, digits: int = 2) -> str:
    """Median and, where they differ, range; ``-`` where there is no value."""
    values = [v for v in values if v == v]
    if not values:
        return "-"
    low, high = min(values), max(values)
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if low == high else f"{middle} ({low:.{digits}f} to {high:.{digits}f})"
