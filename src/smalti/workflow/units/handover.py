"""An experiment in a file, from which another process opens it."""

from __future__ import annotations

import functools
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import RunError
from ...notation import parse_yaml
from ...recipe import Recipe, Settled
from ...records import RunFolder, UnitInputs, UnitSplit
from ...tile import GivenStore, TileStore, open_given, open_store
from ...types import Split
from ..prepare.frozen import draw_images, freeze_features, pretrain_folds
from ..prepare.staining import fit_stains

if TYPE_CHECKING:
    from ...train import Experiment


def write_experiment(experiment: Experiment, *, cache: Path) -> Path:
    """Write what units need to open an experiment into its run folder; return the file."""
    given = isinstance(experiment.store, GivenStore)
    splits = [
        UnitSplit(seed=s.seed, fold=s.fold, **{name: tuple(getattr(s, name).tolist()) for name in PARTS})
        for s in experiment.splits
    ]
    return UnitInputs(
        recipe=experiment.recipe.to_yaml(),
        cohort=replace(experiment.cohort, root=experiment.cohort.root.resolve(), form=None),
        splits=tuple(splits),
        store=None if given else str(experiment.store.folder.resolve()),
        cache=str(cache.resolve()),
        device=asdict(experiment.device),
        given=experiment.given,
        digests=dict(experiment.digests),
        unfit=dict(experiment.unfit),
    ).write(experiment.run.path)


PARTS = ("train", "inner", "outer")  # of a split


def open_experiment(folder: Path) -> Experiment:
    """Open the experiment of a run folder, as `write_experiment` left it; the one that is open already is taken.

    Raises:
        RunError: this machine does not see the folder.
    """
    path = UnitInputs.locate(folder)
    if not path.is_file():
        raise RunError(
            f"{platform.node()} does not see {path}",
            fix="--runs with a folder on a file system that all machines share",
        )
    return _open(folder, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _open(folder: Path, stamp: int) -> Experiment:
    from ...models import build_backbone
    from ...train import Device, Experiment, make_fabric

    inputs = UnitInputs.read(folder)
    recipe = Settled(Recipe.model_validate(parse_yaml(inputs.recipe, str(folder))))
    backbone, device = build_backbone(recipe.model), Device(**inputs.device)
    fabric = make_fabric(device)
    cache, cohort = Path(inputs.cache), inputs.cohort
    store: TileStore = open_given(cohort, cache=cache) if inputs.store is None else open_store(Path(inputs.store))
    splits = tuple(
        Split(s.seed, s.fold, **{name: np.array(getattr(s, name), dtype=np.int64) for name in PARTS})
        for s in inputs.splits
    )
    stains = fit_stains(cohort, store, recipe, splits=splits)
    run = RunFolder(folder)
    # Verdicts stand in the run folder, and what was learned or drawn is in the cache.
    pretrained = pretrain_folds(
        cache, run, recipe, cohort, splits, store, backbone, stains, fabric=fabric, unfit=inputs.unfit
    )
    frozen = freeze_features(
        cache, recipe, backbone, stains, fabric=fabric, classes=len(cohort.classes), pretrained=pretrained
    )
    drawn = draw_images(cache, run, recipe, cohort, store, backbone, stains, fabric=fabric)
    return Experiment(
        run, recipe, cohort, splits, store, backbone, frozen, device, fabric, stains, inputs.digests, inputs.given,
        inputs.unfit, pretrained, drawn,
    )  # fmt: skip
