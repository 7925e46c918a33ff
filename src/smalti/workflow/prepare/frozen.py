"""What a frozen backbone sees in each fold: features of every tile, computed once for folds that see the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...project import SILENT, Listener, Project
from ...recipe import Settled
from ...records import PretrainingRecord, RunFolder
from ...records.layout import DRAWN_SHEET
from ...store import write_atomic
from ...types import Cohort, Split
from .staining import fit_stains

if TYPE_CHECKING:
    from ...models import Backbone
    from ...samples import StainMaps
    from ...tile import TileStore
    from ...train import Experiment, FrozenFeatures
    from ...train.synthesis import DrawnImages


def freeze_features(
    cache: Path,
    recipe: Settled,
    backbone: Backbone,
    stains: dict[str, StainMaps],
    *,
    fabric: Any,
    classes: int,
    pretrained: Mapping[str, Backbone] = MappingProxyType({}),
    listener: Listener = SILENT,
) -> dict[str, FrozenFeatures]:
    """Return name of a split -> frozen features, in as many views as training or prediction wants.

    Empty where no phase needs any. A split may have ``pretrained`` a backbone of its own.
    """
    from ...models import hash_weights
    from ...train import compute_features, freeze

    train = recipe.train
    if train.transfer.epochs == 0:
        return {}
    views = max(train.transfer.views, recipe.predict.views if train.finetune.epochs == 0 else 1)
    seen: dict[tuple[str, str], FrozenFeatures] = {}
    keys: dict[str, tuple[str, str]] = {}
    for name, maps in stains.items():
        own = pretrained.get(name)
        key = keys[name] = (maps.key, "" if own is None else hash_weights(own.module))
        if key not in seen:
            features = compute_features(
                own or backbone,
                maps.store,
                views=views,
                fabric=fabric,
                cache=cache,
                stains=maps,
                progress=listener.follow("features"),
                say=listener.say,
            )
            seen[key] = freeze(features, recipe, classes=classes)
    return {name: seen[key] for name, key in keys.items()}


def pretrain_folds(
    cache: Path,
    run: RunFolder,
    recipe: Settled,
    cohort: Cohort,
    splits: tuple[Split, ...],
    store: TileStore,
    backbone: Backbone,
    stains: Mapping[str, StainMaps],
    *,
    fabric: Any,
    unfit: Mapping[str, str],
    listener: Listener = SILENT,
) -> dict[str, Backbone]:
    """Return name of a split -> its backbone after phase ``pretrain``, as its inner cases have decided; say so.

    Empty where the phase is skipped. Verdicts that are in the run folder stand: a run that goes on asks no case again.
    """
    from ...train.pretraining.pretrainer import Pretrainer

    knobs = recipe.train.pretrain
    if knobs.method is None or recipe.train.gate.keep == "off":
        return {}
    pretrainer = Pretrainer(recipe, cohort, store, backbone, fabric, cache, unfit, listener.tell)
    known = PretrainingRecord.find(run.path)
    standing = {} if known is None else {(fold.seed, fold.fold): fold for fold in known.folds}
    found, records = {}, []
    for split in splits:
        key = (split.seed, split.fold)
        found[split.name], record = pretrainer.pretrain_fold(split, stains[split.name], standing.get(key))
        records.append(record)
    PretrainingRecord(folds=tuple(records)).write(run.path)
    kept = sum(record.verdict.kept for record in records)
    further = f", {records[0].further} unlabelled images taught as well (transductive)" if records[0].further else ""
    listener.say(f"pretraining ({knobs.method}) is kept in {kept} of {len(records)} folds{further}")
    return found


def draw_images(
    cache: Path,
    run: RunFolder,
    recipe: Settled,
    cohort: Cohort,
    store: TileStore,
    backbone: Backbone,
    stains: Mapping[str, StainMaps],
    *,
    fabric: Any,
    listener: Listener = SILENT,
) -> DrawnImages | None:
    """Draw what is to teach beside the labelled images, with a sheet of it; None where nothing is to be drawn."""
    from ...report.figures.sheet import draw_pairs
    from ...train.synthesis import look_at_drawn

    if recipe.train.synthesis.method is None or recipe.train.gate.keep == "off":
        return None
    drawn = look_at_drawn(
        recipe, cohort, store, backbone, next(iter(stains.values())), fabric=fabric, cache=cache,
        tell=listener.follow("synthesis"),
    )  # fmt: skip
    if len(drawn.drawn):
        write_atomic(run.path / DRAWN_SHEET, draw_pairs(drawn.drawn, drawn.real, marks=("DRAWN", "real")))
    listener.say(f"{len(drawn.targets)} images were drawn; each fold judges those that it may know")
    return drawn


def refold(
    project: Project, experiment: Experiment, cohort: Cohort, splits: tuple[Split, ...], *, run_folder: RunFolder
) -> Experiment:
    """Return the experiment on a part of its cohort, in other folds, each with what it may see of its own images."""
    recipe, store, backbone, fabric = experiment.recipe, experiment.store, experiment.backbone, experiment.fabric
    stains = fit_stains(cohort, store, recipe, splits=splits)
    pretrained = pretrain_folds(
        project.cache, run_folder, recipe, cohort, splits, store, backbone, stains, fabric=fabric,
        unfit=experiment.unfit,
    )  # fmt: skip
    frozen = freeze_features(
        project.cache, recipe, backbone, stains, fabric=fabric, classes=len(cohort.classes), pretrained=pretrained
    )
    drawn = draw_images(project.cache, run_folder, recipe, cohort, store, backbone, stains, fabric=fabric)
    return replace(
        experiment, run=run_folder, cohort=cohort, splits=splits, frozen=frozen, stains=stains, pretrained=pretrained,
        drawn=drawn,
    )  # fmt: skip
