"""Answer what checklists ask about results: scores, intervals, errors, limits."""

from __future__ import annotations

from collections.abc import Sequence

from ...records import Margin
from ...records.studies.sites import Subgroup
from ...types import SITE_COLUMN
from ..blocks import count_things, format_number, format_percent, format_range
from ..contents import RunRecord
from .answer import Answer
from .licensed import read_knobs

TITLES = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "auc": "AUC", "log_loss": "log loss"}
MOST_CLASSES = 8


def answer_task(record: RunRecord) -> Answer | None:
    """Say what kind of study the run is, for a title."""
    if record.cohort is None:
        return None
    source = "other sites of the same data" if splits_sites(record) else "the same source"
    return Answer(
        f"A network classifies tissue images into {len(record.cohort.classes)} classes "
        f"({', '.join(record.cohort.classes)}); it is developed and evaluated on {source}.",
        "result",
    )


def answer_aim(record: RunRecord) -> Answer | None:
    """Say that the run develops a model and evaluates it on cases that were held out."""
    if record.scores is None:
        return None
    held = "sites" if splits_sites(record) else "cases of the same source"
    return Answer(f"Development, with evaluation on held-out {held} (nested cross-validation).", "method")


def answer_summary(record: RunRecord) -> Answer | None:
    """Say the numbers of an abstract."""
    found = answer_internal(record)
    if found is None or record.scores is None:
        return None
    return Answer(
        f"{count_things(record.scores.n_images, 'image')}, {count_things(record.scores.n_cases, 'case')}, "
        f"{len(record.scores.classes)} classes. {found.text}",
        "result",
    )


def answer_measures(record: RunRecord) -> Answer | None:
    """Say which measures and plots there are."""
    if record.scores is None:
        return None
    names = ", ".join(TITLES.get(name, name) for name in record.scores.metrics)
    curve = "; net benefit and operating points" if record.operating is not None and record.operating.points else ""
    return Answer(
        f"{names}, each with its interval and what guessing scores; by class precision, recall, F1 and AUC; confusion "
        f"matrix; expected calibration error with a reliability diagram{curve}. Macro-F1 comes first, because each "
        "class "
        "counts alike in it.",
        "metrics",
    )


def answer_internal(record: RunRecord) -> Answer | None:
    """Say the score on held-out cases, with interval, trust, guess and optimism."""
    scores = record.scores
    if scores is None:
        return None
    score = scores.headline
    trust = "" if scores.interval.trustworthy else f" Not to be trusted: {scores.interval.reason}."
    held = "sites" if splits_sites(record) else "cases"
    optimism = "" if scores.optimism is None else f" Optimism of the inner images: {scores.optimism:+.2f}."
    return Answer(
        f"Macro-F1 {_say(score)} by {scores.unit} on held-out {held} ({format_percent(scores.interval.confidence)} "
        f"interval); guessing by shares {format_number(score.chance_prior, 2)}.{trust}{optimism}",
        "result",
    )


def answer_performance(record: RunRecord) -> Answer | None:
    """Say the score, other metrics, F1 of each class, and the score of each subgroup that the data name."""
    found = answer_internal(record)
    if found is None or record.scores is None:
        return None
    others = ", ".join(f"{TITLES.get(n, n)} {_say(m)}" for n, m in record.scores.metrics.items() if n != "macro_f1")
    classes = [
        f"{name} {format_number(row.f1, 2)} ({format_range(row.f1_low, row.f1_high, 2)}"
        f"{'' if row.f1_trustworthy else ', not to be trusted'})"
        for name, row in record.scores.per_class.items()
    ][:MOST_CLASSES]
    subgroups = answer_subgroups(record)
    more = "" if subgroups is None else f" {subgroups.text}"
    return Answer(f"{found.text} {others[0].upper()}{others[1:]}. F1 by class: {', '.join(classes)}.{more}", "classes")


