"""The model folder of a run: written where what the run has made can be handed on; where not, why is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audit.measure.digest import digest_sample
from ..errors import RunError
from ..project import Listener
from ..records import Ensemble, RunFolder, TrainingPopulation, log_event, log_stage
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
        why, population = find_obstacle(recipe), None
        if not why and ground is not None and ground.cohort.features is None:
            population = _describe(run, ground)
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
    from ..model import describe_population, fit_doubt

    audited = () if ground.seen.digest is None else ground.seen.digest.images
    known = {digest.image for digest in audited}
    labelled = ground.cohort.labelled
    more = [digest_sample(sample) for sample in labelled if sample.image not in known]
    sites = {s.image: s.site for s in labelled} if any(s.site for s in labelled) else None
    # An image is held out once a seed, and a new image is answered once, by the mean.
    by_image = run.read_out_of_fold().groupby("image")[score_columns(ground.cohort.classes)].mean()
    scores = by_image.to_numpy(dtype=np.float64)
    doubt = fit_doubt(scores, share=run.read_recipe().predict.unsure_frac)
    return describe_population(ground.cohort, [*audited, *more], sites=sites, doubt=doubt)
