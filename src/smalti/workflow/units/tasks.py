"""Tasks of units: each opens the experiment of a run folder, and leaves files there that the command then finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import FaultError, SmaltiError
from ...records import log_event
from ...records.layout import name_refusal
from ...store import write_atomic
from .handover import open_experiment


def train_fold(folder: str, split: str) -> None:
    """Train on one fold of a seed; its checkpoint is written last.

    What training refuses is noted: it would be refused anywhere, and the command meets it where it always does.
    """
    from ...train import train_split

    experiment = open_experiment(Path(folder))
    try:
        train_split(experiment, next(s for s in experiment.splits if s.name == split))
    except SmaltiError as error:
        if not isinstance(error, FaultError):
            write_atomic(experiment.run.path / name_refusal(split), str(error))
        raise
    log_event(experiment.run.path, "trained", split=split)


def predict_fold(folder: str, split: str) -> None:
    """Score all that the network of one fold scores; the table of the last part is written last."""
    from ...predict import predict_split

    experiment = open_experiment(Path(folder))
    predict_split(experiment, next(s for s in experiment.splits if s.name == split))


def explain_share(folder: str, done: str, questions: Sequence[tuple[str, int, int | None]]) -> None:
    """Explain some images, each a name, the class that is asked for, and the one that is given."""
    from ...explain.explanation import ExplanationRequest, explain_images

    experiment = open_experiment(Path(folder))
    samples = {sample.image: sample for sample in experiment.cohort.samples}
    asked = [ExplanationRequest(samples[name], shown, given) for name, shown, given in questions]
    for _ in explain_images(experiment, asked):
        pass
    write_atomic(Path(done), "")
