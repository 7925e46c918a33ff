"""The registry of checks, their answers, and the digests that they read. A check proposes; none acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...errors import Problem
from ...registry import Registry
from ...types import Action, Cohort, Finding, Sample
from ..bindings import join_groups
from ..compare.bag_pairs import BagPair
from ..compare.duplicates import NearPair, find_near_pairs
from ..labels.evidence import Evidence
from ..measure.digest import ImageDigest
from ..measure.keypoints import SMALLEST_PX
from ..measure.paint import Cover, find_covers
from ..measure.traits import Trait, tabulate_traits

# Their findings depend on labels, so they see no sealed one.
LABEL_CHECKS = ("contradicting-labels", "confounding", "label-suspect")
RELABEL_CHECKS = ("label-suspect",)  # propose another label, which only a person may give


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The answer of a check that cannot run; never to be read as passed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Partial:
    """The answer of a check of which a part could not run, and why not."""

    findings: list[Finding]
    reason: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of a check, a value until it is shown as text.

    Attributes:
        found: number of findings; None where the check was not applicable.
        reason: why the check, or a part of it, could not run; empty where all of it ran.
    """

    found: int | None
    reason: str = ""

    def __str__(self) -> str:
        if self.found is None:
            return f"not applicable: {self.reason}"
        text = f"{self.found} found" if self.found else "nothing found"
        return f"{text}; not applicable for {self.reason}" if self.reason else text

    @classmethod
    def parse(cls, text: str) -> CheckResult:
        """Return the result that was written as this text."""
        if text.startswith("not applicable: "):
            return cls(None, text.removeprefix("not applicable: "))
        said, _, reason = text.partition("; not applicable for ")
        return cls(0 if said == "nothing found" else int(said.removesuffix(" found")), reason)


class Digest:
    """The digests of a cohort in its order, and what several checks derive from them."""

    same = "pixels"  # what exact duplicates share

    def __init__(
        self,
        cohort: Cohort,
        images: Sequence[ImageDigest],
        *,
        problems: Sequence[Problem] = (),
        evidence: Evidence | None = None,
        embeddings: NDArray[np.floating] | None = None,
    ) -> None:
        self.images = tuple(images)
        self.problems = tuple(problems)  # that reading the folder found
        self.evidence = evidence  # of a trained run, where one was named
        self.embeddings = embeddings  # (images, D) of a backbone, where its weights were at hand
        self._samples = {s.image: s for s in cohort.samples}
        self._order = {d.image: i for i, d in enumerate(images)}

    @cached_property
    def exact_groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of two or more images with equal pixels, the one to keep first."""
        groups: dict[str, list[str]] = {}
        for digest in self.images:
            groups.setdefault(digest.pixel_hash, []).append(digest.image)
        return tuple(tuple(sorted(names, key=self.rank)) for names in groups.values() if len(names) > 1)

    @cached_property
    def near_pairs(self) -> tuple[NearPair | BagPair, ...]:
        """Pairs that show the same field; of images with equal pixels only the one to keep takes part."""
        later = {name for group in self.exact_groups for name in group[1:]}
        return find_near_pairs([d for d in self.images if d.image not in later])

    @cached_property
    def duplicate_groups(self) -> dict[str, str]:
        """Image -> name of its group of exact and near duplicates."""
        return join_groups([*self.exact_groups, *(pair.images for pair in self.near_pairs if not pair.partial)])

    @cached_property
    def covers(self) -> dict[str, Cover]:
        """Image -> paint and ink on it, for images that have any."""
        return find_covers(self.images)

    @cached_property
    def joined_cases(self) -> dict[str, str]:
        """Image -> its case, with duplicates in one: the label of an image tells that of its copy."""
        groups = self.duplicate_groups
        links = {i: (f"case {s.case}", f"group {groups.get(i, i)}") for i, s in self._samples.items()}
        joined = join_groups(links.values())
        return {image: joined[case] for image, (case, _) in links.items()}

    def tabulate(self, images: Sequence[str]) -> dict[str, list[Trait]]:
        """Return kind -> traits of these images that are not their tissue."""
        return tabulate_traits([self.image(name) for name in images])

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self._order)

    def find_rows(self, images: Sequence[str]) -> list[int]:
        """Return where images stand in the cohort."""
        return [self._order[name] for name in images]

    def image(self, name: str) -> ImageDigest:
        """Return the digest of an image."""
        return self.images[self._order[name]]

    def sample(self, image: str) -> Sample:
        """Return the sample of an image."""
        return self._samples[image]

    def rank(self, image: str) -> tuple[bool, float, int, int]:
        """Return the order in which duplicates are kept: labelled, not painted on, the larger, first in the cohort."""
        position = self._order[image]
        paint = self.covers[image].paint if image in self.covers else None
        painted_frac = 0.0 if paint is None else round(paint.image_frac, 2)
        height, width = self.images[position].size_px
        return (self._samples[image].label is None, painted_frac, -height * width, position)


CHECKS: Registry[list[Finding] | NotApplicable | Partial] = Registry("check")


def except_tiny(findings: list[Finding], digest: Digest) -> list[Finding] | Partial:
    """Return the answer of a check that skips images too small to show any texture."""
    tiny = sum(min(d.size_px) < SMALLEST_PX for d in digest.images)
    return (
        Partial(findings, f"{tiny} of {len(digest.images)} images: a side is below {SMALLEST_PX} px")
        if tiny
        else findings
    )


def propose_exclusion(sample: Sample) -> Action:
    """Return ``exclude``, or ``keep`` for an image without a label."""
    # An image of the test part must be predicted whatever it shows.
    return "keep" if sample.label is None else "exclude"
