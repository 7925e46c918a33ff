"""What all checks share: their registry, and the digests that they look at. A check proposes; none acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..registry import Registry
from ..types import Action, Cohort, Finding, Sample
from .cases import join_groups
from .digest import ImageDigest
from .duplicates import NearPair, find_near_pairs
from .paint import Cover, find_covers
from .evidence import Evidence

# What they find depends on labels, so they see no sealed one.
LABEL_CHECKS = ("contradicting-labels", "confounding", "label-suspect")


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The answer of a check that cannot run; never to be read as passed."""

    reason: str


class Digest:
    """The digests of a cohort in its order, and what several checks derive from them."""

    def __init__(self, cohort: Cohort, images: Sequence[ImageDigest], *, evidence: Evidence | None = None) -> None:
        self.images = tuple(images)
        self.evidence = evidence  # of a trained run, where one was named
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
        return join_groups([*self.exact_groups, *(pair.images for pair in self.near_pairs)])

    @cached_property
    def covers(self) -> dict[str, Cover]:
        """Image -> paint and ink on it; images without are left out."""
        return find_covers(self.images)

    def sample(self, image: str) -> Sample:
        """The sample of an image."""
        return self._samples[image]

    def rank(self, image: str) -> tuple[bool, float, int]:
        """Order in which duplicates are kept: labelled, not painted on, first in the cohort."""
        position = self._order[image]
        paint = self.covers[image].paint if image in self.covers else None
        painted_frac = 0.0 if paint is None else round(paint.image_frac, 2)
        return (self._samples[image].label is None, painted_frac, position)


CHECKS: Registry[list[Finding] | NotApplicable] = Registry("check")


def propose_exclusion(sample: Sample) -> Action:
    """``exclude``, or ``keep`` for an image without a label."""
    # An image of the test part must be predicted whatever it shows.
    return "keep" if sample.label is None else "exclude"
