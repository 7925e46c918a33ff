"""What people put on images: paint and marker ink."""

from __future__ import annotations

import colorsys

from ...types import Action, Cohort, Finding, Sample
from ..measure.paint import Region
from .registered import CHECKS, Digest, NotApplicable, propose_exclusion

REPAIRABLE_FRAC = 0.5  # of the mask, or of the tissue; of what is painted over more, too little is left
GREY_SATURATION, BLACK_VALUE, WHITE_VALUE = 0.15, 0.2, 0.85
HUES = ("red", "orange", "yellow", "green", "green", "green", "cyan", "blue", "blue", "violet", "magenta", "pink")


@CHECKS.register("painted", summary="paint on the tissue", reference="Ruifrok & Johnston 2001 (optical density)")
def find_painted(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image with a region that neither the stains nor a camera make; score: its share."""
    covers = ((d.image, digest.covers.get(d.image)) for d in digest.images)
    return [
        _report("painted", region=cover.paint, sample=digest.sample(image))
        for image, cover in covers
        if cover is not None and cover.paint is not None
    ]


@CHECKS.register("pen", summary="marker ink through which the tissue is seen")
def find_pen(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image with tissue that shows through a colour no stain makes; score: its share."""
    covers = ((d.image, digest.covers.get(d.image)) for d in digest.images)
    return [
        _report("pen", region=cover.ink, sample=digest.sample(image))
        for image, cover in covers
        if cover is not None and cover.ink is not None
    ]


def name_colour(colour: tuple[int, int, int]) -> str:
    """An RGB colour in a word."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in colour))
    if value < BLACK_VALUE:
        return "black"
    if saturation < GREY_SATURATION:
        return "white" if value > WHITE_VALUE else "grey"
    return HUES[round(12 * hue) % 12]


def _report(code: str, *, region: Region, sample: Sample) -> Finding:
    word, verb = name_colour(region.colour), "paint" if code == "painted" else "ink"
    where = f"{region.image_frac:.1%} of the image"
    if region.mask_frac is not None:
        where += f" and {region.mask_frac:.1%} of its mask"
    return Finding(
        code=code,
        severity="warning",
        images=(sample.image,),
        score=region.image_frac,
        message=f"{sample.image}: {word} {verb} on {where}.",
        proposal=_propose(code, region=region, sample=sample),
        evidence={
            "painted_frac": round(region.image_frac, 4),
            "mask_frac_painted": None if region.mask_frac is None else round(region.mask_frac, 4),
            "colour": list(region.colour),
            "outline": region.outline,
        },
    )


def _propose(code: str, *, region: Region, sample: Sample) -> Action:
    lost = region.tissue_frac if region.mask_frac is None else region.mask_frac
    # Ink lets the tissue through: there is nothing to fill, and the image may well teach.
    if code == "pen":
        return "keep" if lost < REPAIRABLE_FRAC else propose_exclusion(sample)
    # In the unlabelled part too: networks that never saw paint should not meet it there.
    return "repair" if lost < REPAIRABLE_FRAC else propose_exclusion(sample)
