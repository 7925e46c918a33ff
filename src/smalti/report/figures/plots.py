"""Draw the score, learning curves, reliability, scores and differences of many experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...records import Bin, MapMeasures, Score
from .drawing import BLUE, GREY, VERMILION, Drawing

BAND = "#D9D9D9"
DARK = "#333333"
Verdict = Literal["better", "worse", "practically equal", "cannot tell", "none", "missing"]
# Shape and colour say the same thing twice, so either is enough.
SIGNS: dict[Verdict, tuple[str, str]] = {
    "better": ("^", BLUE),
    "worse": ("v", VERMILION),
    "practically equal": ("D", GREY),
    "cannot tell": ("o", GREY),
    "none": ("s", DARK),
    "missing": ("x", DARK),
}
TEXT_COLOURS = {GREY: "#555555", VERMILION: "#A84600"}  # small text needs more contrast than a line
LONGEST_NAME = 34
ROW_IN = 0.42


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of `draw_marks`; ``value`` is None where there is a word instead of a number."""

    name: str
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    word: str = ""
    chance: float | None = None


def draw_headline(score: Score, *, name: str, words: str) -> Drawing:
    """Draw the score with its interval above the range of a guess, on an axis from 0 to 1."""

    numbers = (score.value, score.low, score.high, score.chance_prior, score.chance_majority)
    value, low, high, prior, majority = (math.nan if number is None else number for number in numbers)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        if score.chance_prior_low is not None and score.chance_prior_high is not None:
            axes.axvspan(score.chance_prior_low, score.chance_prior_high, color=BAND, lw=0)
        axes.axvline(prior, color=GREY, lw=1.2)
        axes.axvline(majority, color=GREY, lw=1.2, ls=(0, (3, 2)))
        axes.plot([low, high], [0, 0], color=BLUE, lw=4, clip_on=False)
        axes.plot(value, 0, "o", color=BLUE, ms=10, mec="white", mew=1.5, clip_on=False)
        axes.annotate(
            f"{value:.2f}", (value, 0), (0, 9), textcoords="offset points", ha="center",
            color=BLUE, weight="bold", size=11,
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(-0.6, 1), yticks=[], xlabel=name)
        axes.spines["left"].set_visible(False)

    return Drawing("headline", words, 4.8, 1.3, paint)