def answer_accuracy(record: RunRecord) -> Answer | None:
    """Say sensitivity and specificity where there are two classes, else recall of each class."""
    if record.scores is None:
        return None
    if record.operating is not None and record.operating.points:
        point = min(record.operating.points, key=lambda p: (p.asked != "specificity", abs(p.target - 0.9)))
        return Answer(
            f"AUC {_say(record.scores.metrics['auc'])}. At thresholds for {format_percent(point.target)} specificity "
            "on "
            f"inner images: sensitivity {_say(point.sensitivity)}, specificity {_say(point.specificity)} for "
            f"{record.operating.positive}, on held-out cases. Other points are in the report.",
            "threshold",
        )
    recalls = ", ".join(f"{name} {format_number(row.recall, 2)}" for name, row in record.scores.per_class.items())
    return Answer(
        f"AUC (one against the rest) {_say(record.scores.metrics['auc'])}. Recall by class: {recalls}; intervals of "
        "F1 by "
        "class are in the report.",
        "classes",
    )


def answer_confusion(record: RunRecord) -> Answer | None:
    """Say how many were classified rightly, class by class."""
    if record.scores is None:
        return None
    rows = [
        f"{name} {row[i]:.1f} of {sum(row):.0f}".replace(".0 of", " of")
        for i, (name, row) in enumerate(zip(record.scores.classes, record.scores.confusion, strict=True))
    ][:MOST_CLASSES]
    return Answer(f"Right, mean over seeds: {', '.join(rows)}. The whole table is in the report.", "confusion")


def answer_uncertainty(record: RunRecord) -> Answer | None:
    """Say the method of the intervals and what they cover."""
    if record.scores is None:
        return None
    cover = record.scores.interval
    return Answer(f"{cover.method}; {format_percent(cover.confidence)}. It covers {cover.covers}.", "method")


def answer_robustness(record: RunRecord) -> Answer | None:
    """Say how seeds differ, and what was not varied."""
    if record.scores is None:
        return None
    seeds = [format_number(value) for value in record.scores.headline.per_seed]
    return Answer(
        f"Macro-F1 of each seed: {', '.join(seeds)}. The interval covers {record.scores.interval.covers}; other "
        "recipes are not compared in this run.",
        "metrics",
    )


def answer_explained(record: RunRecord) -> Answer | None:
    """Say whether heat maps were made, and what they are worth."""
    found = record.explanation
    if found is None:
        return Answer(
            "Not done in this run ('smalti explain' does it, and measures whether maps can be trusted).", "looked"
        )
    verdicts = ", ".join(f"{name}: {measures.verdict}" for name, measures in found.maps.items())
    return Answer(f"Heat maps, judged by taking tiles away against a random order: {verdicts}.", "looked")


def answer_external(record: RunRecord) -> Answer | None:
    """Say whether sites were left out, and that no cohort from elsewhere was scored here."""
    if record.scores is None:
        return None
    elsewhere = "No cohort of other data was scored in this run; 'smalti predict MODEL FOLDER' scores one."
    if splits_sites(record):
        return Answer(
            f"The folds of this run are whole sites: networks saw nothing of the site of an image that they score. "
            f"{elsewhere}",
            "method",
        )
    if record.sites is not None and record.sites.site_out is not None:
        return Answer(f"Each site was left out in turn. {record.sites.sentence} {elsewhere}", "sites")
    return Answer(
        "Not done in this run: every scored case comes from the same folder, and the score does not speak of another "
        "site.",
        "method",
    )


def splits_sites(record: RunRecord) -> bool:
    """Return whether the folds of a run are whole sites, so that its scores are about other sites."""
    return read_knobs(record).get("split.group") == "site"


def say_reach(record: RunRecord) -> str:
    """Return which new cases the score speaks of."""
    if splits_sites(record):
        return "new cases of other sites like these, with the same labellers"
    if record.sites is not None and record.sites.site_out is not None:
        return "the out-of-fold score: new cases of the same sites; the site-out score: other sites like these"
    return "new cases like these only: same sites, scanners and labellers"


def answer_subgroups(record: RunRecord) -> Answer | None:
    """Give the score of each subgroup that the data name."""
    if record.sites is None or not record.sites.subgroups:
        return None
    return Answer(
        f"Mean recall of each subgroup, with its interval: {_list_subgroups(record.sites.subgroups)}.", "sites"
    )


