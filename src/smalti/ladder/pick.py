"""The whole ladder as one recipe: in every fold the rung that its inner images prefer, scored on the outer ones.

The highest of the rungs' own scores was chosen by the cases that score it. Here the outer images of a fold have no say
in which rung predicts them (nested selection, Varma & Simon 2006), so the score promises nothing too much; what it
scores is the act of choosing, not one rung.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluate import Unit, score_predictions
from ..metrics import log_loss, macro_f1
from ..stats.pool import check_predictions, index_labels
from ..store import read_table
from ..types import score_columns
from .scoring import Outcome

BY = ["seed", "fold"]


def pick_on_inner(
    runs: Mapping[str, Path], outcomes: Mapping[str, Outcome], images: Sequence[str], unit: Unit
) -> dict[str, Any]:
    """Score, picks and words of choosing fold by fold; only ``reason`` where that means nothing.

    The highest macro-F1 on the inner images of a fold, or on their means by case, is picked; equals to three digits go
    to the lower log loss, then to the lower rung.

    Args:
        runs: rung -> run folder.
        outcomes: of the finished rungs, from the bottom.
        images: that score every rung.
        unit: what is counted.
    """
    inner = {name: _read_inner(runs[name], outcomes[name]) for name in outcomes}
    known = {name: table for name, table in inner.items() if table is not None}
    if len(known) < 2:
        return {"reason": "fewer than two rungs have scores of inner images"}
    outer = {name: outcomes[name].tabulate(images, unit) for name in known}
    folds = [table.set_index(["seed", "image"])["fold"].sort_index() for table in outer.values()]
    if any(not fold.equals(folds[0]) for fold in folds):
        return {"reason": "the rungs have different folds"}
    shared = set.intersection(*(set(table["image"]) for table in known.values()))
    known = {name: replace(outcomes[name], table=table).tabulate(shared, unit) for name, table in known.items()}
    ranks = {name: _rank_folds(table, outcomes[name]) for name, table in known.items()}
    cells = [cell for cell, _ in next(iter(outer.values())).groupby(BY)]
    if any(cell not in rank for cell in cells for rank in ranks.values()):
        return {"reason": "a fold has no inner images that every rung scored"}
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
    score = {key: scores["metrics"]["macro_f1"][key] for key in ("value", "low", "high")}
    counts = Counter(picks.values())
    taken = {name: counts[name] for name in outer if counts[name]}
    return {"score": score, "picks": taken, "words": _say_pick(score, taken)}


def _say_pick(score: Mapping[str, Any], picks: Mapping[str, int]) -> str:
    names = ", ".join(f"{name} {count}" for name, count in picks.items())
    return (
        f"Choosing the rung of each fold by its inner images alone scores {score['value']:.3f} ({score['low']:.3f} to "
        f"{score['high']:.3f}) on outer images, which have no say; of {sum(picks.values())} folds: {names}."
    )


def _read_inner(run: Path, outcome: Outcome) -> pd.DataFrame | None:
    path = run / "predictions" / "inner.csv"
    table = read_table(path) if path.is_file() else None
    return check_predictions(table, classes=outcome.pool.classes) if table is not None and len(table) else None


def _rank_folds(table: pd.DataFrame, outcome: Outcome) -> dict[Any, tuple[float, float]]:
    """(seed, fold) -> what is small for a rung that its inner images like."""
    classes = outcome.pool.classes
    ranks = {}
    for cell, rows in table.groupby(BY):
        truth, scores = index_labels(rows, classes=classes), rows[score_columns(classes)].to_numpy(dtype=float)
        ranks[cell] = (-round(macro_f1(truth, scores), 3), log_loss(truth, scores))
    return ranks
