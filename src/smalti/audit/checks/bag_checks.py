"""What checks read of a cohort of features without pixels, and the findings that only bags have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ...errors import Problem
from ...stats.robust import LEAST_IMAGES, score_isolation
from ...types import Cohort, Finding
from ..compare.bag_pairs import LEAST_SIZE, BagPair, find_bag_pairs, scale_means
from ..labels.evidence import Evidence
from ..measure.bag_digest import BagDigest, read_bag_parts
from ..measure.traits import Trait, varies
from .registered import Digest, NotApplicable

# Checks that need no pixels; the others are not applicable.
OF_BAGS = (
    "integrity", "exact-duplicate", "near-duplicate", "contradicting-labels", "confounding", "shift", "foreign",
    "label-suspect",
)  # fmt: skip
RARE = 6.0  # robust z of the distance from the rest
COMPONENTS = 32  # of the means; distances in more are all alike
CLIPPED = 5.0  # spreads; measurements have long tails
FLOOR = 1e-3
MOST_SITES = 32


class BagsDigest(Digest):
    """The digests of bags in the order of their cohort, in the place of those of pictures."""

    same = "features"

    def __init__(
        self,
        cohort: Cohort,
        bags: Sequence[BagDigest],
        *,
        problems: Sequence[Problem] = (),
        evidence: Evidence | None = None,
    ) -> None:
        super().__init__(cohort, (), problems=problems, evidence=evidence)
        assert cohort.features is not None
        self.bags, self.spec = tuple(bags), cohort.features
        self._order = {bag.image: i for i, bag in enumerate(bags)}
        if len(bags) > 2:
            points = scale_means(bags)[0]
            self.embeddings = np.clip(points / np.maximum(points.std(axis=0), 1e-6), -CLIPPED, CLIPPED)

    @property
    def vague(self) -> bool:
        """Whether each bag is one vector of so few numbers that two may well be equal."""
        return self.spec.size < LEAST_SIZE and all(bag.tiles == 1 for bag in self.bags)

    @cached_property
    def exact_groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of two or more bags with equal numbers, the one to keep first."""
        groups: dict[str, list[str]] = {}
        for bag in self.bags if not self.vague else ():
            groups.setdefault(bag.content_hash, []).append(bag.image)
        return tuple(tuple(sorted(names, key=self.rank)) for names in groups.values() if len(names) > 1)

    @cached_property
    def near_pairs(self) -> tuple[BagPair, ...]:
        """Pairs of bags with the same tiles; of bags with equal numbers only the one to keep takes part."""
        later = {name for group in self.exact_groups for name in group[1:]}
        bags = [bag for bag in self.bags if bag.image not in later]
        return find_bag_pairs(bags, lambda name: read_bag_parts(self.sample(name), self.spec))

    def tabulate(self, images: Sequence[str]) -> dict[str, list[Trait]]:
        """Return kind -> traits of these bags that are not their tissue."""
        bags = [self.bags[self._order[name]] for name in images]
        made = [(bag.tool, bag.encoder, bag.form) for bag in bags]
        sides = np.array([bag.side or np.nan for bag in bags])
        scales = np.array([bag.mpp or np.nan for bag in bags])
        sites = [self.sample(name).site for name in images]
        known = sorted({site for site in sites if site})[:MOST_SITES]
        kinds = {
            "tiles": [Trait("tiles", np.array([float(bag.tiles) for bag in bags]))],
            "extraction": [
                *(Trait(f"made by {' '.join(filter(None, way))}", np.array([float(m == way) for m in made]), flag=True)
                  for way in sorted(set(made))),
                *(t for t in (Trait("side of a tile", sides), Trait("microns per pixel", scales))
                  if np.isfinite(t.values).all()),
            ],
            "site": [Trait(f"site {name}", np.array([float(s == name) for s in sites]), flag=True) for name in known],
        }  # fmt: skip
        return {kind: varying for kind, traits in kinds.items() if (varying := [t for t in traits if varies(t)])}

    def rank(self, image: str) -> tuple[bool, float, int, int]:
        """Return the order in which duplicates are kept: labelled, more tiles, first in the cohort."""
        position = self._order[image]
        return (self._samples[image].label is None, 0.0, -self.bags[position].tiles, position)


def find_rare_bags(digest: BagsDigest) -> list[Finding] | NotApplicable:
    """Return a finding for each bag whose mean lies far from all others; rarity alone proposes nothing."""
    if len(digest.bags) < LEAST_IMAGES or digest.embeddings is None:
        return NotApplicable(f"{len(digest.bags)} bags, it takes {LEAST_IMAGES} to know what is usual")
    names = [bag.image for bag in digest.bags]
    numbers = {name: i for i, name in enumerate(names)}
    groups = np.array([numbers[digest.duplicate_groups.get(name, name)] for name in names])
    points = digest.embeddings.astype(np.float64)
    left, scale, _ = np.linalg.svd(points - np.median(points, axis=0), full_matrices=False)
    rarity = score_isolation((left * scale)[:, :COMPONENTS], groups, floor=FLOOR)
    return [
        Finding(
            code="foreign",
            severity="info",
            images=(names[i],),
            score=round(float(rarity[i]), 2),
            message=f"{names[i]} is unlike the rest by its features (robust z {rarity[i]:.1f}); look whether the slide "
            "is of this stain, organ and scanner.",
            proposal="keep",
            evidence={"threshold": RARE, "features_rarity": round(float(rarity[i]), 2),
                      "tiles": digest.bags[i].tiles},
        )
        for i in np.argsort(-rarity, kind="stable")
        if rarity[i] >= RARE
    ]  # fmt: skip
