"""Answer what checklists ask about the data: source, labels, parts, numbers."""

from __future__ import annotations

from ...licences import find_data
from ..blocks import count_things, format_percent
from ..contents import RunRecord
from .answer import Answer
from .licensed import read_knobs, say_members

MOST_CLASSES = 8


def answer_source(record: RunRecord) -> Answer | None:
    """Say what was read, and that nobody told the run where it comes from."""
    cohort = record.cohort
    if cohort is None:
        return None
    licence = find_data(read_knobs(record).get("data.licence"))
    text = (
        f"{count_things(cohort.n_labelled, 'labelled image')} of {count_things(cohort.n_cases, 'case')} and "
        f"{count_things(cohort.n_unlabelled, 'unlabelled image')} were read from one folder, as it was. Licence of the "
        f"images: {licence.licence}."
    )
    return Answer(text, "data")


def answer_data_licence(record: RunRecord) -> Answer:
    """Say what the recipe says of the licence of the images."""
    row = find_data(read_knobs(record).get("data.licence"))
    return Answer(
        f"Licence of the images: {row.licence}; passing on: {row.passing_on}; commercial use: {row.commercial}.",
        "licences",
    )


def answer_flow(record: RunRecord) -> Answer | None:
    """Say how many images came in, were left out and why, and remained."""
    cohort = record.cohort
    if cohort is None:
        return None
    left = len(cohort.left_out)
    by = {who: sum(row.who == who for row in cohort.left_out) for who in dict.fromkeys(r.who for r in cohort.left_out)}
    who = f" ({', '.join(f'{number} by {name}' for name, number in by.items())}; each with its reason)" if left else ""
    sealed = f"; {count_things(cohort.n_sealed, 'image')} sealed" if cohort.n_sealed else ""
    text = (
        f"In the folder: {count_things(cohort.n_labelled + cohort.n_sealed + left, 'image')} to learn from or left "
        "out. "
        f"Left out: {left:,}{who}. Scored: {count_things(cohort.n_labelled, 'image')} of "
        f"{count_things(cohort.n_cases, 'case')}{sealed}. Without a label: {cohort.n_unlabelled:,}."
    )
    return Answer(text, "data")


def answer_balance(record: RunRecord) -> Answer | None:
    """Say how the classes are distributed."""
    if record.samples is None:
        return None
    labelled = record.samples[record.samples["label"] != ""]
    rows = [
        f"{name} {len(images):,} ({images['case'].nunique():,} cases)" for name, images in labelled.groupby("label")
    ][:MOST_CLASSES]
    return Answer(f"Images of each class: {', '.join(rows)}. These shares are those of this folder.", "data")


def answer_characteristics(record: RunRecord) -> Answer | None:
    """Say what images are like as far as the run knows: classes and folds, nothing about persons."""
    balance = answer_balance(record)
    if balance is None:
        return None
    return Answer(f"{balance.text} Those of each part are in the report; nothing is known about persons.", "folds")


def answer_outcome(record: RunRecord) -> Answer | None:
    """Say what is predicted."""
    if record.cohort is None:
        return None
    names = ", ".join(record.cohort.classes)
    given = {True: "to cases", False: "to images", None: "in the data folder"}[record.cohort.label_by_case]
    return Answer(f"{len(record.cohort.classes)} classes: {names}. Labels were given {given}.", "data")


def answer_label_changes(record: RunRecord) -> Answer | None:
    """Say which labels were changed by decisions."""
    if record.cohort is None:
        return None
    changed = sum(decision.action == "relabel" for decision in record.decisions)
    if not changed:
        return Answer("Labels are those of the data folder; the run changed none.", "audit")
    return Answer(f"{count_things(changed, 'label')} were changed by decisions, each on record.", "audit")


def answer_label_doubts(record: RunRecord) -> Answer | None:
    """Say how many labels networks contradict."""
    if record.suspects is None:
        return None
    number = len({image for finding in record.suspects.findings for image in finding.images})
    return Answer(
        f"Agreement of labellers is not known. After training {count_things(number, 'image')} stood out whose label "
        "networks contradict that had not seen its case.",
        "suspects",
    )


def answer_preparation(record: RunRecord) -> Answer | None:
    """Say which checks ran before training, and how many decisions followed."""
    if record.audit is None:
        return None
    ran = [code for code, outcome in record.audit.outcomes.items() if outcome.found is not None]
    found = sum(bool(outcome.found) for outcome in record.audit.outcomes.values())
    actions = len([decision for decision in record.decisions if decision.action != "reset"])
    return Answer(
        f"{count_things(len(ran), 'check')} ran before training ({', '.join(ran)}); {found} found something. "
        f"{count_things(actions, 'decision')} followed. Files were not changed.",
        "audit",
    )


