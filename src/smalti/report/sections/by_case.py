"""Return the section about cases: scores by image and by case, the confusion by case, the worst cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...evaluate import highest_losses
from ...metrics import predict_classes
from ...types import score_columns
from ..blocks import Block, Paragraph, Section, Table, count_things, format_number, format_range, not_applicable
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
