"""Scores of images from trained folds.

An outer image is scored only by the network of the fold that never saw its case; an unlabelled image by all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..runs import read_table, write_table
from ..train import Experiment, load_network, score_bags
from ..types import PREDICTION_COLUMNS, Sample, Split, score_columns

Tell = Callable[[str, int, int], None]


def predict_outer(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> pd.DataFrame:
    """Write ``predictions/out_of_fold.csv``: each labelled image once per seed; and return it."""
    tables = []
    for split in splits:
        samples = tuple(experiment.cohort.labelled[i] for i in split.outer)
        tables.append(_predict_part(experiment, split, samples, part="outer", tell=tell))
    table = pd.concat(tables, ignore_index=True)
    write_table(experiment.run.predictions / "out_of_fold.csv", table)
    return table


def predict_unlabelled(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> pd.DataFrame:
    """Write ``predictions/test.csv``: each unlabelled image once per fold and seed; and return it."""
    samples = experiment.cohort.unlabelled
    tables = [_predict_part(experiment, split, samples, part="test", tell=tell) for split in splits]
    table = pd.concat(tables, ignore_index=True)
    write_table(experiment.run.predictions / "test.csv", table)
    return table


def _predict_part(
    experiment: Experiment, split: Split, samples: tuple[Sample, ...], *, part: str, tell: Tell | None
) -> pd.DataFrame:
    """The table of one fold; kept as a file of its own, so that an interrupted run goes on from there."""
    path = experiment.run.predictions / "folds" / f"{part}-{split.name}.csv"
    if not path.is_file():
        bags = np.array([experiment.store.position(s.image) for s in samples], dtype=np.int64)
        label = f"{split.name} {part}"
        logits = _score(experiment, split, bags, tell=(lambda d, t: tell(label, d, t)) if tell is not None else None)
        scores = logits.double().softmax(dim=1).numpy()
        head = [(s.image, s.case, split.fold, split.seed, s.label or "") for s in samples]
        table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
        table[score_columns(experiment.cohort.classes)] = scores
        write_table(path, table)
    return read_table(path)


def _score(
    experiment: Experiment, split: Split, bags: NDArray[np.int64], *, tell: Callable[[int, int], None] | None
) -> torch.Tensor:
    network = load_network(experiment, split)
    if experiment.recipe.train.finetune.epochs == 0 and experiment.embeddings is not None:
        with torch.inference_mode():
            logits: torch.Tensor = network.head(experiment.embeddings[0, bags].to(experiment.fabric.device)).cpu()
        return logits
    return score_bags(
        network, experiment.store, bags, spec=experiment.backbone.spec, fabric=experiment.fabric, progress=tell
    )
