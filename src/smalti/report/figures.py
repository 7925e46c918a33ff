"""Drawings as inline SVG: text stays text, nothing refers to a file or a network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe & Ito 2008: told apart with any colour vision, and in grey.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called "$x$"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # measured with what matplotlib ships; the page's own style decides
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "lines.solid_capstyle": "round",
}
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def draw_headline(metric: Mapping[str, Any], *, name: str) -> Markup:
    """Score with interval above the range of a guess, on an axis from 0 to 1."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "headline"}):
        figure = Figure(figsize=(4.8, 1.3), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(metric["chance_prior_low"], metric["chance_prior_high"], color="#D9D9D9", lw=0)
        axes.axvline(metric["chance_prior"], color=GREY, lw=1.2)
        axes.axvline(metric["chance_majority"], color=GREY, lw=1.2, ls=(0, (3, 2)))
        axes.plot([metric["low"], metric["high"]], [0, 0], color=BLUE, lw=4, clip_on=False)
        axes.plot(metric["value"], 0, "o", color=BLUE, ms=10, mec="white", mew=1.5, clip_on=False)
        axes.annotate(
            f"{metric['value']:.2f}", (metric["value"], 0), (0, 9), textcoords="offset points", ha="center",
            color=BLUE, weight="bold", size=11,
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(-0.6, 1), yticks=[], xlabel=name)
        axes.spines["left"].set_visible(False)
        return _to_svg(figure)


def draw_curves(history: pd.DataFrame, *, column: str, title: str) -> Markup:
    """One thin line per fold and seed, and the mean of the folds still training; one phase.

    ``history`` has the columns of ``types.HISTORY_COLUMNS``.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"{history['phase'].iloc[0]} {column}"}):
        figure = Figure(figsize=(3.5, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for _, rows in history.groupby(["seed", "fold"]):
            axes.plot(rows["epoch"], rows[column], color=BLUE, alpha=0.35, lw=0.8)
        mean = history.groupby("epoch")[column].mean()
        axes.plot(mean.index, mean, color=VERMILION, lw=2, marker="o" if len(mean) == 1 else None)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if column == "inner_macro_f1":
            axes.set_ylim(0, 1)
        axes.grid(axis="y", color="#E5E5E5", lw=0.7)
        axes.set_axisbelow(True)
        return _to_svg(figure)


def _to_svg(figure: Figure) -> Markup:
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    text = buffer.getvalue()
    # The page's own header stands for the XML one. matplotlib has escaped every text, so the markup is safe.
    return Markup(text[text.index("<svg") :])