def draw_curves(history: pd.DataFrame, *, column: str, title: str) -> Drawing:
    """Draw one thin line per fold and seed, and the mean of the folds still training; one phase.

    ``history`` has the columns of ``types.HISTORY_COLUMNS``.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for _, rows in history.groupby(["seed", "fold"]):
            axes.plot(rows["epoch"], rows[column], color=BLUE, alpha=0.35, lw=0.8)
        mean = history.groupby("epoch")[column].mean()
        axes.plot(mean.index, mean, color=VERMILION, lw=2, marker="o" if len(mean) == 1 else None)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if column == "inner_macro_f1":
            axes.set_ylim(0, 1)
        _draw_grid(axes, "y")

    phase = history["phase"].iloc[0]
    return Drawing(f"{phase} {column}", f"Phase {phase}: {title} per epoch", 3.5, 2.5, paint)


def draw_reliability(bins: Sequence[Bin], *, words: str) -> Drawing:
    """Draw accuracy against confidence per bin (area of a point: its images), and the images per bin below.

    ``bins`` are equal widths of 0..1; empty ones have no point.
    """

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
        upper.plot([0, 1], [0, 1], color=GREY, lw=1.2, ls=(0, (3, 2)))
        full = [row for row in bins if row.images and row.confidence is not None]
        most = max((row.images for row in full), default=1)
        for row in full:
            upper.plot([row.confidence] * 2, [row.confidence, row.accuracy], color=VERMILION, lw=1.2)
        upper.plot([r.confidence for r in full], [r.accuracy for r in full], color=BLUE, lw=1, alpha=0.5)
        for row in full:
            size = 3 + 7 * (row.images / most) ** 0.5
            upper.plot(row.confidence, row.accuracy, "o", color=BLUE, ms=size, mec="white", clip_on=False)
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
        _draw_grid(upper, "both")
        width = 1 / max(1, len(bins))
        centres = [(position + 0.5) * width for position in range(len(bins))]
        lower.bar(centres, [row.images for row in bins], width=width * 0.9, color=GREY)
        lower.set(xlabel="largest score (confidence)", ylabel="images")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))

    return Drawing("reliability", words, 3.6, 3.6, paint)


def draw_removal(grid: Sequence[float], maps: Mapping[str, MapMeasures], *, kind: str) -> Drawing:
    """Draw the score against the share of tiles taken away (highest first) or put in, per map and for a random order.

    ``grid`` is the share of tiles that are there; ``maps`` as in `ExplanationRecord`.
    """
    words = f"Score while tiles are taken away or put in by {kind}, by Grad-CAM and at random"

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        lines = ((GREY, (0, (3, 2)), "o"), (BLUE, "-", "^"), (VERMILION, "-", "s"))
        for axes, name, title in (
            (left, "deletion", "highest taken away first"),
            (right, "insertion", "highest first"),
        ):
            rows = [("random order", maps["map"].curves.random)]
            rows += [("Grad-CAM" if m == "gradcam" else kind, getattr(maps[m].curves, name)) for m in maps]
            for (label, scores), (color, dashes, shape) in zip(rows, lines, strict=False):
                shares = [1 - x for x in grid] if name == "deletion" else list(grid)
                axes.plot(shares, scores, color=color, ls=dashes, marker=shape, ms=4, lw=1.6, label=label)
            axes.set(title=title, xlabel="share of tiles taken away" if name == "deletion" else "share of tiles there")
            _draw_grid(axes, "both")
        left.set_ylabel("score")
        right.legend(frameon=False, fontsize=8.5)

    return Drawing("removal", words, 6.6, 2.7, paint)


def draw_marks(
    marks: Sequence[Mark],
    *,
    name: str,
    words: str,
    label: str,
    band: tuple[float, float] | None = None,
    zero: bool = False,
) -> Drawing:
    """Draw one row per mark, the first at the bottom: name and word above, value with interval below.

    ``band`` is the range of a guess; ``zero`` draws the line of no difference and puts it in view.
    """

    seen = [x for mark in marks for x in (mark.value, mark.low, mark.high, mark.chance) if x is not None]
    seen += list(band or ()) + ([0.0] if zero else [])
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    room = 0.04 * max(high - low, 0.1) if seen else 0.0

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        if band is not None:
            axes.axvspan(*band, color=BAND, lw=0)
        if zero:
            axes.axvline(0, color=DARK, lw=1)
        axes.set(xlim=(low - room, high + room), ylim=(-0.5, len(marks) - 0.35), yticks=[], xlabel=label)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        _draw_grid(axes, "x")
        for position, mark in enumerate(marks):
            _draw_mark(axes, mark, float(position))

    return Drawing(name, words, 4.2, 0.55 + ROW_IN * len(marks), paint)


def _draw_mark(axes: Axes, mark: Mark, row: float) -> None:
    shape, color = SIGNS[mark.verdict]
    across = axes.get_yaxis_transform()  # x in shares of the width, y in data
    strong = "bold" if mark.verdict in {"better", "worse", "practically equal"} else "normal"
    name = " ".join(mark.name.split())
    if len(name) > LONGEST_NAME:  # the middle is cut out
        name = f"{name[: LONGEST_NAME // 2]}…{name[-(LONGEST_NAME - LONGEST_NAME // 2 - 1) :]}"
    axes.text(0, row + 0.3, name, transform=across, ha="left", va="center", size=8.5)
    axes.text(
        1, row + 0.3, mark.word, transform=across, ha="right", va="center", size=8.5, weight=strong,
        color=TEXT_COLOURS.get(color, color),
    )  # fmt: skip
    if mark.chance is not None:
        axes.plot([mark.chance] * 2, [row - 0.2, row + 0.12], color=GREY, lw=1.2, ls=(0, (2, 1.5)))
    if mark.value is None:
        axes.plot(0.012, row - 0.05, shape, transform=across, color=color, ms=6, mew=1.8)
        return
    if mark.low is not None and mark.high is not None:
        axes.plot([mark.low, mark.high], [row - 0.05] * 2, color=color, lw=2.6, clip_on=False)
    axes.plot(mark.value, row - 0.05, shape, color=color, ms=8, mec="white", mew=1.0, clip_on=False)


def _draw_grid(axes: Axes, axis: Literal["x", "y", "both"]) -> None:
    axes.grid(axis=axis, color="#E5E5E5", lw=0.7)
    axes.set_axisbelow(True)
