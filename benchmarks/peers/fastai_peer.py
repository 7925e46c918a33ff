"""fastai's way on the folds of a league: ``vision_learner`` and ``fine_tune``. Runs in an environment of its own:

    python -m venv fastai && fastai/bin/pip install fastai timm
    python benchmarks/league.py DATA... --peer fastai=fastai/bin/python       (in smalti's environment)

As its tutorials have it: ``Resize`` of each image, ``aug_transforms`` of each batch, the head that it builds, one
frozen epoch and then all layers at its default rate. Its weights are those that smalti has, loaded strictly. The whole
image is squeezed into the square of the backbone's input (240 px of Lite1). All images outside the outer part are
learned from; nothing is chosen, so that none are kept for validation. Batches are of 64, its default; of a tenth of
the images, at least 8, where there are fewer. Five epochs, or as many, at least one, as fit into the minutes by the
time of the first batches, which are thrown away; the frozen epoch and the scores of the outer part are counted. The
note says how many there were.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import fastai
import pandas as pd
from fastai.vision.all import (
    Callback,
    CancelFitException,
    CategoryBlock,
    ColReader,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Learner,
    Normalize,
    Resize,
    ResizeMethod,
    aug_transforms,
    set_seed,
    vision_learner,
)
from safetensors.torch import load_file

from peers.task import Task, read_task, write_answer

EPOCHS = 5
SEEN = 0.5  # of the time of an image that is learned from goes into one that is scored
WATCHED = 6  # batches by which an epoch is timed; the first is left out
BATCH = 64


class Watch(Callback):
    """Note when each batch was loaded and learned, and stop after a few."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def before_train(self) -> None:
        """Note the time before the first is loaded."""
        self.times.append(time.monotonic())

    def after_batch(self) -> None:
        """Note the time."""
        self.times.append(time.monotonic())
        if len(self.times) > WATCHED:
            raise CancelFitException


def build_learner(rows: pd.DataFrame, task: Task, weights: dict[str, Any]) -> Learner:
    """A learner on the images of a fold that may be learned from, with weights in its body."""
    set_seed(int(rows["seed"].iloc[0]), reproducible=True)
    known = rows[rows["role"] != "outer"].reset_index(drop=True)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(task.classes))),
        get_x=ColReader("path"),
        get_y=ColReader("label"),
        splitter=IndexSplitter([]),
        item_tfms=Resize(task.size_px, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(task.mean, task.std)],
    )
    loaders = block.dataloaders(known, bs=min(BATCH, max(8, len(known) // 10)), num_workers=0)
    learner = vision_learner(loaders, task.backbone, pretrained=False, n_out=len(task.classes))
    learner.model[0].model.load_state_dict(weights, strict=True)
    return learner


def time_epoch(learner: Learner) -> float:
    """Seconds of an epoch with all layers open, by the first batches."""
    watch = Watch()
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, cbs=watch)
    steps = [later - earlier for earlier, later in zip(watch.times, watch.times[1:], strict=False)]
    return statistics.median(steps[1:] or steps) * len(learner.dls.train)


def learn_fold(rows: pd.DataFrame, task: Task, weights: dict[str, Any], *, epochs: int) -> pd.DataFrame:
    """The answer for the outer images of a fold."""
    learner = build_learner(rows, task, weights)
    outer = rows[rows["role"] == "outer"]
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        scores, _ = learner.get_preds(dl=learner.dls.test_dl(outer.reset_index(drop=True)))
    return task.answer(outer, scores.double().cpu().numpy(), list(learner.dls.vocab))


def main() -> None:
    """Read a task, answer it, and say how many epochs there were."""
    folder = Path(sys.argv[1])
    task, weights = read_task(folder), load_file(folder / "weights.safetensors")
    folds, began = task.list_folds(), time.monotonic()
    epoch = time_epoch(build_learner(folds[0], task, weights))
    left = task.minutes * 60 - (time.monotonic() - began)
    scored = (task.table["role"] == "outer").mean()
    beside = 1 + SEEN * scored / (1 - scored)  # epochs' worth: the frozen one, and the scores of the outer part
    fit = int(left / (len(folds) * epoch) - beside) if task.minutes else EPOCHS
    epochs = min(EPOCHS, max(1, fit))
    note = (
        f"fastai {fastai.__version__}, {epochs} of {EPOCHS} epochs after a frozen one, {epoch:.1f} s each, "
        f"{len(folds)} folds: "
        f"{(epochs + beside) * len(folds) * epoch:.0f} s foreseen of {task.minutes * 60:.0f} s"
    )
    print(note, flush=True)
    write_answer(folder, (learn_fold(rows, task, weights, epochs=epochs) for rows in folds), note=note)


if __name__ == "__main__":
    main()
