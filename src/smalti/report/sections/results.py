"""Return the sections about the score: headline, metrics, classes, confusion, highest losses, submission, method."""

from __future__ import annotations

from ...evaluate import foresee_score, highest_losses
from ...metrics import LOWER_IS_BETTER, METRICS
from ...records import HEADLINE, OTHER, Scores, Unit, UnitScores
from ..blocks import (
    Block,
    Cell,
    Gallery,
    Matrix,
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
from ..figures.gallery import make_cards
from ..figures.plots import draw_headline

NO_SCORES = "there is no scores.json; the stage 'evaluate' writes it ('smalti run')"
TITLES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "auc": "AUC (one against the rest)",
    "log_loss": "log loss",
}
METHOD_TEXT = (
    "Each image was scored by networks that had seen neither it nor any other image of its case: the cases were "
    "divided into folds with similar shares of the classes, each fold was held out once, and the networks learned on "
    "the others. Some cases of the learning part were set aside (inner part); they chose the epoch and never score. "
    "The held-out predictions of all folds are pooled into one table per seed, the score is computed on that table, "
    "and the scores of the seeds are averaged. It is not a mean of scores per fold, which small folds bias (Forman & "
    "Scholz 2010)."
)


def headline_section(record: RunRecord) -> Section:
    """Return score, interval, numbers and chance level in plain words."""
    if record.scores is None:
        return not_applicable("result", "Result", NO_SCORES)
    scores, score = record.scores, record.scores.headline
    blocks: list[Block] = [Paragraph(_say_score(scores), "lead")]
    if (other := scores.take(OTHER[scores.unit])) is not None:
        blocks.append(Paragraph(_say_other(other, OTHER[scores.unit])))
    if None not in (score.low, score.high):
        words = (
            f"Macro-F1 {format_number(score.value, 2)}, interval {format_range(score.low, score.high, 2)}; "
            f"a guess {format_range(score.chance_prior_low, score.chance_prior_high, 2)}"
        )
        caption = (
            "Blue: the score and its interval. Grey band: what guessing by the shares of the classes scores (line: its "
            "mean). Dashed: always the most frequent class."
        )
        drawing = draw_headline(score, name="macro-F1", words=words)
        blocks.append(Panels([(drawing.to_svg(), words)], caption, width="lone"))
    if not scores.interval.trustworthy:
        why = (
            "Whoever changes labels or images with predictions in view fits the test to the networks. The score as "
            "given is nearer to the truth, but its networks have learned from what was chosen so; only cases that "
            "nobody has looked at are free of it."
            if scores.as_given
            else "Read the score as a first impression."
        )
        what = "score" if scores.as_given else "interval"
        blocks.append(Paragraph(f"The {what} cannot be trusted: {scores.interval.reason}. {why}", "warning"))
    if scores.optimism is None or scores.inner is None:
        text = "Optimism: not applicable: there are no inner predictions (predictions/inner.csv)."
    else:
        meaning = (
            "a report of that number would have promised too much"
            if scores.optimism > 0
            else "here that number would not have flattered, but what chooses never scores"
        )
        by = ", by case too" if scores.unit == "case" else ""
        text = (
            "On the inner images, which made every choice, the networks score "
            f"{format_number(scores.inner[HEADLINE], 2)}{by}; the difference from the score above, the optimism, "
            f"is {scores.optimism:+.2f}: {meaning}."
        )
    return Section("result", "Result", [*blocks, Paragraph(text)])


def _say_score(scores: Scores) -> str:
    score, percent = scores.headline, format_percent(scores.interval.confidence)
    numbers = ", ".join(
        (
            f"{count_things(scores.n_images, 'image')} of {count_things(scores.n_cases, 'case')}",
            count_things(len(scores.classes), "class", "classes"),
            count_things(scores.n_folds, "fold"),
            count_things(scores.n_seeds, "seed"),
        )
    )
    # A guess rarely reaches the score, and in other samples too it would be above both guesses.
    better = (
        score.value is not None
        and score.low is not None
        and score.chance_prior_high is not None
        and score.value > score.chance_prior_high
        and all(guess is not None and score.low > guess for guess in (score.chance_prior, score.chance_majority))
    )
    verdict = "above what guessing reaches" if better else "not told apart from guessing"
    if scores.as_given:
        verdict = f"not to be trusted: {scores.as_given.words}"
    elif not scores.interval.trustworthy:
        verdict += ", as far as can be told here"
    by = "" if scores.take(OTHER[scores.unit]) is None else f"by {scores.unit} "
    return (
        f"On cases it had never seen, the classifier scores a macro-F1 {by}of {format_number(score.value, 2)} "
        f"({percent} interval {format_range(score.low, score.high, 2)}; {numbers}). Always saying the most frequent "
        f"class scores {format_number(score.chance_majority, 2)}; guessing by the shares of the classes scores "
        f"{format_number(score.chance_prior, 2)} ({percent} of guesses: "
        f"{format_range(score.chance_prior_low, score.chance_prior_high, 2)}). The score is {verdict}."
    )


