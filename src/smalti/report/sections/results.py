"""Sections about the score: headline, metrics, classes, confusion, highest losses, submission, method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...evaluate import OTHER, Unit, highest_losses, take_unit
from ...metrics import LOWER_IS_BETTER, METRICS
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
from ..figures.gallery import make_cards
from ..figures.plots import draw_headline
from ..record import RunRecord

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


def write_headline(record: RunRecord) -> Section:
    """Score, interval, numbers and chance level in plain words."""
    if record.scores is None:
        return not_applicable("result", "Result", NO_SCORES)
    scores, metric = record.scores, record.scores["metrics"]["macro_f1"]
    blocks: list[Block] = [Paragraph(_say_score(scores), "lead"), *_say_other(scores)]
    if None not in (metric["low"], metric["high"]):
        words = (
            f"Macro-F1 {metric['value']:.2f}, interval {format_range(metric['low'], metric['high'], 2)}; "
            f"a guess {format_range(metric['chance_prior_low'], metric['chance_prior_high'], 2)}"
        )
        caption = (
            "Blue: the score and its interval. Grey band: what guessing by the shares of the classes scores (line: its "
            "mean). Dashed: always the most frequent class."
        )
        drawing = draw_headline(metric, name="macro-F1", words=words)
        blocks.append(Panels([(drawing.to_svg(), words)], caption, width="lone"))
    interval, given = scores["interval"], scores.get("as_given")
    if not interval["trustworthy"]:
        why = (
            "Whoever changes labels or images with predictions in view fits the test to the networks. The score as "
            "given is nearer to the truth, but its networks have learned from what was chosen so; only cases that "
            "nobody has looked at are free of it."
            if given
            else "Read the score as a first impression."
        )
        what = "score" if given else "interval"
        blocks.append(Paragraph(f"The {what} cannot be trusted: {interval['reason']}. {why}", "warning"))
    blocks.append(Paragraph(_say_optimism(scores)))
    return Section("result", "Result", blocks)


def _say_score(scores: dict[str, Any]) -> str:
    metric = scores["metrics"]["macro_f1"]
    percent = format_percent(scores["interval"]["confidence"])
    numbers = ", ".join(
        (
            f"{count_things(scores['n_images'], 'image')} of {count_things(scores['n_cases'], 'case')}",
            count_things(len(scores["classes"]), "class", "classes"),
            count_things(scores["n_folds"], "fold"),
            count_things(scores["n_seeds"], "seed"),
        )
    )
    verdict = "above what guessing reaches" if _beats_chance(metric) else "not told apart from guessing"
    if given := scores.get("as_given"):
        verdict = f"not to be trusted: {given['words']}"
    elif not scores["interval"]["trustworthy"]:
        verdict += ", as far as can be told here"
    two = any(f"by_{unit}" in scores for unit in ("image", "case"))
    return (
        f"On cases it had never seen, the classifier scores a macro-F1 {f'by {count_by(scores)} ' if two else ''}of "
        f"{metric['value']:.2f} ({percent} interval "
        f"{format_range(metric['low'], metric['high'], 2)}; {numbers}). Always saying the most frequent class scores "
        f"{metric['chance_majority']:.2f}; guessing by the shares of the classes scores {metric['chance_prior']:.2f} "
        f"({percent} of guesses: {format_range(metric['chance_prior_low'], metric['chance_prior_high'], 2)}). "
        f"The score is {verdict}."
    )


def count_by(scores: Mapping[str, Any]) -> Unit:
    """What the first scores of a run count."""
    return "case" if scores.get("unit") == "case" else "image"


def _say_other(scores: dict[str, Any]) -> list[Block]:
    """The score of the other unit, where there is one."""
    unit = OTHER[count_by(scores)]
    other = take_unit(scores, unit)
    if other is None:
        return []
    metric, interval = other["metrics"]["macro_f1"], other["interval"]
    doubt = "" if interval["trustworthy"] else f"; not to be trusted: {interval['reason']}"
    how = "each case answered by the mean of its images" if unit == "case" else "each image by itself"
    text = (
        f"By {unit}, {how}, it scores a macro-F1 of {metric['value']:.2f} "
        f"({format_percent(interval['confidence'])} interval {format_range(metric['low'], metric['high'], 2)}{doubt}); "
        f"guessing by the shares of the classes {metric['chance_prior']:.2f}."
    )
    return [Paragraph(text)]


def _beats_chance(metric: dict[str, Any]) -> bool:
    """Rarely reached by a guess (above its range), and not by this sample alone (interval above both guesses)."""
    if metric["low"] is None:
        return False
    guess = max(metric["chance_prior"], metric["chance_majority"])
    return bool(metric["value"] > metric["chance_prior_high"] and metric["low"] > guess)


def _say_optimism(scores: dict[str, Any]) -> str:
    if scores["optimism"] is None:
        return "Optimism: not applicable: there are no inner predictions (predictions/inner.csv)."
    inner, optimism = scores["inner"]["macro_f1"], scores["optimism"]
    meaning = (
        "a report of that number would have promised too much"
        if optimism > 0
        else "here that number would not have flattered, but what chooses never scores"
    )
    by = ", by case too" if scores.get("unit") == "case" else ""
    return (
        f"On the inner images that chose the epochs the networks score {inner:.2f}{by}; the difference from the score "
        f"above, the optimism, is {optimism:+.2f}: {meaning}."
    )


def write_metrics(record: RunRecord) -> Section:
    """Every metric with interval, seeds and chance levels."""
    title = "All metrics" + (", by case" if count_by(record.scores or {}) == "case" else "")
    if record.scores is None:
        return not_applicable("metrics", title, NO_SCORES)
    percent = format_percent(record.scores["interval"]["confidence"])
    rows = []
    for name, metric in record.scores["metrics"].items():
        seeds = [value for value in metric["per_seed"] if value is not None]
        rows.append(
            (
                TITLES.get(name, name) + (" (lower is better)" if name in LOWER_IS_BETTER else ""),
                format_number(metric["value"]),
                format_range(metric["low"], metric["high"]) + mark_doubt(metric.get("trustworthy")),
                format_range(min(seeds), max(seeds)) if len(seeds) > 1 else "one seed",
                format_number(metric["chance_majority"]),
                f"{format_number(metric['chance_prior'])} "
                f"({format_range(metric['chance_prior_low'], metric['chance_prior_high'])})",
            )
        )
    header = ("metric", "score", f"{percent} interval", "range over seeds", "most frequent class", "guess by shares")
    notes = "; ".join(f"{TITLES.get(e.name, e.name)}: {e.summary}" for e in METRICS)
    reasons = dict.fromkeys(
        metric["reason"] for metric in record.scores["metrics"].values() if metric.get("trustworthy") is False
    )
    doubts = [Paragraph(f"?: this interval cannot be trusted: {reason}.", "note") for reason in reasons]
    return Section("metrics", title, [Table(header, rows), *doubts, Paragraph(f"What they are: {notes}.", "note")])


def mark_doubt(trustworthy: bool | None) -> str:
    """The mark of an interval that is not to be trusted."""
    return " ?" if trustworthy is False else ""


def write_classes(record: RunRecord) -> Section:
    """Precision, recall, F1 and AUC of each class."""
    if record.scores is None:
        return not_applicable("classes", "Class by class", NO_SCORES)
    header = ("class", f"{count_by(record.scores)}s", "precision", "recall", "F1", "F1 interval", "AUC")
    rows = [
        (
            name,
            f"{values['support']:.0f}",
            *(format_number(values[key], 2) for key in ("precision", "recall", "f1")),
            format_range(values["f1_low"], values["f1_high"], 2) + mark_doubt(values.get("f1_trustworthy")),
            format_number(values["auc"], 2),
        )
        for name, values in record.scores["per_class"].items()
    ]
    doubt = any(values.get("f1_trustworthy") is False for values in record.scores["per_class"].values())
    note = [Paragraph("?: too few cases, or too few with an error, to trust this interval.", "note")] if doubt else []
    return Section("classes", "Class by class", [Table(header, rows), *note])


def write_confusion(record: RunRecord) -> Section:
    """Which class is taken for which."""
    if record.scores is None:
        return not_applicable("confusion", "Confusion matrix", NO_SCORES)
    caption = "Images, mean over seeds; below, the share of the row (of the images with that label)."
    scores = take_unit(record.scores, "image") or record.scores  # that of cases stands in its own section
    return Section("confusion", "Confusion matrix", [make_matrix(scores, caption)])


def make_matrix(scores: Mapping[str, Any], caption: str) -> Matrix:
    """The confusion matrix of the scores of one unit."""
    rows = []
    for counts in scores["confusion"]:
        total = sum(counts)
        rows.append([Cell(f"{count:.1f}".removesuffix(".0"), count / total if total else 0.0) for count in counts])
    return Matrix(scores["classes"], rows, caption)


def write_gallery(record: RunRecord) -> Section:
    """The images that the networks got most wrong."""
    anchor, title = "losses", "The images with the highest loss"
    if record.out_of_fold is None or record.scores is None:
        return not_applicable(anchor, title, "there is no predictions/out_of_fold.csv with scores.json beside it")
    classes = record.scores["classes"]
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


def write_submission(record: RunRecord) -> Section:
    """How often each class is said, or found most probable, in the submission, beside the labels."""
    if record.submission is None:
        why = (record.cohort or {}).get("submission", {}).get("none", "no unlabelled images")
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
    return Section("submission", "Submission", [Paragraph(text), Table(header, rows)])


def write_method(record: RunRecord) -> Section:
    """How the number was obtained."""
    blocks: list[Block] = [Paragraph(METHOD_TEXT)]
    if record.scores is not None:
        interval = record.scores["interval"]
        blocks.append(
            Paragraph(
                f"Interval: {interval['method']}; {format_percent(interval['confidence'])}. It covers "
                f"{interval.get('covers')}. {'Enough cases' if interval['trustworthy'] else 'Not to be trusted'}: "
                f"{interval['reason']}."
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
