"""Return the sections of the page about an external cohort: new images with labels, answered by a model."""

from __future__ import annotations

from ..records import OTHER, Margin, UnitScores
from ..records.studies.external import ExternalRecord, Promised
from .blocks import (
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
from .figures.plots import draw_reliability
from .sections.results import TITLES, make_matrix, mark_doubt

METHOD = (
    "Every number on this page is about new images alone; no network has learned from them, and no choice was made by "
    "them. The model answers with the mean of all its networks. Intervals are by case (jackknife, Wilson's interval "
    "for the effective number of cases). Out of fold, an image was scored by the networks of one fold, so that the "
    "model has the small advantage of an ensemble here. The difference to out-of-fold is not paired, because the cases "
    "are others: its interval comes from the two intervals (Newcombe 1998, method 10; Zou & Donner 2008). The foreseen "
    "range is a prediction interval for this number of new cases of the same population."
)
MEANINGS = {
    "better": "The score is higher than the model promises",
    "worse": "The score is lower than the model promises",
    "cannot tell": "Whether the score differs from what the model promises cannot be told",
    "no verdict": "There is no verdict, because one of the two intervals cannot be trusted",
}


def say_external(record: ExternalRecord) -> tuple[str, ...]:
    """Return the result in sentences: the score, the refused images, the promise, and what is missing."""
    sentences = [_say_score(record), _say_refused(record)]
    if record.promised is not None:
        sentences.append(_say_promise(record, record.promised))
    else:
        sentences.append("The model has no score of its own that this could be compared with.")
    if record.absent:
        sentences.append(
            f"No answered image has the label {' or '.join(record.absent)}: macro-F1 is the mean over the other "
            f"classes. {count_things(record.predicted_absent, 'answered image')} got such a class, which is wrong."
        )
    if record.unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in record.unknown.items())
        sentences.append(f"Labels that the model does not know are not scored: {listed}.")
    return tuple(sentences)


def _say_score(record: ExternalRecord) -> str:
    scores = record.scores
    score, other = scores.headline, scores.take(OTHER[scores.unit])
    text = (
        f"External cohort, answered images: macro-F1 by {scores.unit} {format_number(score.value)} "
        f"({_say_interval(scores)}; {count_things(scores.n_images, 'image')} of "
        f"{count_things(scores.n_cases, 'case')}; a guess by the shares of the classes scores "
        f"{format_number(score.chance_prior)}, the most frequent class {format_number(score.chance_majority)})."
    )
    if other is not None:
        text += f" By {OTHER[scores.unit]} {format_number(other.headline.value)} ({_say_interval(other)})."
    return text


def _say_interval(scores: UnitScores) -> str:
    score, cover = scores.headline, scores.interval
    doubt = "" if cover.trustworthy else f", not to be trusted: {cover.reason}"
    return f"{format_percent(cover.confidence)} interval {format_range(score.low, score.high)}{doubt}"


def _say_margin(margin: Margin) -> str:
    doubt = "" if margin.trustworthy else f", not to be trusted: {margin.reason}"
    return f"{format_number(margin.value)} ({format_range(margin.low, margin.high)}{doubt})"


def _say_refused(record: ExternalRecord) -> str:
    refused = record.refused
    if not refused.n_images:
        return f"All {count_things(record.n_labelled, 'image')} with a known label are answered; none is refused."
    reasons = ", ".join(f"{why.rstrip('.')} ({count})" for why, count in list(refused.reasons.items())[:3])
    more = f", and {len(refused.reasons) - 3} other reasons" if len(refused.reasons) > 3 else ""
    text = (
        f"{refused.n_images} of {count_things(record.n_labelled, 'image')} with a known label are refused: "
        f"{reasons}{more}. Counted as wrong answers, macro-F1 by image is {_say_margin(refused.by_image)}"
    )
    return f"{text}." if refused.by_case is None else f"{text}, by case {_say_margin(refused.by_case)}."


def _say_promise(record: ExternalRecord, promised: Promised) -> str:
    found, score = promised.compared, promised.score
    text = (
        f"By {record.scores.unit}, {promised.population} ({count_things(promised.n_images, 'image')} of "
        f"{count_things(promised.n_cases, 'case')}), the model promises {_say_margin(score)}"
    )
    if found is None:
        return f"{text}. The two cannot be compared: {promised.why}."
    gap, place = found.difference, "inside" if found.inside else "outside"
    return (
        f"{text}; external less {promised.population}: {gap.value or 0:+.3f} ({gap.low or 0:+.3f} to "
        f"{gap.high or 0:+.3f}, other cases, so not paired). {MEANINGS[found.verdict]}; a true difference of "
        f"{format_number(found.smallest_detectable)} would be seen with a power of 80 %. On "
        f"{count_things(record.scores.n_cases, 'new case')} like its own the model foresees "
        f"{format_range(*found.foreseen)}, and the score lies {place}."
    )


