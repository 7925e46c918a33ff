"""Sections of the page of a learning curve: the answers, the curve, and its points."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ...records.studies.learning import LearningResult
from ..blocks import Block, Panels, Paragraph, Section, Table, count_things, format_number, format_percent, format_range
from ..figures.drawing import BLUE, GREY, VERMILION, Drawing

BAND = "#D9D9D9"
DOTTED = (0, (1, 1.5))
METHOD = (
    "In each outer fold the head is solved on growing parts of the training cases. Each part is nested in the next, "
    "has similar shares of the classes, and is drawn in several orders of the cases. All sizes are scored on the same "
    "outer cases, pooled over folds; with all cases the score is that of the ordinary run. The curve a - b n^-c is "
    "fitted by weighted least squares (Mukherjee et al. 2003; Figueroa et al. 2012). Intervals of extrapolated scores "
    "cover other cases (bootstrap by case), other orders, other exponents c, which are averaged and not chosen, and "
    "the luck of the training cases."
)


def answers_section(result: LearningResult) -> Section:
    """Return what would help, in words, and the curve."""
    last = result.points[-1]
    lead = (
        f"Macro-F1 {format_number(last.value, 2)} with all cases, {format_percent(result.confidence)} interval "
        f"{format_range(last.low, last.high, 2)}; {count_things(result.n_images, 'image')}, "
        f"{count_things(result.n_cases, 'case')}; chance {format_number(result.chance.prior, 2)}."
    )
    blocks: list[Block] = [Paragraph(lead, "lead")]
    if not result.trustworthy:
        blocks.append(Paragraph(f"Not to be trusted: {result.reason}", "warning"))
    rows = [(f"{answer.what}?", answer.word, answer.words) for answer in result.answers]
    blocks.append(Table(("would it help", "", "why"), rows, text_columns=3))
    drawing = draw_learning(result)
    caption = (
        f"Blue: outer cases, with {format_percent(result.confidence)} intervals by case; small points are single "
        "orders of the cases and seeds. Orange, dashed: training images. Open circles: extrapolated. Grey band: "
        "what guessing by the shares of the classes scores."
    )
    blocks.append(Panels([(drawing.to_svg(), drawing.words)], caption, width="lone"))
    return Section("answers", "What would help", blocks)


def points_section(result: LearningResult) -> Section:
    """Return every size with its score, and what more cases would bring."""
    rows = [
        (
            f"{p.cases:.0f}", f"{p.images:,.0f}", format_number(p.value), format_range(p.low, p.high),
            format_number(p.taught), str(p.networks),
        )
        for p in result.points
    ]  # fmt: skip
    header = ("training cases", "training images", "macro-F1", "interval", "macro-F1 of training images", "networks")
    caption = (
        f"Numbers of training cases and images: mean over folds. The interval of all cases covers {result.covers}; the "
        "others are of the mean over several orders of the cases, which makes them narrower."
    )
    blocks: list[Block] = [Table(header, rows, caption, text_columns=0)]
    if result.growth:
        ahead = [
            (
                f"{g.times:g} times ({g.times * result.n_cases:.0f})", format_number(g.value),
                format_range(g.low, g.high), f"{g.gain:+.3f}", f"{g.gain_low:+.3f} to {g.gain_high:+.3f}",
            )
            for g in result.growth
        ]  # fmt: skip
        names = ("cases in all", "macro-F1", "interval", "gain", "interval of the gain")
        blocks.append(Table(names, ahead, "Extrapolated: to be expected of more cases like these"))
    else:
        blocks.append(Paragraph(f"Nothing is extrapolated: {result.answers[0].words}.", "note"))
    return Section("points", "The curve in numbers", [*blocks, Paragraph(METHOD, "note")])


def draw_learning(result: LearningResult) -> Drawing:
    """Draw the score against the number of training cases, on a log scale of the cases."""
    points, chance = result.points, result.chance
    last = points[-1]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        if chance.prior_low is not None and chance.prior_high is not None:
            axes.axhspan(chance.prior_low, chance.prior_high, color=BAND, lw=0)
        cases, none = [p.cases for p in points], float("nan")
        taught = [none if p.taught is None else p.taught for p in points]
        axes.plot(cases, taught, color=VERMILION, lw=1.4, ls=(0, (3, 2)), marker="s", ms=3.5)
        for point in points:
            axes.plot([point.cases] * len(point.single), point.single, "o", color=GREY, ms=2.5, mew=0)
            bounds = [none if bound is None else bound for bound in (point.low, point.high)]
            axes.plot([point.cases] * 2, bounds, color=BLUE, lw=1.6)
        values = [none if p.value is None else p.value for p in points]
        axes.plot(cases, values, color=BLUE, lw=1.6, marker="o", ms=6, mec="white")
        ahead = [last.cases * g.times for g in result.growth]
        axes.plot([cases[-1], *ahead], [values[-1], *(g.value for g in result.growth)], color=BLUE, lw=1, ls=DOTTED)
        for where, g in zip(ahead, result.growth, strict=True):
            axes.plot([where] * 2, [g.low, g.high], color=BLUE, lw=1.2)
            axes.plot(where, g.value, "o", color=BLUE, mfc="white", ms=6)
        axes.set(xscale="log", ylim=(0, 1.02), xlabel="training cases", ylabel="macro-F1")
        axes.xaxis.set_major_locator(FixedLocator([*cases, *ahead]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axes.grid(axis="y", color="#E5E5E5", lw=0.7)
        axes.set_axisbelow(True)

    words = "Macro-F1 by training cases: " + ", ".join(f"{p.cases:.0f} {p.value:.3f}" for p in points)
    words += "".join(f"; {g.times:g} times the cases {g.value:.3f}" for g in result.growth)
    return Drawing("learning", words, 5.4, 3.4, paint)
