"""The whole ladder as one recipe: each fold takes the rung that its inner images prefer, scored on the outer images.

The highest of the rungs' own scores was chosen by the cases that score it. Here the outer images of a fold have no say
in which rung predicts them (nested selection, Varma & Simon 2006), so the score is not optimistic. It scores the
procedure of choosing, not one rung.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluate import score_predictions
from ..metrics import log_loss, macro_f1
from ..records.layout import INNER
from ..records.scored import Interval, Unit
from ..records.studies.ladder import InnerChoice
from ..stats.pool import check_predictions, index_labels
from ..store import find_table
from ..types import score_columns
from .scoring import ScoredRung

BY = ["seed", "fold"]


def pick_on_inner(
    runs: Mapping[str, Path], outcomes: Mapping[str, ScoredRung], images: Sequence[str], unit: Unit
) -> InnerChoice:
    """Choose a rung fold by fold and score that; only the ``reason`` where it cannot be done.

    The highest macro-F1 on the inner images of a fold, or on their means by case, is picked; ties to three digits go to
    the lower log loss, then to the lower rung.

    Args:
        runs: rung -> run folder.
        outcomes: of the finished rungs, from the bottom.
        images: that score every rung.
        unit: what is counted.
    """
    known = {}
    for name, outcome in outcomes.items():
        path = runs[name] / INNER
        table = find_table(path)
        if table is not None and len(table):
            known[name] = check_predictions(table, classes=outcome.pool.classes)
    if len(known) < 2:
        return InnerChoice(reason="fewer than two rungs have scores of inner images")
    outer = {name: outcomes[name].tabulate(images, unit) for name in known}
    folds = [table.set_index(["seed", "image"])["fold"].sort_index() for table in outer.values()]
    if any(not fold.equals(folds[0]) for fold in folds):
        return InnerChoice(reason="the rungs have different folds")
    shared = set.intersection(*(set(table["image"]) for table in known.values()))
    known = {name: replace(outcomes[name], table=table).tabulate(shared, unit) for name, table in known.items()}
    ranks = {name: _rank_folds(table, outcomes[name]) for name, table in known.items()}
    cells = [cell for cell, _ in next(iter(outer.values())).groupby(BY)]
    if any(cell not in rank for cell in cells for rank in ranks.values()):
        return InnerChoice(reason="a fold has no inner images that every rung scored")
    picks = {cell: min(ranks, key=lambda name: ranks[name][cell]) for cell in cells}
    rows = [
        table[[picks[cell] == name for cell in zip(table["seed"], table["fold"], strict=True)]]
        for name, table in outer.items()
    ]
    first = next(iter(outcomes.values()))
    scores = score_predictions(
        pd.concat(rows),
        classes=first.pool.classes,
        confidence=first.evaluate.confidence,
    )
    score = Interval(**scores.headline.model_dump(include=set(Interval.model_fields)))
    counts = Counter(picks.values())
    taken = {name: counts[name] for name in outer if counts[name]}
    names = ", ".join(f"{name} {count}" for name, count in taken.items())
    words = (
        f"Choosing the rung of each fold by its inner images alone scores {score.say()} on outer images, which have no "
        f"say; of {len(picks)} folds: {names}."
    )
    return InnerChoice(score=score, picks=taken, words=words)


def _rank_folds(table: pd.DataFrame, outcome: ScoredRung) -> dict[Any, tuple[float, float]]:
    """Return (seed, fold) -> a rank of the rung on the inner images, the smaller the better."""
    classes = outcome.pool.classes
    ranks = {}
    for cell, rows in table.groupby(BY):
        truth, scores = index_labels(rows, classes=classes), rows[score_columns(classes)].to_numpy(dtype=float)
        ranks[cell] = (-round(macro_f1(truth, scores), 3), log_loss(truth, scores))
    return ranks
