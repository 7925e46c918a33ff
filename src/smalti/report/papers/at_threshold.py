"""Return the section about what a run of two classes is worth at a threshold: decision curve, operating points."""

from __future__ import annotations

from matplotlib.figure import Figure

from ...records import Operating
from ..blocks import (
    Block,
    Panels,
    Paragraph,
    Section,
    Table,
    count_things,
    format_number,
    format_percent,
    format_range,
    not_applicable,
)
from ..contents import RunRecord
from ..figures.drawing import BLUE, GREY, VERMILION, Drawing
from ..figures.plots import BAND

ANCHOR, TITLE = "threshold", "At a threshold"
SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)  # rows of the table of net benefit


def threshold_section(record: RunRecord) -> Section:
    """Return net benefit against the threshold, and sensitivity at stated specificity and the reverse."""
    found = record.operating
    if found is None:
        many = record.scores is not None and len(record.scores.classes) != 2
        reason = (
            "it is of two classes, and this run has more" if many else "there is no operating.json; 'smalti evaluate' "
            "writes it for two classes"
        )  # fmt: skip
        return not_applicable(ANCHOR, TITLE, reason)
    if found.missing:
        return not_applicable(ANCHOR, TITLE, found.missing)
    return Section(ANCHOR, TITLE, [*_list_points(found), *_list_benefit(found)])


def _list_points(found: Operating) -> list[Block]:
    things = count_things(found.n_units, found.unit)
    text = (
        f"The positive class is {found.positive} ({found.positive_reason}): {found.n_positive:,} of {things}. "
        "Thresholds were chosen on the inner images of each fold and seed, so that they reach the value asked for "
        "there; the numbers are those of held-out images, which chose nothing. What was asked for and what is reached "
        "differ by the luck of the inner images."
    )
    rows = [
        (
            f"{point.asked} {format_percent(point.target)}",
            *(
                f"{format_number(share.value, 2)} ({format_range(share.low, share.high, 2)})"
                + ("" if share.trustworthy else " ?")
                for share in (point.sensitivity, point.specificity)
            ),
            format_range(point.lowest, point.highest, 2),
        )
        for point in found.points
    ]
    header = ("asked for", "sensitivity reached", "specificity reached", "thresholds")
    caption = (
        f"In brackets {format_percent(found.confidence)} intervals by case ({count_things(found.n_cases, 'case')}, "
        f"{count_things(found.n_seeds, 'seed')}). They cover {found.covers}."
    )
    blocks: list[Block] = [Paragraph(text), Table(header, rows, caption)]
    shares = [share for point in found.points for share in (point.sensitivity, point.specificity)]
    if not all(share.trustworthy for share in shares):
        blocks.append(Paragraph("?: too few cases, or too few with an error, to trust this interval.", "note"))
    return blocks


def _list_benefit(found: Operating) -> list[Block]:
    words = (
        f"Net benefit of calling images {found.positive} from a probability on, against that probability; beside it "
        "calling all of them so, and none"
    )
    caption = (
        f"Blue: the classifier, with the {format_percent(found.confidence)} interval by case at each threshold by "
        "itself; its lower end counts with one more miss and one more false alarm than were seen. Orange: everything "
        "is called positive. Grey: nothing is."
    )
    useful = found.find_useful()
    verdict = (
        f"By its interval the classifier is worth more than both at thresholds of {useful[0]:.2f} to {useful[1]:.2f}."
        if useful
        else "At no threshold is the classifier worth more than both by its interval."
    )
    text = (
        "Decision curve (Vickers & Elkin 2006). Whoever acts from a probability p on accepts (1 - p)/p false alarms "
        "for one find; the net benefit counts finds less false alarms at that rate, as a share of all "
        f"{found.unit}s. Probabilities: {found.calibrated}. {verdict} A curve holds for the share of {found.positive} "
        f"in these data ({format_number(found.prevalence, 2)}); where it is rarer the curve is another."
    )
    rows = [
        (
            f"{point.threshold:.2f}",
            f"{format_number(point.net_benefit.value)} ({format_range(point.net_benefit.low, point.net_benefit.high)})",
            format_number(point.treat_all),
            f"{point.gain.value or 0:+.3f} ({format_range(point.gain.low, point.gain.high)})",
        )
        for point in found.curve
        if point.threshold in SHOWN
    ]
    header = ("threshold", "net benefit", "all positive", "gain above all and none")
    drawing = draw_decision_curve(found, words=words)
    return [Paragraph(text), Panels([(drawing.to_svg(), words)], caption, width="lone"), Table(header, rows)]


def draw_decision_curve(found: Operating, *, words: str) -> Drawing:
    """Draw net benefit with its band, and that of calling everything or nothing positive."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = [point.threshold for point in found.curve]
        ours = [point.net_benefit for point in found.curve]
        top = found.prevalence or 0.5
        axes.fill_between(places, [p.low or 0 for p in ours], [p.high or 0 for p in ours], color=BAND, lw=0)
        axes.axhline(0, color=GREY, lw=1.4)
        axes.plot(places, [p.treat_all for p in found.curve], color=VERMILION, lw=1.4, ls=(0, (3, 2)))
        axes.plot(places, [p.value or 0 for p in ours], color=BLUE, lw=2)
        axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.25 * top))
        axes.set(xlabel="threshold of the probability", ylabel="net benefit")
        axes.text(0.99, 0.03 * top, "none", ha="right", color="#555555", size=8.5)
        axes.text(0.02, 1.16 * top, "all", color="#A84600", size=8.5)

    return Drawing("decision-curve", words, 5.2, 2.9, paint)
