"""What all checks share: their registry, and the digests that they look at. A check proposes; none acts."""

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
from ..compare.duplicates import NearPair, find_near_pairs
from ..labels.evidence import Evidence
from ..measure.digest import ImageDigest
from ..measure.keypoints import SMALLEST_PX
from ..measure.paint import Cover, find_covers

LABEL_CHECKS = (
    "contradicting-labels",
    "confounding",
    "label-suspect",
)  # what they find depends on labels, so they see no sealed one
RELABEL_CHECKS = ("label-suspect",)  # propose another label, which a person may give and no rule


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The answer of a check that cannot run; never to be read as passed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Partial:
    """The answer of a check of which a part could not run, and why not."""

    findings: list[Finding]
    reason: str


class Digest:
    """The digests of a cohort in its order, and what several checks derive from them."""

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
        """Images with equal pixels, two or more, the one to keep first."""
        groups: dict[str, list[str]] = {}
        for digest in self.images:
            groups.setdefault(digest.pixel_hash, []).append(digest.image)
        return tuple(tuple(sorted(names, key=self.rank)) for names in groups.values() if len(names) > 1)

    @cached_property
    def near_pairs(self) -> tuple[NearPair, ...]:
        """Pairs that show the same field; of images with equal pixels only the one to keep takes part."""
        later = {name for group in self.exact_groups for name in group[1:]}
        return find_near_pairs([d for d in self.images if d.image not in later])

    @cached_property
    def duplicate_groups(self) -> dict[str, str]:
        """Image -> name of its group of exact and near duplicates."""
        return join_groups([*self.exact_groups, *(pair.images for pair in self.near_pairs if not pair.partial)])

    @cached_property
    def covers(self) -> dict[str, Cover]:
        """Image -> paint and ink on it; images without are left out."""
        return find_covers(self.images)

    @cached_property
    def joined_cases(self) -> dict[str, str]:
        """Image -> its case, with duplicates in one: a picture tells of its twin whatever is asked."""
        groups = self.duplicate_groups
        links = {i: (f"case {s.case}", f"group {groups.get(i, i)}") for i, s in self._samples.items()}
        joined = join_groups(links.values())
        return {image: joined[case] for image, (case, _) in links.items()}

    def image(self, name: str) -> ImageDigest:
        """The digest of an image."""
        return self.images[self._order[name]]

    def sample(self, image: str) -> Sample:
        """The sample of an image."""
        return self._samples[image]

    def rank(self, image: str) -> tuple[bool, float, int, int]:
        """Order in which duplicates are kept: labelled, not painted on, the larger, first in the cohort."""
        position = self._order[image]
        paint = self.covers[image].paint if image in self.covers else None
        painted_frac = 0.0 if paint is None else round(paint.image_frac, 2)
        height, width = self.images[position].size_px
        return (self._samples[image].label is None, painted_frac, -height * width, position)


CHECKS: Registry[list[Finding] | NotApplicable | Partial] = Registry("check")


def except_tiny(findings: list[Finding], digest: Digest) -> list[Finding] | Partial:
    """The answer of a check that says nothing of images too small to show any texture."""
    tiny = sum(min(d.size_px) < SMALLEST_PX for d in digest.images)
    return (
        Partial(findings, f"{tiny} of {len(digest.images)} images: a side is below {SMALLEST_PX} px")
        if tiny
        else findings
    )


def propose_exclusion(sample: Sample) -> Action:
    """``exclude``, or ``keep`` for an image without a label."""
    # An image of the test part must be predicted whatever it shows.
    return "keep" if sample.label is None else "exclude"
