"""Records of runs that are drawn and not run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from smalti.evaluate import score_predictions
from smalti.recipe import load_recipe
from smalti.records import CohortRecord, Environment, Scores, UnitScores, log_event
from smalti.store import write_atomic, write_table
from smalti.types import HISTORY_COLUMNS


def draw_environment(*, started: str = "2026-01-01T00:00:00+00:00", data: str = "hash", **more: Any) -> Environment:
    """What a run that began at some time on some data has recorded."""
    return Environment(started=started, identity={"data": data}, training="", **more)


def draw_cohort_record(root: Path | str, *, classes: Sequence[str] = ("a", "b"), **more: Any) -> CohortRecord:
    """A cohort of a folder, of twelve images that are their own cases if nothing else is said."""
    counts = {"n_labelled": 12, "n_cases": 12}
    return CohortRecord(root=str(root), layout="table", classes=tuple(classes), **(counts | more))


def settle_scores(found: UnitScores, **more: Any) -> Scores:
    """Scores by image alone, as a run has them."""
    return Scores(**dict(found), unit="image", unit_reason="as asked for", **more)


@functools.cache
def score_two_images() -> UnitScores:
    """Return the scores of two images that are right; computed once."""
    table = pd.DataFrame({"image": ["a", "b"], "label": ["A", "B"], "score_A": [0.9, 0.2], "score_B": [0.1, 0.8]})
    return score_predictions(table, classes=("A", "B"))


def draw_run(
    runs: Path,
    name: str,
    *settings: str,
    score: tuple[float, float, float] | None = (0.6, 0.5, 0.7),
    data: str = "/data/textures",
    **details: Any,
) -> Path:
    """A run folder with its small files; ``score`` is macro-F1, low, high; None: not scored yet."""
    path = runs / name
    started = details.get("started", "2026-01-01T10:00:00+00:00")
    identity = {"data": details.get("data_hash", "d1"), "recipe": "r", "decisions": "", "weights": "w"}
    Environment(identity=identity, training="", started=started, device={"name": "a chip"}).write(path)
    write_atomic(path / "recipe.yaml", load_recipe(settings=settings).to_yaml())
    images, cases = details.get("images", 24), details.get("cases", 18)
    draw_cohort_record(data, classes=("A", "B"), n_labelled=images, n_cases=cases).write(path)
    log_event(path, "train begins", stage="train", state="begins")
    if score is None:
        return path
    log_event(path, "train done", stage="train", state="done", seconds=details.get("seconds", 10.0))
    plain = score_two_images()
    values = {"macro_f1": (*score, 0.33), "auc": (None, None, None, 0.5), "log_loss": (1 - score[0], 0.1, 0.9, 0.7)}
    keys = ("value", "low", "high", "chance_prior")
    metrics = {n: plain.metrics[n].model_copy(update=dict(zip(keys, v, strict=True))) for n, v in values.items()}
    interval = plain.interval.model_copy(update={"trustworthy": details.get("trustworthy", True)})
    counts = {"n_images": images, "n_cases": cases, "n_seeds": 2, "optimism": 0.05}
    settle_scores(plain.model_copy(update={"metrics": metrics, "interval": interval, **counts})).write(path)
    return path


def draw_history(path: Path, *, folds: int = 2, epochs: int = 3) -> pd.DataFrame:
    """Learning curves whose inner loss is fold + epoch / 10; the last epoch has none."""
    rows = [
        (0, fold, phase, epoch, 1e-3, 1.0, None if epoch == epochs - 1 else fold + epoch / 10, 0.5, 0.2)
        for fold in range(folds)
        for phase in ("transfer", "finetune")
        for epoch in range(epochs)
    ]
    table = pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))
    write_table(path / "history.csv", table)
    return table
