"""Trained weights are taken from a run beside this one where it was trained in just the same way."""

from __future__ import annotations

import os
import shutil

from ...errors import RunError
from ...project import Listener
from ...records import Environment, RunFolder, log_event
from ...records.layout import (
    AUGMENTATION_PICTURE,
    ENVIRONMENT,
    FOLD_TABLES,
    MEMBER_RUNS,
    name_checkpoint,
    name_dynamics,
)
from ...store.leftovers import name_temporary
from ...types import Split
from ..place import locate_run


def adopt_training(run_folder: RunFolder, splits: tuple[Split, ...], *, listener: Listener) -> None:
    """Take finished weights from a run beside this one, or a member of one, that was trained in just the same way.

    Its scores of each fold are taken too where both look at tiles in the same views.
    """
    wanted = Environment.read(run_folder.path).training
    missing = [s.name for s in splits if not (run_folder.path / name_checkpoint(s.name)).is_file()]
    runs = locate_run(run_folder.path)[0]
    others = [*runs.glob(f"*/{ENVIRONMENT}"), *runs.glob(f"*/{MEMBER_RUNS}/*/{ENVIRONMENT}")] if missing else []
    for other in sorted(others):
        source = RunFolder(other.parent)
        if source == run_folder:
            continue
        try:
            known = Environment.read(source.path).training
        except RunError:  # another run that is damaged or old does not matter to this one
            continue
        if known != wanted:
            continue
        taken = [name for name in missing if take_file(name_checkpoint(name), source, run_folder)]
        if not taken:
            continue
        missing = [name for name in missing if name not in taken]
        log_event(run_folder.path, "weights taken", run=source.path.name, files=taken)
        listener.say(f"{len(taken)} trained network(s) taken from {source.path.name}: trained in the same way")
        take_file(AUGMENTATION_PICTURE, source, run_folder)
        for name in taken:
            take_file(name_dynamics(name), source, run_folder)
        if source.read_recipe().predict.views == run_folder.read_recipe().predict.views:
            for table in sorted((source.path / FOLD_TABLES).glob("[!.]*.csv")):
                take_file(f"{FOLD_TABLES}/{table.name}", source, run_folder)


def take_file(name: str, run: RunFolder, into: RunFolder) -> bool:
    """Link one file of another run; copy it where the file system has no links."""
    source, target = run.path / name, into.path / name
    if not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        partial = name_temporary(target.parent)
        shutil.copyfile(source, partial)
        partial.replace(target)
    return True
