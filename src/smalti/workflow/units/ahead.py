"""Work that is done ahead, elsewhere: what follows is the command as it is without, which finds the files there.

So nothing depends on where or in which order units ran (docs/decisions/0052-units-ahead.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...engine import Outcome, Unit, carry_out
from ...errors import RunError
from ...project import HERE, Project
from ...records import log_outcome
from ...records.layout import UNITS, name_checkpoint, name_fold_table, name_refusal, name_share
from ...store import hash_text
from ...types import Split
from .handover import write_experiment

if TYPE_CHECKING:
    from ...explain.explanation import ExplanationRequest
    from ...train import Experiment

TASKS = f"{__package__}.tasks"
SHOWN = 3  # reasons in one message
SHARES = 64  # of the images to explain, at most: their number does not depend on how many workers there are


def train_ahead(project: Project, experiment: Experiment) -> None:
    """Train the folds that are not trained yet where the project says, each a unit.

    A fold that training refuses (it diverges) is left to what follows, which meets the same error.

    Raises:
        RunError: units failed for another reason; the others are done.
    """
    run = experiment.run.path
    for split in experiment.splits:
        (run / name_refusal(split.name)).unlink(missing_ok=True)
    _carry_folds(project, experiment, "train_fold", lambda split: run / name_checkpoint(split.name), stage="folds")


def predict_ahead(project: Project, experiment: Experiment) -> None:
    """Score images by the networks of all folds where the project says, each fold a unit.

    A head on frozen features takes less time than opening the experiment elsewhere, so that it is left to what follows.
    """
    from ...predict import list_parts

    run, last = experiment.run.path, list_parts(experiment.cohort)[-1]
    if experiment.recipe.train.finetune.epochs:
        place = lambda split: run / name_fold_table(last, split.name)  # noqa: E731
        _carry_folds(project, experiment, "predict_fold", place, stage="predictions")


def explain_ahead(project: Project, experiment: Experiment, questions: Sequence[ExplanationRequest]) -> None:
    """Explain images where the project says, shares of them as units."""
    if project.on == HERE:
        return
    run = experiment.run.path.resolve()
    units = []
    for number in range(min(SHARES, len(questions))):
        asked = [(q.sample.image, q.shown, q.given) for q in questions[number::SHARES]]
        done = run / name_share(hash_text(*map(str, asked)))
        args = {"folder": str(run), "done": str(done), "questions": asked}
        units.append(Unit(f"share {number + 1}", f"{TASKS}:explain_share", args, done, **_needs(experiment)))
    _carry(project, experiment, units, stage="explanations")
    for unit in units:
        unit.done.unlink(missing_ok=True)


def _carry_folds(
    project: Project, experiment: Experiment, task: str, place: Callable[[Split], Path], *, stage: str
) -> None:
    """Carry out one task for each fold whose file is not there."""
    if project.on == HERE:
        return
    run, needs = experiment.run.path.resolve(), _needs(experiment)
    units = [
        Unit(split.name, f"{TASKS}:{task}", {"folder": str(run), "split": split.name}, place(split).resolve(), **needs)
        for split in experiment.splits
        if not place(split).is_file()
    ]
    _carry(project, experiment, units, stage=stage)


def _carry(project: Project, experiment: Experiment, units: Sequence[Unit], *, stage: str) -> None:
    if not units:
        return
    inputs = write_experiment(experiment, cache=project.cache)
    note = partial(log_outcome, experiment.run.path / UNITS)
    outcomes = carry_out(units, on=project.on, listener=project.listener, stage=stage, each=note)
    refused = {u.name for u in units if (experiment.run.path / name_refusal(u.name)).is_file()}
    failed = [o for o in outcomes if o.error and o.unit.name not in refused]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(units)} {stage} failed: {_tell(failed)}",
            fix="do what the reasons say; the same command then goes on with what is done",
        )
    inputs.unlink()


def _tell(failed: Sequence[Outcome]) -> str:
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return "; ".join(f"{o.unit.name}: {o.error.rstrip('.')}" for o in failed[:SHOWN]) + more


def _needs(experiment: Experiment) -> dict[str, int]:
    """Return cores and GPUs of a unit; the threads of a CPU change sums, so that they do not depend on workers."""
    devices = experiment.recipe.train.devices
    threads = int((os.environ.get("OMP_NUM_THREADS") or "1").partition(",")[0])  # one for each level
    on_gpu = experiment.device.accelerator == "cuda"
    return {"cpus": max(threads, devices), "gpus": devices if on_gpu else 0}
