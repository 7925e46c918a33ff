"""Faults that one picture shows beside a population: the audit's checks, asked of a single image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..audit.checks.artefacts import name_colour
from ..audit.checks.foreign import THRESHOLD, find_usual_colour, tells_colour
from ..audit.checks.plausible import explain_implausible
from ..audit.checks.quality import BLANK_FRAC, BLURRED, find_usual_focus, has_stain, is_blank, score_focus
from ..audit.measure.digest import PictureDigest
from ..audit.measure.keypoints import SMALLEST_PX
from ..audit.measure.paint import Palette, find_cover, find_palette
from ..stats.robust import LEAST_IMAGES, Usual


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the checks need to know about a population.

    Attributes:
        stained: whether the usual image has colours of H&E.
        grainless: share of an image that stain cannot explain; None where colour tells nothing apart.
        focus: size class -> sharpness; empty in too small a population.
        palette: native colours.
    """

    stained: bool
    grainless: Usual | None
    focus: dict[int, Usual]
    palette: Palette


@dataclass(frozen=True, slots=True)
class Fault:
    """What a picture shows; all empty where it shows none.

    Attributes:
        code: of the refusal.
        reason: for people.
        kind: the code, or the colour of the paint: what a population may have as a habit.
    """

    code: str = ""
    reason: str = ""
    kind: str = ""


def find_reference(digests: Sequence[PictureDigest]) -> Reference:
    """Return what is usual in a population."""
    stained = has_stain(digests)
    shown = [d for d in digests if not is_blank(d.appearance, stained=stained)]
    grainless = [d.appearance.grainless_frac for d in shown]
    sharp = [d for d in shown if min(d.size_px) >= SMALLEST_PX]
    return Reference(
        stained=stained,
        grainless=find_usual_colour(grainless) if grainless and tells_colour(grainless) else None,
        focus=find_usual_focus(sharp) if len(sharp) >= LEAST_IMAGES else {},
        palette=find_palette(digests)[0],
    )


def find_fault(digest: PictureDigest, reference: Reference, *, usual: Collection[str] = ()) -> Fault:
    """Return the first fault that a picture shows.

    Args:
        digest: of the picture.
        reference: what it is compared with.
        usual: kinds that are not asked for.
    """
    look, usual_colour, focus = digest.appearance, reference.grainless, reference.focus
    if "blank" not in usual and is_blank(look, stained=reference.stained):
        return Fault("blank", f"tissue covers {look.tissue_frac:.1%}, less than {BLANK_FRAC:.0%}", "blank")
    if reason := explain_implausible(digest.thumbnail):
        return Fault("foreign", reason, "foreign")
    if "foreign" not in usual and usual_colour and usual_colour.score(look.grainless_frac) >= THRESHOLD:
        return Fault("foreign", f"{look.grainless_frac:.0%} of what it shows cannot be stained tissue", "foreign")
    # Before paint: what is blurred is even, as paint is.
    if "blurred" not in usual and focus and min(digest.size_px) >= SMALLEST_PX:
        z = score_focus(digest, focus)
        if z < BLURRED:
            reason = f"its fine details are far weaker than in training (robust z {z:.1f})"
            return Fault("blurred", reason, "blurred")
    cover = find_cover(digest, reference.palette)
    for word, region in () if cover is None else (("paint", cover.paint), ("ink", cover.ink)):
        if region is not None and (kind := f"{name_colour(region.colour)} {word}") not in usual:
            return Fault("painted", f"{kind} on {region.image_frac:.1%} of the image", kind)
    return Fault()
