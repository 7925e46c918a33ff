"""Return the sections about cases and sites: scores by case, the worst cases; scores on sites that were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...evaluate import highest_losses
from ...metrics import predict_classes
from ...records.studies.sites import Robust, SiteOut, Subgroup
from ...types import score_columns
from ..blocks import (
    Block,
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
from .results import NO_SCORES, TITLES, make_matrix, mark_doubt

MOST_CASES = 15


def cases_section(record: RunRecord) -> Section:
    """Return every metric by case and by image, the confusion by case, and the cases with the highest loss."""
    anchor, title, scores = "cases", "Case by case", record.scores
    if scores is None:
        return not_applicable(anchor, title, NO_SCORES)
    by_case, by_image = scores.take("case"), scores.take("image")
    if by_case is None or by_image is None:
        return not_applicable(anchor, title, f"there is no answer by case: {scores.unit_reason}")
    text = (
        f"{count_things(by_case.n_units, 'case')} of {count_things(by_case.n_images, 'image')}. The answer for a "
        "case is the mean of its images' probabilities, its label the one that all of them share. The page speaks of "
        f"{'cases' if scores.unit == 'case' else 'images'} first: {scores.unit_reason}."
    )
    if by_case.n_units != by_case.n_cases:
        text += (
            f" The audit found cases that share pictures: they were held out together, and are "
            f"{by_case.n_cases} in the intervals."
        )
    caption = "Cases, mean over seeds; below, the share of the row (of the cases with that label)."
    rows = []
    for name in by_case.metrics:
        cells = [TITLES.get(name, name)]
        for score in (by_case.metrics[name], by_image.metrics[name]):
            interval = format_range(score.low, score.high) + mark_doubt(score.trustworthy)
            cells += [format_number(score.value), interval, format_number(score.chance_prior)]
        rows.append(cells)
    table = Table(("metric", "by case", "interval", "guess", "by image", "interval", "guess"), rows)
    blocks: list[Block] = [Paragraph(text), table, make_matrix(by_case, caption)]
    if record.by_case is not None and record.out_of_fold is not None:
        blocks.append(_list_worst(record.by_case, record.out_of_fold, record.cases or {}, scores.classes))
    return Section(anchor, title, blocks)


def _list_worst(
    by_case: pd.DataFrame, images: pd.DataFrame, cases: Mapping[str, str], classes: tuple[str, ...]
) -> Table:
    """Return the cases with the highest loss, and how many of their images are right."""
    said = np.array(classes, dtype=object)[predict_classes(images[score_columns(classes)].to_numpy(dtype=np.float64))]
    named = [cases.get(image, image) for image in images["image"]]
    total, right = (
        Counter(named),
        Counter(c for c, ok in zip(named, said == images["label"].to_numpy(), strict=True) if ok),
    )
    seeds = images["seed"].nunique()
    rows = [
        (
            str(row.image), str(row.label), str(row.predicted), f"{row.loss:.2f}",
            f"{right[row.image] / seeds:.1f}".removesuffix(".0") + f" of {total[row.image] // seeds}", str(row.folds),
        )
        for row in highest_losses(by_case, classes=classes, count=MOST_CASES).itertuples()
    ]  # fmt: skip
    caption = (
        f"The {len(rows)} cases with the highest loss (-log of the mean probability of their label), worst first: "
        "wrong labels, odd cases, or errors"
    )
    header = ("case", "label", "predicted", "loss", "images that are right", "fold of each seed")
    return Table(header, rows, caption, text_columns=3)


def sites_section(record: RunRecord) -> Section:
    """Return site-out beside out-of-fold, what the site has to do with them, and the score of each subgroup."""
    anchor, title, sites = "sites", "Other sites", record.sites
    if sites is None:
        return not_applicable(anchor, title, "the data names no sites (data.site) and no subgroups (data.subgroups)")
    blocks: list[Block] = [Paragraph(sites.sentence, "warning" if sites.alarm else "plain")]
    if sites.site_out is not None:
        blocks.append(_tabulate_site_out(sites.site_out))
    if sites.told is None and sites.n_sites > 1:
        blocks.append(Paragraph(f"Whether the site can be told from embeddings: not applicable: {sites.told_why}."))
    if sites.robust is not None:
        blocks.append(Paragraph(_say_robust(sites.robust)))
    if sites.subgroups:
        blocks.append(_tabulate_subgroups(sites.subgroups))
    return Section(anchor, title, blocks)


def _tabulate_site_out(found: SiteOut) -> Table:
    rows = [
        ("out of fold", "other cases of the same sites", found.out_of_fold),
        ("site-out", "other cases of these sites, which no network had seen", found.score),
        ("site-out, by site", "other sites like these", found.by_site),
    ]
    cells = [
        (name, covers, format_number(one.value), format_range(one.low, one.high) + mark_doubt(one.trustworthy))
        for name, covers, one in rows
    ]
    caption = (
        f"Macro-F1 of {count_things(found.n_images, 'image')} or cases, {count_things(found.n_cases, 'case')}, "
        f"{count_things(found.n_sites, 'site')} ({found.n_groups} held out), {count_things(found.n_seeds, 'seed')}; "
        f"chance {format_number(found.chance)}. Out of fold less site-out, paired by case: {found.gap.say()}, smallest "
        f"difference that could have been seen {format_number(found.gap.smallest_detectable)}"
    )
    if not found.by_site.trustworthy:
        caption += f". By site not to be trusted, reading sites for cases: {found.by_site.reason}"
    return Table(("score", "what the interval covers", "macro-F1", "interval"), cells, caption, text_columns=2)


def _say_robust(found: Robust) -> str:
    text = (
        f"Robustness index of the embeddings: {format_number(found.index)} with {found.neighbours} neighbours (0.5: "
        "the site counts as much as the class; such neighbours are there for "
        f"{format_percent(found.support)} of the images)."
    )
    if found.margin is None:
        return f"{text} Margin: not applicable, {count_things(found.lacking, 'image')} lack neighbours of both kinds."
    return (
        f"{text} Margin of class over site: median {found.margin:+.3f}, mean of the lowest tenth "
        f"{found.tail or 0:+.3f}; the site is nearer than the class for {format_percent(found.dominated or 0)} of the "
        "images."
    )


def _tabulate_subgroups(subgroups: tuple[Subgroup, ...]) -> Table:
    held = any(row.site_out is not None for row in subgroups)
    rows = []
    for row in subgroups:
        classes = ", ".join(f"{name} {count}" for name, count in row.classes.items())
        cells = [row.column, row.value, classes, str(row.n_cases), "–" if row.score is None else row.score.say()]
        cells += ["–" if row.site_out is None else row.site_out.say()] if held else []
        gap = row.difference
        cells += [row.why, "–", "–"] if gap is None else [
            gap.say(), "–" if gap.p_holm is None else f"{gap.p_holm:.3f}", format_number(gap.smallest_detectable)
        ]  # fmt: skip
        rows.append(cells)
    header = ["column", "value", "classes", "cases", "mean recall", *(["site-out"] if held else []),
              "less all others", "p (Holm)", "smallest that shows"]  # fmt: skip
    caption = (
        "Out-of-fold recall, mean over the classes of the subgroup; the difference is over the classes that the others "
        "have too. The last column is the smallest difference that could have been seen."
    )
    return Table(header, rows, caption, text_columns=3)
