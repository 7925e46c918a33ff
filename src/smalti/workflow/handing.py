"""The model folder of a run: written where what the run has made can be handed on; where not, why is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from ..project import Listener
from ..records import Ensemble, RunFolder, log_event, log_stage
from ..records.layout import MEMBER_RUNS, MODEL, SCORES

if TYPE_CHECKING:
    from ..train import Experiment


def hand_on(run: RunFolder, experiment: Experiment | None, *, runs: Path, listener: Listener) -> None:
    """Write ``RUN/model/``, of the networks of an experiment, or of the members that the run combines.

    Args:
        run: predicted, and scored if its model is to hold scores.
        experiment: None where the run combines others.
        runs: the folder of all runs, where the members of an ensemble are.
        listener: hears why no model is written.
    """
    from ..model import find_obstacle, write_combination, write_networks
    from ..report import write_card

    recipe = run.read_recipe()
    with log_stage(run.path, MODEL):
        why = find_obstacle(recipe)
        if not why and experiment is not None:
            write_networks(experiment)
        elif not why:
            place = runs if recipe.ensemble.members else run.path / MEMBER_RUNS
            names = Ensemble.read(run.path).folds[0].weights or {}
            try:
                write_combination(run, [place / name for name in names])
            except RunError as error:  # a member of an earlier version, or one that cannot be handed on itself
                why = str(error)
        if not why and (run.path / SCORES).is_file():  # members of a portfolio are not scored yet
            write_card(run, run.path / MODEL)
    if why:
        log_event(run.path, "no model", reason=why)
        listener.say(f"no model folder is written: {why}")
