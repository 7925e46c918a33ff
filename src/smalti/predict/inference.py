"""Scores of images from trained folds.

An outer image is scored only by the network of the fold that never saw its case; an unlabelled image by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..errors import RunError
from ..recipe import Recipe
from ..records import RunFolder
from ..store import read_table, write_json, write_table
from ..train import Experiment, load_network, read_bags, score_bags
from ..types import PREDICTION_COLUMNS, Sample, Split, score_columns
from .rules import settle_tables

Tell = Callable[[str, int, int], None]


def predict_outer(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> pd.DataFrame:
    """Each labelled image once per seed, by the network of the fold that held it out."""
    tables = []
    for split in splits:
        samples = tuple(experiment.cohort.labelled[i] for i in split.outer)
        tables.append(_predict_part(experiment, split, samples, part="outer", tell=tell))
    return pd.concat(tables, ignore_index=True)


def predict_unlabelled(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> pd.DataFrame:
    """Each unlabelled image once per fold and seed."""
    samples = experiment.cohort.unlabelled
    tables = [_predict_part(experiment, split, samples, part="test", tell=tell) for split in splits]
    return pd.concat(tables, ignore_index=True)


def predict_sealed(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> pd.DataFrame:
    """Each sealed image once per fold and seed, without its label."""
    samples = experiment.cohort.sealed
    tables = [_predict_part(experiment, split, samples, part="sealed", tell=tell) for split in splits]
    return pd.concat(tables, ignore_index=True)


def predict_given(
    experiment: Experiment, splits: tuple[Split, ...], outer: pd.DataFrame, *, tell: Tell | None = None
) -> pd.DataFrame:
    """Each labelled image once per seed under the label that it was given, also those that decisions have left out.

    What was left out is scored by the network of the fold that held its case out; of a case that is gone as a whole no
    network has learned, so that its images are dealt to the folds case by case.

    Args:
        outer: what `predict_outer` gives.
    """
    labels = {s.image: s.label for s in experiment.given}
    case_of = {s.image: s.case for s in experiment.cohort.labelled}
    left_out = [s for s in experiment.given if s.image not in case_of]
    gone = sorted({s.case for s in left_out} - set(case_of.values()))
    folds = 1 + max(split.fold for split in splits)
    tables = [outer.assign(label=outer["image"].map(labels))]
    for split in splits:
        held_out = {experiment.cohort.labelled[i].case for i in split.outer}
        held_out |= {case for number, case in enumerate(gone) if number % folds == split.fold}
        samples = tuple(s for s in left_out if s.case in held_out)
        if samples:
            tables.append(_predict_part(experiment, split, samples, part="left-out", tell=tell))
    return pd.concat(tables, ignore_index=True)


def write_predictions(
    run: RunFolder, inner: pd.DataFrame, others: Mapping[str, pd.DataFrame], *, recipe: Recipe, classes: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """Fit calibration and decision on the inner table, apply them to all, and write the tables; return the others.

    ``predictions/inner.csv``, one file for each name of ``others``, and ``predictions/rules.json``, the fitted rules.
    """
    chosen, settled, rules = settle_tables(inner, others, classes=classes, predict=recipe.predict)
    write_json(run.predictions / "rules.json", rules)
    write_table(run.predictions / "inner.csv", chosen)
    for name, table in settled.items():
        write_table(run.predictions / f"{name}.csv", table)
    return settled


def _predict_part(
    experiment: Experiment, split: Split, samples: tuple[Sample, ...], *, part: str, tell: Tell | None
) -> pd.DataFrame:
    """The table of one fold; kept as a file of its own, so that an interrupted run goes on from there."""
    path = experiment.run.predictions / "folds" / f"{part}-{split.name}.csv"
    if not _is_whole(path, samples, classes=experiment.cohort.classes):
        bags = np.array([experiment.store.position(s.image) for s in samples], dtype=np.int64)
        label = f"{split.name} {part}"
        logits = _score(experiment, split, bags, tell=(lambda d, t: tell(label, d, t)) if tell is not None else None)
        scores = logits.double().softmax(dim=1).numpy()
        head = [(s.image, s.case, split.fold, split.seed, s.label or "") for s in samples]
        table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
        table[score_columns(experiment.cohort.classes)] = scores
        write_table(path, table)
    return read_table(path)


def _is_whole(path: Path, samples: tuple[Sample, ...], *, classes: tuple[str, ...]) -> bool:
    """Whether a table of an earlier call is there and holds these images; a damaged one is made anew."""
    if not path.is_file():
        return False
    try:
        table = read_table(path, *PREDICTION_COLUMNS, *score_columns(classes))
    except RunError:
        return False
    scores = table[score_columns(classes)].apply(pd.to_numeric, errors="coerce")
    return tuple(table["image"]) == tuple(s.image for s in samples) and not bool(scores.isna().any(axis=None))


def _score(
    experiment: Experiment, split: Split, bags: NDArray[np.int64], *, tell: Callable[[int, int], None] | None
) -> torch.Tensor:
    network = load_network(experiment, split)
    views = experiment.recipe.predict.views
    frozen = experiment.frozen.get(split.name) if experiment.recipe.train.finetune.epochs == 0 else None
    if frozen is not None and frozen.embeddings is None:
        return read_bags(network.reader, frozen.features, bags, views=views)
    if frozen is not None and frozen.embeddings is not None:
        with torch.inference_mode():
            logits: torch.Tensor = network.head(frozen.embeddings[:views, bags].to(experiment.fabric.device))
        return logits.mean(dim=0).cpu()
    return score_bags(
        network, experiment.store, bags, spec=experiment.backbone.spec, fabric=experiment.fabric, views=views,
        stains=experiment.stains.get(split.name), progress=tell,
    )  # fmt: skip