def result_section(record: ExternalRecord) -> Section:
    """Return the result in words, and all metrics."""
    first, *rest = say_external(record)
    warned = (
        record.promised is not None and record.promised.compared is not None and not record.promised.compared.inside
    )
    blocks: list[Block] = [Paragraph(first, "lead")]
    blocks += [Paragraph(text, "warning" if warned and i == 1 else "plain") for i, text in enumerate(rest)]
    rows = [
        (
            TITLES.get(name, name), format_number(score.value),
            format_range(score.low, score.high) + mark_doubt(score.trustworthy), format_number(score.chance_majority),
            format_number(score.chance_prior),
        )
        for name, score in record.scores.metrics.items()
    ]  # fmt: skip
    caption = f"Answered images, by {record.scores.unit}. ?: this interval cannot be trusted"
    blocks.append(Table(("metric", "score", "interval", "most frequent class", "guess by shares"), rows, caption))
    return Section("result", "Result on an external cohort", blocks)


def classes_section(record: ExternalRecord) -> Section:
    """Return the F1 of each class beside what the model promises, and the confusion."""
    promised = {} if record.promised is None else record.promised.f1
    named = "promised" if record.promised is None else record.promised.population
    rows = []
    for name, found in record.scores.per_class.items():
        other = promised.get(name)
        beside = ("–", "–") if other is None else (format_number(other.value), format_range(other.low, other.high))
        rows.append((
            name, format_number(found.support, 0), *(format_number(x) for x in (found.precision, found.recall)),
            format_number(found.f1), format_range(found.f1_low, found.f1_high) + mark_doubt(found.f1_trustworthy),
            *beside,
        ))  # fmt: skip
    header = (
        "class", f"{record.scores.unit}s", "precision", "recall", "F1", "interval", f"F1 {named}", "interval"
    )  # fmt: skip
    caption = "Answered images; below, the share of the row (of those with that label)."
    return Section("classes", "Class by class", [Table(header, rows), make_matrix(record.scores, caption)])


def calibration_section(record: ExternalRecord) -> Section:
    """Return whether the scores mean here what they say."""
    found, percent = record.scores.calibration, format_percent(record.scores.interval.confidence)
    words = f"Expected calibration error {found.ece:.3f}; share that is right against the largest score, per bin"
    slope = f"The calibration slope cannot be fitted: {record.slope_why}."
    if record.slope is not None:
        low, high = record.slope.low or 0.0, record.slope.high or 0.0
        lean = "the scores are too extreme" if high < 1 else "the scores are not extreme enough" if low > 1 else (
            "it cannot be told from 1, which is right"
        )  # fmt: skip
        slope = f"Calibration slope {record.slope.say()}: {lean}."
    rows, off = [], []
    for name, large in record.large.items():
        gap = large.difference
        if gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high:
            off.append(f"{name} ({gap.value or 0:+.3f})")
        cells = (format_number(x) for x in (large.mean_score, large.frequency, gap.value))
        rows.append((name, *cells, format_range(gap.low, gap.high)))
    said = (
        f"Classes whose mean score differs from their frequency: {', '.join(off)}."
        if off
        else "No class has a mean score that differs from its frequency beyond its interval."
    )
    header = ("class", "mean score", "frequency", "difference", f"{percent} interval")
    blocks = (
        Paragraph(f"Expected calibration error {found.ece:.3f} ({len(found.bins)} bins). {slope} {said}"),
        Panels([(draw_reliability(found.bins, words=words).to_svg(), words)], f"By {record.scores.unit}", width="half"),
        Table(header, rows, "In the large: the mean score of a class against its share of the labels"),
    )
    return Section("calibration", "Calibration", blocks)


def refused_section(record: ExternalRecord) -> Section:
    """Return why images got no answer."""
    if not record.refused.n_images:
        return not_applicable("refused", "Refused images", "every image with a known label is answered")
    rows = [(why, str(count)) for why, count in record.refused.reasons.items()]
    caption = f"Without any answered image: {count_things(record.refused.n_cases, 'case')}"
    return Section("refused", "Refused images", [Table(("reason", "images"), rows, caption)])


def subgroups_section(record: ExternalRecord) -> Section:
    """Return the score of each subgroup, less all others."""
    title = "Subgroups"
    if not record.subgroups:
        return not_applicable("subgroups", title, "no column was asked for; --by COLUMN scores its values one by one")
    rows = []
    for row in record.subgroups:
        gap = row.difference
        judged = (row.why, "–", "–") if gap is None else (
            gap.say(), format_number(gap.p_holm), format_number(gap.smallest_detectable)
        )  # fmt: skip
        score = "–" if row.score is None else row.score.say() + mark_doubt(row.score.trustworthy)
        size = f"{count_things(row.n_images, record.scores.unit)}, {count_things(row.n_cases, 'case')}"
        rows.append((row.column, row.value, size, score, *judged))
    header = ("column", "value", "size", "mean recall", "less all others", "p (Holm)", "smallest that shows")
    caption = "Mean recall over the classes of the subgroup; all rows are one family for Holm's correction"
    return Section("subgroups", title, [Table(header, rows, caption, text_columns=3)])


def method_section(record: ExternalRecord) -> Section:
    """Return how the numbers were obtained."""
    unlabelled = record.n_images - record.n_labelled - sum(record.unknown.values())
    text = (
        f"Model '{record.model}', images of {record.root}: {count_things(record.n_images, 'image')}, "
        f"{record.n_labelled} with a label that the model knows, {sum(record.unknown.values())} with another, "
        f"{unlabelled} without. Unit: {record.scores.unit} ({record.scores.unit_reason})."
    )
    return Section("method", "How the numbers were obtained", [Paragraph(METHOD), Paragraph(text)])


SECTIONS = (result_section, classes_section, calibration_section, refused_section, subgroups_section, method_section)
