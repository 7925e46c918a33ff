"""The control for a gain by the mask: every image gets the mask of another case's image.

The permutation is fixed, and no label has a part in it: cases are put in an order that only hashes of their names
decide, and each image takes the mask of the one that lies as many places further as the largest case has images.
Labelled, unlabelled and sealed images exchange among themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ..errors import RecipeError
from ..store import hash_text
from ..types import Cohort, Sample


def exchange_masks(cohort: Cohort) -> Cohort:
    """Return the cohort with masks of other cases; images without a mask stay without.

    A part to predict in which one case has more than half of the images, as a single image does, cannot exchange
    within itself and takes masks of labelled images, of other cases than its own.

    Raises:
        RecipeError: no labelled image has a mask, or one case has more than half of those that have.
    """
    donors = order_samples(cohort.labelled)
    labelled = _exchange(cohort.labelled, donors)
    if labelled is None:
        cases = Counter(s.case for s in donors)
        raise RecipeError(
            f"masks cannot be exchanged between cases: of {len(donors)} labelled images with a mask, "
            f"{max(cases.values(), default=0)} are of one case",
            fix="--set tile.other_masks=false",
        )
    rest = []
    for part in (cohort.unlabelled, cohort.sealed):
        exchanged = _exchange(part, order_samples(part))
        if exchanged is None:
            taken = []
            for i, sample in enumerate(part):
                others = [d for d in donors if d.case != sample.case]
                taken.append(sample if sample.mask_path is None else _take_mask(sample, others[i % len(others)]))
            exchanged = tuple(taken)
        rest.append(exchanged)
    return replace(cohort, labelled=labelled, unlabelled=rest[0], sealed=rest[1])


def order_samples(samples: tuple[Sample, ...]) -> list[Sample]:
    """Return the samples with a mask, case by case, in an order that says nothing about them."""
    masked = [s for s in samples if s.mask_path is not None]
    return sorted(masked, key=lambda s: (hash_text(s.case), s.case, hash_text(s.image), s.image))


def _exchange(samples: tuple[Sample, ...], ordered: list[Sample]) -> tuple[Sample, ...] | None:
    """Return a permutation of the masks without a fixed case; None where there is none."""
    step = max(Counter(s.case for s in ordered).values(), default=0)
    if not ordered or 2 * step > len(ordered):
        return None
    donor = {s.image: ordered[(i + step) % len(ordered)] for i, s in enumerate(ordered)}
    return tuple(_take_mask(s, donor[s.image]) if s.image in donor else s for s in samples)


def _take_mask(sample: Sample, donor: Sample) -> Sample:
    return replace(sample, mask_path=donor.mask_path, mask_reading=donor.mask_reading, foreign_mask=True)