def answer_missing(record: RunRecord) -> Answer | None:
    """Say what became of images without label or with problems; nothing is imputed."""
    if record.cohort is None:
        return None
    return Answer(
        f"Nothing was imputed. Images without a label ({record.cohort.n_unlabelled:,}) were not learned from; "
        f"{len(record.cohort.left_out):,} were left out, each with its reason.",
        "data",
    )


def answer_masks(record: RunRecord) -> Answer | None:
    """Say how many images have a mask."""
    if record.samples is None:
        return None
    masked = int((record.samples["mask"] != "").sum())
    return Answer(f"{masked:,} of {count_things(len(record.samples), 'image')} came with a mask.", "data")


def answer_size(record: RunRecord) -> Answer | None:
    """Say how many cases there are and what they can tell."""
    if record.scores is None:
        return None
    score = record.scores.headline
    width = (
        ""
        if score.low is None or score.high is None
        else f" The interval of macro-F1 is {score.high - score.low:.2f} wide."
    )
    reason = record.scores.interval.reason
    return Answer(
        f"{count_things(record.scores.n_cases, 'case')} with {count_things(record.scores.n_images, 'image')}. The "
        "run made "
        f"no calculation beforehand.{width} {reason[:1].upper()}{reason[1:]}.",
        "result",
    )


def answer_partition(record: RunRecord) -> Answer | None:
    """Say how cases were divided."""
    knobs = read_knobs(record)
    if record.folds is None:
        return None
    outer = record.folds[record.folds["role"] == "outer"]
    folds, seeds = outer["fold"].nunique(), outer["seed"].nunique()
    share = knobs.get("split.inner_frac")
    inner = (
        f"; {format_percent(share)} of the learning cases chose and never scored" if isinstance(share, float) else ""
    )
    return Answer(
        f"Nested cross-validation by case: {count_things(folds, 'fold')}, {count_things(seeds, 'seed')}, classes in "
        f"similar shares; each case was held out once per seed{inner}.",
        "folds",
    )


def answer_disjoint(record: RunRecord) -> Answer | None:
    """Say whether a case lies in two parts of a fold, as checked now."""
    if record.folds is None:
        return None
    held = record.folds.groupby(["seed", "fold", "case"])["role"].nunique()
    leaking = held[held > 1].index.get_level_values("case").nunique()
    if leaking:
        return Answer(
            f"{count_things(leaking, 'case')} lie in two parts of a fold: the score cannot be trusted.", "folds"
        )
    return Answer(
        "By case: in every fold and seed each case is in one part only, as checked for this page. Images that the "
        "audit "
        "found to show the same tissue count as one case. Without named cases each image is its own.",
        "folds",
    )


def answer_parts(record: RunRecord) -> Answer | None:
    """Say how many images each part of a fold has."""
    if record.folds is None:
        return None
    sizes = record.folds.groupby(["seed", "fold", "role"])["image"].nunique().unstack(fill_value=0)
    named = {"train": "learning", "inner": "choosing", "outer": "held out"}
    parts = [
        f"{words} {low:,}" + (f" to {high:,}" if high != low else "")
        for role, words in named.items()
        if role in sizes
        for low, high in [(int(sizes[role].min()), int(sizes[role].max()))]
    ]
    balance = answer_balance(record)
    return Answer(f"Images per fold: {', '.join(parts)}. {balance.text if balance else ''}".strip(), "folds")


def answer_same_data(record: RunRecord) -> Answer | None:
    """Say that learning and scoring took place on the same folder."""
    if record.cohort is None:
        return None
    if read_knobs(record).get("split.group") == "site":
        return Answer("Development and evaluation used the same folder, divided by whole sites.", "folds")
    return Answer(
        "Development and evaluation used the same folder, divided by case; they differ by chance only.", "folds"
    )


def answer_selection(record: RunRecord) -> Answer | None:
    """Say which parts of images were looked at."""
    knobs = read_knobs(record)
    if "tile.source" not in knobs:
        return None
    what = {
        "tiles": f"tiles at full resolution, as a rule at least {format_percent(float(knobs['tile.min_coverage']))} "
        f"{'under the mask (tissue, without a mask)' if knobs['tile.within'] == 'mask' else 'tissue'}, at most "
        f"{knobs['tile.max_tiles'] or 'all'} an image",
        "mask_box": "the bounding box of the mask, shrunk",
        "whole": "the whole image, shrunk",
    }[str(knobs["tile.source"])]
    text = f"Of each image: {what}. Images were selected by the decisions on record only.{say_members(record)}"
    return Answer(text, "recipe")
