"""The model folder of a run: written where what the run has made can be handed on; where not, why is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audit.measure.digest import digest_sample
from ..errors import RunError
from ..project import Listener, Project
from ..records import Doubt, Ensemble, FeaturePopulation, RunFolder, TrainingPopulation, log_event, log_stage
from ..records.layout import MEMBER_RUNS, MODEL, SCORES
from ..types import score_columns
from .prepare.ground import Ground

if TYPE_CHECKING:
    from ..train import Experiment


def hand_on(
    run: RunFolder, experiment: Experiment | None, ground: Ground | None, *, runs: Path, listener: Listener
) -> None:
    """Write ``RUN/model/``, of the networks of an experiment, or of the members that the run combines.

    Args:
        run: predicted, and scored if its model is to hold scores.
        experiment: None where the run combines others.
        ground: the training images, by which the model refuses others; None for a member, which is never asked alone.
        runs: the folder of all runs, where the members of an ensemble are.
        listener: hears why no model is written.
    """
    from ..model import find_obstacle, write_combination, write_networks
    from ..report import write_card

    recipe = run.read_recipe()
    with log_stage(run.path, MODEL):
        why = find_obstacle(recipe)
        population: TrainingPopulation | FeaturePopulation | None = None
        if not why and ground is not None:
            population = _describe(run, ground) if ground.cohort.features is None else _describe_bags(run, ground, runs)
        if not why and experiment is not None:
            write_networks(experiment, population)
        elif not why:
            place = runs if recipe.ensemble.members else run.path / MEMBER_RUNS
            names = Ensemble.read(run.path).folds[0].weights or {}
            try:
                write_combination(run, [place / name for name in names], population)
            except RunError as error:  # a member of an earlier version, or one that cannot be handed on itself
                why = error
        if not why and ground is not None and (run.path / SCORES).is_file():
            write_card(run, run.path / MODEL)
    if why:
        log_event(run.path, "no model", reason=str(why))
        listener.say(f"no model folder is written: {why}")


def _describe(run: RunFolder, ground: Ground) -> TrainingPopulation:
    """Describe the labelled images; those that the audit did not measure are measured now."""
    from ..model import describe_population

    audited = () if ground.seen.digest is None else ground.seen.digest.images
    known = {digest.image for digest in audited}
    labelled = ground.cohort.labelled
    more = [digest_sample(sample) for sample in labelled if sample.image not in known]
    sites = {s.image: s.site for s in labelled} if any(s.site for s in labelled) else None
    doubt = _fit_doubt(run, ground)
    return describe_population(ground.cohort, [*audited, *more], sites=sites, doubt=doubt)


def _describe_bags(run: RunFolder, ground: Ground, runs: Path) -> FeaturePopulation:
    """Describe the labelled bags of a cohort of features by the means of their tiles."""
    from ..model import describe_bags
    from ..models import POOLERS
    from ..tile import open_given
    from ..train import GivenFeatures

    cache = Project(ground.cohort.root, runs).cache
    store, labelled = open_given(ground.cohort, cache=cache), ground.cohort.labelled
    means = GivenFeatures((), store, store.spec.size, cache).pool(POOLERS.build("mean", store.spec.size, 1))[0].numpy()
    bags = [store.position(s.image) for s in labelled]
    return describe_bags(
        means[bags], [store.count(bag) for bag in bags], cases=[s.case for s in labelled], doubt=_fit_doubt(run, ground)
    )


def _fit_doubt(run: RunFolder, ground: Ground) -> Doubt | None:
    """Return when the model would rather say nothing; an image is held out once a seed, and answered by the mean."""
    from ..model import fit_doubt

    by_image = run.read_out_of_fold().groupby("image")[score_columns(ground.cohort.classes)].mean()
    return fit_doubt(by_image.to_numpy(dtype=np.float64), share=run.read_recipe().predict.unsure_frac)
