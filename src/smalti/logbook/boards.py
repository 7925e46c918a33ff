"""Runs as event files that TensorBoard shows."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, RunError
from ..records.layout import RECIPE
from ..store import write_atomic
from ..store.leftovers import name_temporary, remove_leftovers
from .curves import Exported, hash_content, list_scores, read_curves, read_start
from .entries import Entry

MARK = ".smalti"  # in each folder written here: only such a folder is ever replaced


def export_tensorboard(entries: Sequence[Entry], *, folder: str | Path) -> Exported:
    """Write event files: ``folder/<run>`` with the scores, ``folder/<run>/fold0-seed0`` with the curves of each fold.

    Scores are ``scores/macro_f1`` and so on; curves are ``finetune/inner_loss`` over epochs, so that TensorBoard lays
    the folds over each other. ``run/finished`` is 1 or 0, and its description holds status, error and recipe: the
    writer has no text of its own. A run that was exported before is replaced as a whole.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        RunError: a folder to be written is there and was not written by smalti.
    """
    try:
        writer = importlib.import_module("tensorboard.summary").Writer
    except ImportError:
        raise MissingExtraError("the export to TensorBoard", "tensorboard") from None
    folder = Path(folder)
    targets = [folder / entry.name for entry in entries]
    if taken := [path.name for path in targets if path.exists() and not (path / MARK).is_file()]:
        raise RunError(f"{folder} has {', '.join(taken)}, not written by smalti", fix="export to another folder")
    done: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "problems": []}
    folder.mkdir(parents=True, exist_ok=True)
    for entry, target in zip(entries, targets, strict=True):
        content = hash_content(entry)
        outcome = "updated" if target.exists() else "created"
        if target.exists() and (target / MARK).read_text(encoding="utf-8").strip() == content:
            outcome = "unchanged"
        else:
            # All of a run is written beside its place, then put there.
            remove_leftovers(target.parent)
            temporary = name_temporary(target.parent)
            try:
                temporary.mkdir()
                done["problems"] += _write_events(entry, temporary, writer)
                write_atomic(temporary / MARK, content + "\n")
                if target.exists():
                    shutil.rmtree(target)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        done[outcome].append(entry.name)
    return Exported(**{key: tuple(names) for key, names in done.items()})


def _write_events(entry: Entry, folder: Path, writer: Any) -> list[str]:
    start = read_start(entry)
    events = writer(str(folder))
    finished = float(entry.status == "finished")
    # The description is Markdown; indented lines are shown as they are.
    path = entry.path / RECIPE
    recipe = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [f"**{entry.status}** {entry.error}".strip(), "", *(f"    {line}" for line in recipe.splitlines())]
    events.add_scalar("run/finished", finished, 0, wall_time=start, description="\n".join(lines))
    for name, value in list_scores(entry).items():
        events.add_scalar(f"scores/{name}", value, 0, wall_time=start)
    events.close()
    try:
        curves = read_curves(entry)
    except RunError as error:
        return [str(error)]
    for split in dict.fromkeys(curve.split for curve in curves):
        events = writer(str(folder / split))
        for curve in (curve for curve in curves if curve.split == split):
            for epoch, value in curve.points:
                events.add_scalar(curve.name, value, epoch, wall_time=start)
        events.close()
    return []