def _say_other(other: UnitScores, unit: Unit) -> str:
    score, cover = other.headline, other.interval
    doubt = "" if cover.trustworthy else f"; not to be trusted: {cover.reason}"
    how = "each case answered by the mean of its images" if unit == "case" else "each image by itself"
    return (
        f"By {unit}, {how}, it scores a macro-F1 of {format_number(score.value, 2)} "
        f"({format_percent(cover.confidence)} interval {format_range(score.low, score.high, 2)}{doubt}); "
        f"guessing by the shares of the classes {format_number(score.chance_prior, 2)}."
    )


def metrics_section(record: RunRecord) -> Section:
    """Return every metric with interval, seeds and chance levels."""
    title = "All metrics" + (", by case" if record.scores is not None and record.scores.unit == "case" else "")
    if record.scores is None:
        return not_applicable("metrics", title, NO_SCORES)
    percent = format_percent(record.scores.interval.confidence)
    rows = []
    for name, score in record.scores.metrics.items():
        seeds = [value for value in score.per_seed if value is not None]
        rows.append(
            (
                TITLES.get(name, name) + (" (lower is better)" if name in LOWER_IS_BETTER else ""),
                format_number(score.value),
                format_range(score.low, score.high) + mark_doubt(score.trustworthy),
                format_range(min(seeds), max(seeds)) if len(seeds) > 1 else "one seed",
                format_number(score.chance_majority),
                f"{format_number(score.chance_prior)} "
                f"({format_range(score.chance_prior_low, score.chance_prior_high)})",
            )
        )
    header = ("metric", "score", f"{percent} interval", "range over seeds", "most frequent class", "guess by shares")
    notes = "; ".join(f"{TITLES.get(e.name, e.name)}: {e.summary}" for e in METRICS)
    reasons = dict.fromkeys(score.reason for score in record.scores.metrics.values() if not score.trustworthy)
    doubts = [Paragraph(f"?: this interval cannot be trusted: {reason}.", "note") for reason in reasons]
    return Section("metrics", title, [Table(header, rows), *doubts, Paragraph(f"What they are: {notes}.", "note")])


def mark_doubt(trustworthy: bool | None) -> str:
    """Return the mark of an interval that cannot be trusted."""
    return " ?" if trustworthy is False else ""


def classes_section(record: RunRecord) -> Section:
    """Return precision, recall, F1 and AUC of each class."""
    if record.scores is None:
        return not_applicable("classes", "Class by class", NO_SCORES)
    header = ("class", f"{record.scores.unit}s", "precision", "recall", "F1", "F1 interval", "AUC")
    rows = [
        (
            name,
            format_number(values.support, 0),
            *(format_number(value, 2) for value in (values.precision, values.recall, values.f1)),
            format_range(values.f1_low, values.f1_high, 2) + mark_doubt(values.f1_trustworthy),
            format_number(values.auc, 2),
        )
        for name, values in record.scores.per_class.items()
    ]
    doubt = any(not values.f1_trustworthy for values in record.scores.per_class.values())
    note = [Paragraph("?: too few cases, or too few with an error, to trust this interval.", "note")] if doubt else []
    return Section("classes", "Class by class", [Table(header, rows), *note])


def confusion_section(record: RunRecord) -> Section:
    """Return which class is mistaken for which."""
    if record.scores is None:
        return not_applicable("confusion", "Confusion matrix", NO_SCORES)
    caption = "Images, mean over seeds; below, the share of the row (of the images with that label)."
    scores = record.scores.take("image") or record.scores  # that of cases stands in its own section
    return Section("confusion", "Confusion matrix", [make_matrix(scores, caption)])


