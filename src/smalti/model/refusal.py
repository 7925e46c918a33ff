"""Refuse new images that a model cannot answer for, each with one reason that begins with its code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..audit.measure.keypoints import SMALLEST_PX
from ..records import Doubt, TrainingPopulation
from .look import GROUPS, NAMES, SHARPNESS, TRAITS, Look, measure_look
from .population import measure_distances, read_reference, scale_traits
from .visible import find_fault

CODES = ("unreadable", "encoder", "blank", "foreign", "painted", "blurred", "stain", "scale", "unsure")
MPP_FACTOR = 1.5  # beyond the range of training; an objective of twice the power is beyond it
SIDE_FACTOR = 2.0  # an image with a shorter side below half of those in training shows too little of anything
LEAST_AGREEMENT = 0.5  # of the members; where fewer name the class, they contradict each other


class Refuser:
    """Judges single images beside the training population; keeps nothing about them.

    Args:
        population: what the model learned from.
    """

    def __init__(self, population: TrainingPopulation) -> None:
        self.facts = population.facts
        self._reference = read_reference(population)
        self._traits = population.traits
        self._points = scale_traits(population.traits, self.facts.ranges)

    def judge(
        self,
        picture: NDArray[np.uint8],
        *,
        mpp: float | None = None,
        scores: NDArray[np.floating] | None = None,
        agreement: float | None = None,
    ) -> str:
        """Return why an RGB image (H, W, 3) is refused; empty where it is answered.

        Args:
            picture: the whole image; see `measure_look` for a slide.
            mpp: microns per pixel, where known.
            scores: (C,) calibrated probabilities; None where none were made.
            agreement: share of the members that name the same class as their mean.
        """
        return self.judge_look(measure_look(picture, mpp=mpp), scores=scores, agreement=agreement)

    def judge_look(
        self, look: Look, *, scores: NDArray[np.floating] | None = None, agreement: float | None = None
    ) -> str:
        """Return the same as `judge` for an image that was measured before."""
        fault = find_fault(look.digest, self._reference, usual=self.facts.usual_faults)
        code, reason = fault.code, fault.reason
        if not code:
            code, reason = self._judge_scale(look)
        if not code:
            code, reason = self._judge_rarity(look)
        if not code:
            code, reason = self._judge_focus(look)
        if not code:
            code, reason = judge_scores(self.facts.doubt, scores, agreement)
        return f"{code}: {reason}" if code else ""

    def _judge_focus(self, look: Look) -> tuple[str, str]:
        """Ask for defocus where few or mixed images of training give no usual sharpness.

        Defocus moves two traits, each in one direction: what is softer than every image of training in both is blurred.
        """
        if "blurred" in self.facts.usual_faults or min(look.digest.size_px) < SMALLEST_PX:
            return "", ""
        # Sharpness falls, and the finest detail falls behind the next; each beyond all by the least spread that counts.
        beyond = [
            sign * look.traits[i] > np.max(sign * self._traits[:, i]) + TRAITS[i][2]
            for i, sign in zip(GROUPS["focus"].tolist(), (1, -1), strict=True)
        ]
        softest = float(self._traits[:, SHARPNESS].min())
        reason = f"its sharpness is {look.traits[SHARPNESS]:.2f}, and that of the softest training image {softest:.2f}"
        return ("blurred", reason) if all(beyond) else ("", "")

    def _judge_scale(self, look: Look) -> tuple[str, str]:
        mpp, known = look.mpp, self.facts.mpp
        if mpp and known and not known.low / MPP_FACTOR <= mpp <= known.high * MPP_FACTOR:
            return "scale", f"{mpp:.3g} microns per pixel; in training {known.low:.3g} to {known.high:.3g}"
        least = min(self.facts.height_px.low, self.facts.width_px.low)
        if (side := min(look.digest.size_px)) * SIDE_FACTOR < least:
            return "scale", f"its shorter side has {side} px; in training {least:.0f} px or more"
        return "", ""

    def _judge_rarity(self, look: Look) -> tuple[str, str]:
        rarity = self.facts.rarity
        if rarity is None:
            return "", ""
        here = scale_traits(look.traits[None], self.facts.ranges)
        far = {
            group: float(measure_distances(here[:, columns], self._points[:, columns])[0]) / rarity.units[group]
            for group, columns in GROUPS.items()
        }
        group = max(far, key=lambda name: far[name])
        if far[group] <= rarity.bar:
            return "", ""
        columns = GROUPS[group]
        first = int(columns[np.abs(here[0, columns]).argmax()])
        code = "stain" if group in ("stain", "contrast") else "foreign"
        if group == "focus" or (group == "texture" and abs(here[0, SHARPNESS]) >= 2):
            code = "blurred" if here[0, SHARPNESS] < 0 else "scale"
        usual = self.facts.ranges[first]
        return code, (
            f"it is {far[group] / rarity.bar:.1f} times as far from the training images as they reach; "
            f"{NAMES[first]} {look.traits[first]:.2f}, in training {usual.low:.2f} to {usual.high:.2f}"
        )


def judge_scores(doubt: Doubt | None, scores: NDArray[np.floating] | None, agreement: float | None) -> tuple[str, str]:
    """Return the code and the reason where a model is too unsure of its answer; both empty where it is not."""
    if doubt is None:
        return "", ""
    if scores is not None and not float(np.max(scores)) >= doubt.confidence:  # also where it is NaN
        least = f"below {doubt.confidence:.2f}, where {doubt.share:.0%} of the training images lay when held out"
        return "unsure", f"its largest score is {np.max(scores):.2f}, {least}"
    if agreement is not None and agreement < LEAST_AGREEMENT:
        return "unsure", f"{agreement:.0%} of the members name its class, less than {LEAST_AGREEMENT:.0%}"
    return "", ""


def refuse_unreadable(why: str) -> str:
    """Return the refusal of an image that cannot be read, as one line."""
    return "unreadable: " + " ".join(why.split())
