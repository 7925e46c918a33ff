"""Scores of images from trained folds.

An outer image is scored only by the network of the fold that never saw its case; an unlabelled image by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..errors import RunError
from ..models import Network
from ..recipe import Recipe
from ..records import RunFolder
from ..records.layout import INNER, name_fold_table, name_prediction
from ..samples import StainMaps
from ..store import read_table, write_table
from ..tile import TileStore
from ..train import Experiment, FrozenFeatures, load_network, read_bags, score_bags
from ..types import PREDICTION_COLUMNS, Cohort, InputSpec, Sample, Split, score_columns
from .rules import settle_tables

Tell = Callable[[str, int, int], None]


def list_parts(cohort: Cohort) -> list[Literal["outer", "test", "sealed"]]:
    """Return what the network of each fold scores: its outer images, and unlabelled and sealed ones where there are."""
    there = {"outer": True, "test": bool(cohort.unlabelled), "sealed": bool(cohort.sealed)}
    return [part for part, stands in there.items() if stands]  # type: ignore[misc]


def predict_split(experiment: Experiment, split: Split) -> None:
    """Leave the table of each part by the network of one fold, which `predict_outer` and `predict_unlabelled` take."""
    cohort = experiment.cohort
    samples = {"test": cohort.unlabelled, "sealed": cohort.sealed}
    samples["outer"] = tuple(cohort.labelled[i] for i in split.outer)
    for part in list_parts(cohort):
        _predict_part(experiment, split, samples[part], part=part, tell=None)


def predict_outer(experiment: Experiment, *, tell: Tell | None = None) -> pd.DataFrame:
    """Score each labelled image once per seed, by the network of the fold that held it out."""
    tables = []
    for split in experiment.splits:
        samples = tuple(experiment.cohort.labelled[i] for i in split.outer)
        tables.append(_predict_part(experiment, split, samples, part="outer", tell=tell))
    return pd.concat(tables, ignore_index=True)


def predict_unlabelled(
    experiment: Experiment, *, part: Literal["test", "sealed"] = "test", tell: Tell | None = None
) -> pd.DataFrame:
    """Score each unlabelled image once per fold and seed; or each sealed one, without its label."""
    samples = experiment.cohort.sealed if part == "sealed" else experiment.cohort.unlabelled
    tables = [_predict_part(experiment, split, samples, part=part, tell=tell) for split in experiment.splits]
    return pd.concat(tables, ignore_index=True)


def predict_given(experiment: Experiment, outer: pd.DataFrame, *, tell: Tell | None = None) -> pd.DataFrame:
    """Score each labelled image once per seed under the label that it was given, also those that decisions have left
    out.

    What was left out is scored by the network of the fold that held its case out; of a case that is gone as a whole no
    network has learned, so that its images are dealt to the folds case by case.

    Args:
        outer: what `predict_outer` gives.
    """
    labels = {s.image: s.label for s in experiment.given}
    case_of = {s.image: s.case for s in experiment.cohort.labelled}
    left_out = [s for s in experiment.given if s.image not in case_of]
    gone = sorted({s.case for s in left_out} - set(case_of.values()))
    folds = 1 + max(split.fold for split in experiment.splits)
    tables = [outer.assign(label=outer["image"].map(labels))]
    for split in experiment.splits:
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
    rules.write(run.path)
    write_table(run.path / INNER, chosen)
    for name, table in settled.items():
        write_table(run.path / name_prediction(name), table)
    return settled


def _predict_part(
    experiment: Experiment, split: Split, samples: tuple[Sample, ...], *, part: str, tell: Tell | None
) -> pd.DataFrame:
    """Return the table of one fold; kept as a file of its own, so that an interrupted run goes on from there."""
    path = experiment.run.path / name_fold_table(part, split.name)
    columns = score_columns(experiment.cohort.classes)
    # A table of an earlier call is taken if it holds these images; a damaged one is made anew.
    with suppress(RunError):
        if path.is_file():
            table = read_table(path, *PREDICTION_COLUMNS, *columns)
            known = table[columns].apply(pd.to_numeric, errors="coerce").notna()
            if tuple(table["image"]) == tuple(s.image for s in samples) and bool(known.all(axis=None)):
                return read_table(path)
    bags = np.array([experiment.store.position(s.image) for s in samples], dtype=np.int64)
    recipe = experiment.recipe
    logits = score_network(
        load_network(experiment, split), experiment.store, bags, views=recipe.predict.views,
        spec=experiment.backbone.spec, fabric=experiment.fabric, stains=experiment.stains.get(split.name),
        # Also where the fold has pretrained its backbone: its features are of that one.
        frozen=experiment.frozen.get(split.name) if recipe.train.finetune.epochs == 0 else None,
        tell=None if tell is None else partial(tell, f"{split.name} {part}"),
    )  # fmt: skip
    head = [(s.image, s.case, split.fold, split.seed, s.label or "") for s in samples]
    table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
    table[columns] = logits.double().softmax(dim=1).numpy()
    write_table(path, table)
    return read_table(path)


def score_network(
    network: Network,
    store: TileStore,
    bags: NDArray[np.int64],
    *,
    views: int,
    spec: InputSpec,
    fabric: Fabric,
    stains: StainMaps | None,
    frozen: FrozenFeatures | None,
    tell: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Return logits (n, C) of n bags of a store, the mean over ``views``.

    ``frozen`` is what the backbone made of the store where it was not fine-tuned; else the tiles go through it here.
    """
    if frozen is not None and frozen.embeddings is None:
        return read_bags(network.reader, frozen.features, bags, views=views)
    if frozen is not None and frozen.embeddings is not None:
        with torch.inference_mode():
            logits: torch.Tensor = network.head(frozen.embeddings[:views, bags].to(fabric.device))
        return logits.mean(dim=0).cpu()
    return score_bags(network, store, bags, spec=spec, fabric=fabric, views=views, stains=stains, progress=tell)
