"""AutoGluon on the folds of a league: ``TabularPredictor`` on frozen features. Runs in an environment of its own:

    python -m venv autogluon && autogluon/bin/pip install "autogluon.tabular[lightgbm,catboost,xgboost,fastai]"
    python benchmarks/league.py DATA... --peer autogluon=autogluon/bin/python       (in smalti's environment)

The features are those that smalti's ``quick`` has of each image; their seconds are not in this peer's. It has its
share of the minutes for each fold, the presets ``medium_quality``, macro-F1 to aim at, and as many CPUs as
OMP_NUM_THREADS says. Without the extra ``fastai``, which brings torch, its networks are left out and it is a weaker
peer; the note names the models that were trained. The inner part, whole cases, is what it validates and weighs its
models on. Where the rest lacks a class that the inner part has, it draws a holdout of its own from both, which knows
no cases. Its habit of dropping classes of less than ten images is turned off. Of two classes it moves the threshold on
the inner part; the scores are bent so that a half is where it decides.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor

from peers.task import Task, read_task, write_answer

PRESETS = "medium_quality"


def learn_fold(
    rows: pd.DataFrame, features: np.ndarray, task: Task, *, seconds: float | None
) -> tuple[pd.DataFrame, list[str]]:
    """The answer for the outer images of a fold, and the models that were trained."""
    data = pd.DataFrame(features[rows["position"]], columns=[f"f{i}" for i in range(features.shape[1])])
    data, role = data.assign(label=rows["label"].to_numpy()), rows["role"].to_numpy()
    known, inner = data[role == "train"], data[role == "inner"]
    if inner.empty or set(inner["label"]) - set(known["label"]):
        known, inner = data[role != "outer"], None
    kind = "binary" if known["label"].nunique() == 2 else "multiclass"
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor(
            "label", problem_type=kind, eval_metric="f1_macro", path=f"{folder}/models", verbosity=1,
            learner_kwargs={"label_count_threshold": 1},
        ).fit(
            known, tuning_data=inner, time_limit=seconds, presets=PRESETS, num_gpus=0,
            num_cpus=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        )  # fmt: skip
        found = predictor.predict_proba(data[role == "outer"].drop(columns="label"))
        scores, names = found.to_numpy(dtype=float), [str(name) for name in found]
        if kind == "binary":
            positive = names.index(str(predictor.positive_class))
            scores[:, positive] = bend(scores[:, positive], predictor.decision_threshold)
            scores[:, 1 - positive] = 1 - scores[:, positive]
        return task.answer(rows[role == "outer"], scores, names), predictor.model_names()


def bend(score: np.ndarray, threshold: float) -> np.ndarray:
    """Scores (n,) with the threshold at a half, straight on both sides of it."""
    return np.interp(score, [0.0, threshold, 1.0], [0.0, 0.5, 1.0])


def main() -> None:
    """Read a task and answer it."""
    folder = Path(sys.argv[1])
    task, features = read_task(folder), np.load(folder / "features.npy")
    folds = task.list_folds()
    seconds = task.minutes * 60 / len(folds) if task.minutes else None
    answers, models = zip(*(learn_fold(rows, features, task, seconds=seconds) for rows in folds), strict=True)
    version, limit = importlib.metadata.version("autogluon.tabular"), f"{seconds:.0f} s" if seconds else "no limit"
    trained = ", ".join(dict.fromkeys(name for names in models for name in names))
    note = f"autogluon.tabular {version}, {PRESETS}, {limit} for each of {len(folds)} folds; trained {trained}"
    print(note)
    write_answer(folder, answers, note=note)


if __name__ == "__main__":
    main()
