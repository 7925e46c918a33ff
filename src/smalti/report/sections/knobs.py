"""Sections of the page of a search: what the tuned recipe is worth, and which knobs that depends on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...records.layout import TRIALS
from ...records.scored import HEADLINE
from ...records.studies.search import CurvePoint, KnobRange, KnobValue, SearchResult
from ..blocks import Block, Panels, Paragraph, Section, Table, count_things, format_number, format_percent, format_range
from ..figures.drawing import BLUE, GREY, VERMILION, Drawing

BAND = "#D9D9D9"
STUDY_WORDS = {"all": "all cases (taken home)"}
MOST_PAIRS = 6  # rows of the table of interactions


def worth_section(result: SearchResult) -> Section:
    """Return the scores on the folds that chose nothing, and the optimism of those that did."""
    outer = result.outer
    untuned, tuned = outer.rows
    score, gap = tuned.metrics[HEADLINE], tuned.gap
    by = " by case" if outer.unit == "case" else ""
    lead = (
        f"Tuned: macro-F1{by} {format_number(score.value, 2)}, {format_percent(outer.confidence)} interval "
        f"{format_range(score.low, score.high, 2)}; {count_things(outer.n_images, 'image')}, "
        f"{count_things(outer.n_cases, 'case')}; chance {format_number(outer.chance, 2)}."
    )
    if gap is not None:
        lead += f" Against the untuned recipe: {gap.verdict} ({gap.value:+.3f}, {gap.low:+.3f} to {gap.high:+.3f})."
    blocks: list[Block] = [Paragraph(lead, "lead")]
    if not outer.trustworthy:
        blocks.append(Paragraph(f"Not to be trusted: {outer.reason}", "warning"))
    rows = []
    for row, note in ((untuned, "as the space's preset and settings say"), (tuned, "chosen inside each fold")):
        found = row.metrics[HEADLINE]
        rows.append([f"{row.name}: {note}", format_number(found.value), format_range(found.low, found.high)])
    rows.append(["inner score of what was chosen: what a search would report", format_number(result.inner), ""])
    rows.append(["optimism: inner score less outer score", f"{result.optimism:+.3f}", ""])
    blocks.append(Table(["", "macro-F1", "interval"], rows))
    text = (
        "Each outer fold has a study of its own on the cases outside it; the recipe that it chose scores the fold "
        "(nested cross-validation, Cawley & Talbot 2010). The recipe to take home comes from one more study on all "
        "cases; the score above is that of the procedure that made it."
    )
    return Section("worth", "What tuning is worth", [*blocks, Paragraph(text, "note")])


def sensitivity_section(result: SearchResult) -> Section:
    """Return the importance of the knobs, and which of them matter."""
    skipped = [Paragraph(f"{one.knob} can do nothing here: {one.reason}.", "note") for one in result.idle]
    if result.effects is None:
        reason = f"not applicable: fewer than {result.least_trials} trials say nothing about single knobs"
        return Section("sensitivity", "Which knobs matter", [Paragraph(reason, "note"), *skipped])
    real = [e.knob for e in result.effects if e.real]
    rest = [e.knob for e in result.effects if not e.real]
    lead = f"Moves the score by more than noise: {', '.join(real) or 'no knob'}."
    if rest:
        told = f"in {count_things(result.n_trials, 'trial')}"
        lead += f" No effect could be told {told}, so that they can be left alone for now: {', '.join(rest)}."
    rows = [
        [
            e.knob, format_number(e.importance, 2), format_number(e.reach), format_number(e.p_value),
            format_number(e.curve_p), "more than noise" if e.real else "cannot be told from noise",
        ]
        for e in result.effects
    ]  # fmt: skip
    caption = (
        "Importance: share of the variance between trials (fANOVA, Hutter et al. 2014). Reach: best less worst mean "
        "score along the knob. p, trials: what the knob explains beyond the others, by permutation of residuals. p, "
        "curve: analysis of variance of the curve below. Each is corrected for the number of knobs (Holm 1979); where "
        "there are both, one below 0.025 makes a knob real, so that together they err in 5 %."
    )
    if ended := result.n_trials - result.n_complete:
        caption += (
            f" {count_things(ended, 'trial')} of {result.n_trials} ended early, being behind: counted with the score "
            "they had and what the others gained from there on."
        )
    if result.n_unscored:
        caption += (
            f" {count_things(result.n_unscored, 'trial')} more had no score at all (knobs that do not fit together, or "
            f"training that diverged) and are left out; {TRIALS} says why."
        )
    header = ["knob", "importance", "reach", "p, trials", "p, curve", ""]
    blocks: list[Block] = [Paragraph(lead, "lead"), Table(header, rows, caption), *skipped]
    if result.interactions:
        pairs = [[f"{p.first} and {p.second}", format_number(p.strength, 2)] for p in result.interactions[:MOST_PAIRS]]
        caption = (
            "Interactions: share of the variance between trials that two knobs explain together and neither alone "
            "(after Friedman & Popescu 2008)."
        )
        blocks.append(Table(["pair", ""], pairs, caption))
    return Section("sensitivity", "Which knobs matter", blocks)


def curves_of_section(result: SearchResult) -> Section:
    """Return one knob at a time around the tuned recipe, with the luck of seeds as a band."""
    if result.curves is None:
        return Section("curves", "One knob at a time", [Paragraph("not applicable: no curves were asked for", "note")])
    points = pd.DataFrame([point.model_dump() for point in result.curves], columns=list(CurvePoint.model_fields))
    curves = points.dropna(subset=["score"])
    missing = f"Time was up after {len(points)} of {result.curve_points} points; the same command measures the rest"
    drawn = [knob for knob in result.knobs if knob.knob in set(curves["knob"])]
    if not drawn:
        return Section("curves", "One knob at a time", [Paragraph(missing, "note")])
    drawings = [draw_curve(curves, knob, noise=result.noise) for knob in drawn]
    noise = "unknown with one seed" if result.noise is None else f"{result.noise:.3f}"
    caption = (
        "Score inside all cases, for comparison only. Points: seeds, which draw folds and weights anew; blue: their "
        f"mean. Band: the mean of all settings, plus and minus two standard errors of a point's mean by luck alone "
        f"(standard deviation between seeds: {noise})."
    )
    blocks: list[Block] = [Panels([(d.to_svg(), d.words) for d in drawings], caption)]
    if len(points) < result.curve_points:
        blocks.insert(0, Paragraph(missing, "warning"))
    if len(curves) < len(points):
        text = f"{len(points) - len(curves)} points have no score: values that do not fit beside the tuned ones."
        blocks.append(Paragraph(text, "note"))
    return Section("curves", "One knob at a time", blocks)


def studies_section(result: SearchResult) -> Section:
    """Return what each study chose."""
    studies = result.studies
    header = ["knob", *(STUDY_WORDS.get(study.study, study.study) for study in studies)]
    rows = [[knob.knob, *(_format_value(study.params[knob.knob]) for study in studies)] for knob in result.knobs]
    rows.append(["trials", *(str(study.trials) for study in studies)])
    rows.append(["inner macro-F1", *(format_number(study.value) for study in studies)])
    text = "Where the folds agree on a value, that is a finding; where they do not, luck chose it."
    return Section("studies", "What each fold chose", [Table(header, rows), Paragraph(text, "note")])


def draw_curve(curves: pd.DataFrame, knob: KnobRange, *, noise: float | None) -> Drawing:
    """Draw scores along one knob: a point for each seed, the line of means, and the band of luck."""
    rows = curves[curves["knob"] == knob.knob]
    values = list(dict.fromkeys(rows["value"].tolist()))
    places = {value: i for i, value in enumerate(values)}  # evenly: ranges were cut evenly in their own measure
    means = [float(rows.loc[rows["value"] == value, "score"].mean()) for value in values]
    middle = float(np.mean(means))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        if noise is not None:
            error = 2 * noise / np.sqrt(rows["seed"].nunique())
            axes.axhspan(middle - error, middle + error, color=BAND, lw=0)
        axes.plot([places[v] for v in rows["value"]], rows["score"], "o", color=GREY, ms=3.5, mec="white", mew=0.5)
        # Choices have no order that a line could follow.
        style = {"marker": "_", "ms": 16, "lw": 0, "mew": 2} if knob.choices else {"lw": 1.6}
        axes.plot(range(len(values)), means, color=BLUE, **style)
        best = int(np.argmax(means))
        axes.plot(best, means[best], "D", color=VERMILION, ms=5)
        axes.set_xticks(list(places.values()), [_format_value(v) for v in values])
        axes.set(title=knob.knob.removeprefix("train."), ylabel="macro-F1")
        axes.margins(y=0.15)

    words = f"{knob.knob}: " + ", ".join(f"{_format_value(v)} {m:.3f}" for v, m in zip(values, means, strict=True))
    return Drawing(f"curve {knob.knob}", words, 3.5, 2.5, paint)


def _format_value(value: KnobValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
