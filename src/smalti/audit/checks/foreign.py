"""Images that do not belong to the cohort: photographs, drawings, charts, other stains, other modalities.

Two kinds of evidence add up. Colour and grain: the share that stain cannot explain, relative to the usual share in this
cohort. Rarity: the distance of texture, or of backbone features where there are any, from the rest of the cohort.
Rarity alone makes no image foreign, because blur, another magnification and odd tissue are rare as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...stats.robust import LEAST_IMAGES, Usual, find_usual, score_isolation
from ...types import Cohort, Finding
from .bag_checks import BagsDigest, find_rare_bags
from .quality import tell_blanks
from .registered import CHECKS, Digest, NotApplicable, Partial, propose_exclusion

Floats = NDArray[np.float64]

THRESHOLD = 5.0  # half of the picture cannot be stained tissue, or less in an image that is rare as well
UNIT_FRAC = 0.1  # of what is there; counts as one step of the score
# Steps. One image in forty is as rare as the lower by chance; beyond the upper nothing is added, for an image must not
# be foreign for being rare alone.
LEAST_RARITY, MOST_RARITY = 2.0, 4.0
USELESS_FRAC = 0.5  # where most of the usual image is no stained tissue, colour tells nothing apart
TEXTURE_FLOOR = 0.08  # natural logarithms and shares; less is the noise of one image
FEATURE_FLOOR = 1e-3  # share of the length of a feature vector
COMPONENTS = 32  # of the features; distances in more are all alike


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The evidence against each image, in steps of the score; arrays (n,).

    Attributes:
        colour: from the share that cannot be stained tissue.
        texture, features: robust z of rarity; zeros in too small a cohort; features are None without embeddings.
    """

    colour: Floats
    texture: Floats
    features: Floats | None

    @property
    def score(self) -> Floats:
        """All evidence in one number."""
        rarity = self.texture if self.features is None else np.maximum(self.texture, self.features)
        counted = np.where(rarity < LEAST_RARITY, 0, np.minimum(rarity, MOST_RARITY))
        return np.asarray(np.maximum(self.colour, 0) + counted)


@CHECKS.register(
    "foreign",
    summary="images that are no tissue of this cohort: photographs, drawings, charts, other stains",
    reference="optical density, Ruifrok & Johnston 2001; distance to the k-th neighbour, Ramaswamy et al. 2000",
)
def find_foreign(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """Return one finding for each image that colour, grain and rarity together speak against, except blank ones.

    Bags of features have rarity alone.
    """
    if isinstance(digest, BagsDigest):
        return find_rare_bags(digest)
    shown = [i for i, blank in enumerate(tell_blanks(digest)) if not blank]
    if len(shown) < 2:
        return NotApplicable("fewer than two images show anything")
    if not tells_colour([digest.images[i].appearance.grainless_frac for i in shown]):
        return NotApplicable("the usual image is not coloured like H&E, so that colour tells nothing apart")
    evidence = _weigh(digest, shown)
    score = evidence.score
    findings = [_report(digest, i, evidence=evidence, at=at) for at, i in enumerate(shown) if score[at] >= THRESHOLD]
    if len(shown) < LEAST_IMAGES:
        return Partial(findings, f"rarity: {len(shown)} images show anything, it takes {LEAST_IMAGES}")
    if evidence.features is None:
        return Partial(findings, "backbone features: no weights at hand; --set model.weights=FILE names some")
    return findings


def tells_colour(grainless: Sequence[float] | Floats) -> bool:
    """Return whether the usual image is coloured like H&E, by `Appearance.grainless_frac` of the images (n,)."""
    return float(np.median(grainless)) <= USELESS_FRAC


def find_usual_colour(grainless: Sequence[float] | Floats) -> Usual:
    """Return the usual `Appearance.grainless_frac`, so that a robust z is a number of steps of the score."""
    return find_usual(grainless, floor=UNIT_FRAC * (1 - float(np.median(grainless))))


def _weigh(digest: Digest, shown: list[int]) -> Suspicion:
    looks = [digest.images[i].appearance for i in shown]
    strange = np.array([look.grainless_frac for look in looks])
    colour = find_usual_colour(strange).score(strange)
    if len(shown) < LEAST_IMAGES:
        return Suspicion(colour, np.zeros(len(shown)), None)
    # Duplicates have equal numbers: copies of one cartoon must not make each other look usual.
    names = [digest.images[i].image for i in shown]
    numbers = {name: i for i, name in enumerate(names)}
    groups = np.array([numbers.get(digest.duplicate_groups.get(n, n), numbers[n]) for n in names])
    texture = score_isolation(np.stack([look.texture for look in looks]), groups, floor=TEXTURE_FLOOR)
    if digest.embeddings is None:
        return Suspicion(colour, texture, None)
    # Unit vectors along their principal components, divided by one number for all components.
    unit = digest.embeddings[shown].astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    left, scale, _ = np.linalg.svd(unit - np.median(unit, axis=0), full_matrices=False)
    points = np.asarray((left * scale)[:, :COMPONENTS], dtype=np.float64)
    return Suspicion(colour, texture, score_isolation(points, groups, floor=FEATURE_FLOOR))


def _report(digest: Digest, i: int, *, evidence: Suspicion, at: int) -> Finding:
    one, look = digest.images[i], digest.images[i].appearance
    rare = {"texture": evidence.texture[at]}
    if evidence.features is not None:
        rare["features"] = evidence.features[at]
    even = look.grainless_frac - look.off_colour_frac
    cause = (
        f"{look.off_colour_frac:.0%} of what it shows has colours that stain cannot have"
        if look.off_colour_frac > even
        else f"{even:.0%} of what it shows is stain-coloured but without any grain"
    )
    unlike = [f"its {name} is unlike the rest (robust z {z:.1f})" for name, z in rare.items() if z >= LEAST_RARITY]
    return Finding(
        code="foreign",
        severity="warning",
        images=(one.image,),
        score=round(float(evidence.score[at]), 2),
        message=f"{one.image} does not belong to this cohort: {', '.join([cause, *unlike])}.",
        proposal=propose_exclusion(digest.sample(one.image)),
        evidence={
            "threshold": THRESHOLD,
            "off_colour_frac": round(look.off_colour_frac, 4),
            "grainless_frac": round(look.grainless_frac, 4),
            "colour": round(float(evidence.colour[at]), 2),
            **{f"{name}_rarity": round(float(z), 2) for name, z in rare.items()},
        },
    )