def answer_centres(record: RunRecord) -> Answer | None:
    """Say how many sites the data name."""
    if record.sites is None or not record.sites.n_sites:
        return None
    return Answer(f"Labelled images come from {count_things(record.sites.n_sites, 'site')}.", "sites")


def answer_site_handling(record: RunRecord) -> Answer | None:
    """Say whether whole sites were held out."""
    sites = record.sites
    if sites is None or not sites.n_sites:
        return None
    if splits_sites(record):
        return Answer("The folds are whole sites: no network learned from a site that it scores.", "sites")
    if sites.site_out is not None:
        return Answer(
            "Networks are the same for all sites. The recipe was trained once more for each site that was left out; "
            "all choices were made on the other sites.",
            "sites",
        )
    return Answer(f"Networks are the same for all sites. No site was left out: {sites.site_out_why}.", "sites")


def answer_site_differences(record: RunRecord) -> Answer | None:
    """Say what the site means for the score, and the score of each site."""
    sites = record.sites
    if sites is None or not sites.n_sites:
        return None
    words, rows = [sites.sentence], [row for row in sites.subgroups if row.column == SITE_COLUMN]
    if found := sites.site_out:
        words.append(
            f"Macro-F1 out of fold {_say(found.out_of_fold)}, on sites that were left out {_say(found.by_site)} with "
            "its interval by site."
        )
    words += [f"Mean recall of each site: {_list_subgroups(rows)}."] if rows else []
    return Answer(" ".join(words), "sites")


def answer_failures(record: RunRecord) -> Answer | None:
    """Say where errors are shown."""
    found = answer_confusion(record)
    if found is None or record.out_of_fold is None:
        return None
    return Answer(f"{found.text} The images with the highest loss are shown with their scores.", "losses")


def answer_limits(record: RunRecord) -> Answer | None:
    """Say what limits the score, as far as the run can tell."""
    scores = record.scores
    if scores is None:
        return None
    words = [say_reach(record)]
    words += [] if scores.interval.trustworthy else [scores.interval.reason]
    words += [scores.as_given.changed] if scores.as_given is not None else []
    if record.suspects is not None and record.suspects.findings:
        images = {image for finding in record.suspects.findings for image in finding.images}
        words.append(f"networks contradict the labels of {count_things(len(images), 'image')}")
    return Answer(f"As far as the run can tell: {'; '.join(words)}.", "method")


def answer_poor_input(record: RunRecord) -> Answer | None:
    """Say what was done about poor images here."""
    if record.audit is None or record.cohort is None:
        return None
    return Answer(
        "Here checks proposed what to leave out, and a rule or a person decided: "
        f"{count_things(len(record.cohort.left_out), 'image')} left out, each with its reason. What was kept was "
        "learned "
        "from, poor or not.",
        "audit",
    )


def answer_indeterminate(record: RunRecord) -> Answer | None:
    """Say that each held-out image got a class."""
    if record.scores is None:
        return None
    return Answer("None were left out: each held-out image got the class with the largest score.", "confusion")


def answer_blind_test(record: RunRecord) -> Answer | None:
    """Say that scoring networks saw no held-out label."""
    if record.folds is None:
        return None
    return Answer(
        "No person: networks scored images whose labels, and those of their case, they had never seen.", "method"
    )


def answer_blind_reference(record: RunRecord) -> Answer | None:
    """Say whether decisions followed predictions."""
    if record.scores is None:
        return None
    if record.scores.as_given is not None:
        return Answer(f"Changed with predictions in view: {record.scores.as_given.changed}.", "result")
    return Answer(
        "No label was changed with predictions of this project in view, as far as decisions on record tell.", "audit"
    )


def _list_subgroups(rows: Sequence[Subgroup]) -> str:
    return "; ".join(
        f"{row.column} {row.value} ({count_things(row.n_cases, 'case')}): "
        f"{'too few cases' if row.score is None else _say(row.score)}"
        for row in rows
    )


def _say(score: Margin) -> str:
    """Return a score with its interval, marked where that is not to be trusted."""
    doubt = "" if score.trustworthy else ", not to be trusted"
    return f"{format_number(score.value, 2)} ({format_range(score.low, score.high, 2)}{doubt})"