def make_matrix(scores: UnitScores, caption: str) -> Matrix:
    """Return the confusion matrix of the scores of one unit."""
    rows = []
    for counts in scores.confusion:
        total = sum(counts)
        rows.append([Cell(f"{count:.1f}".removesuffix(".0"), count / total if total else 0.0) for count in counts])
    return Matrix(scores.classes, rows, caption)


def gallery_section(record: RunRecord) -> Section:
    """Return the images that the networks got most wrong."""
    anchor, title = "losses", "The images with the highest loss"
    if record.out_of_fold is None or record.scores is None:
        return not_applicable(anchor, title, "there is no predictions/out_of_fold.csv with scores.json beside it")
    classes = record.scores.classes
    cards, missing = make_cards(highest_losses(record.out_of_fold, classes=classes), classes=classes, root=record.root)
    text = (
        f"The {len(cards)} images whose label the networks found least likely, worst first: wrong labels, odd images, "
        "or errors. Scores and loss (-log of the score of the label) are means over the seeds, each from networks that "
        "had not seen the case. Orange: the label."
    )
    blocks: list[Block] = [Paragraph(text)]
    if missing:
        blocks.append(Paragraph(missing, "warning"))
    return Section(anchor, title, [*blocks, Gallery(cards)])


def submission_section(record: RunRecord) -> Section:
    """Return how often each class is predicted in the submission, beside the labels."""
    if record.submission is None:
        why = (record.cohort.submission.none if record.cohort else "") or "no unlabelled images"
        return not_applicable("submission", "Submission", f"the run has no submission.csv ({why})")
    predicted = record.submission.value_counts()
    labels = None if record.samples is None else record.samples["label"]
    known = labels[labels != ""].value_counts() if labels is not None else predicted * 0
    rows = [
        (
            str(name),
            f"{predicted.get(name, 0):,}",
            format_percent(round(predicted.get(name, 0) / len(record.submission), 2)),
            format_percent(round(known.get(name, 0) / known.sum(), 2)) if known.sum() else "–",
        )
        for name in sorted(set(predicted.index) | set(known.index))
    ]
    text = (
        f"submission.csv has {count_things(len(record.submission), 'row')}. A class that is far rarer or more frequent "
        "than among the labels deserves a look."
    )
    header = ("class", "predicted rows", "share", "share of the labels")
    blocks: list[Block] = [Paragraph(text), Table(header, rows)]
    others = None if record.samples is None else record.samples[record.samples["part"] == "unlabelled"]
    scores, bounds = record.scores, list[float]()
    if scores is not None and scores.headline.trustworthy:
        found = scores.headline
        bounds = [number for number in (found.value, found.low, found.high) if number is not None]
    if scores is not None and len(bounds) == 3 and others is not None and len(others):
        new_cases = int(others["case"].nunique())
        expected = foresee_score(*bounds, cases=scores.n_cases, new_cases=new_cases)
        blocks.append(
            Paragraph(
                f"Expect a macro-F1 of {format_range(*expected)} on the {count_things(len(others), 'image')} to "
                f"predict ({count_things(new_cases, 'case')}), if they are like the labelled ones. This range is wider "
                "than the interval of the score, because these cases have luck of their own."
            )
        )
    return Section("submission", "Submission", blocks)


def method_section(record: RunRecord) -> Section:
    """Return how the number was obtained."""
    blocks: list[Block] = [Paragraph(METHOD_TEXT)]
    if record.scores is not None:
        cover = record.scores.interval
        blocks.append(
            Paragraph(
                f"Interval: {cover.method}; {format_percent(cover.confidence)}. It covers "
                f"{cover.covers}. {'Enough cases' if cover.trustworthy else 'Not to be trusted'}: "
                f"{cover.reason}."
            )
        )
        blocks.append(
            Paragraph(
                "Chance: 'most frequent class' gives every image that class, with the shares of the classes as scores; "
                "'guess by shares' draws a class for every case with those shares (AUC: random scores; log loss: the "
                "shares themselves)."
            )
        )
    return Section("method", "How the number was obtained", blocks)
