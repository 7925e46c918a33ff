"""What a peer gets of one data set, and what it answers.

numpy, pandas and the standard library alone, so that it runs in the environment of any tool.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

KEYS = ("seed", "fold", "image")
TEXTS = ("path", "image", "label", "case", "role")


@dataclass(frozen=True)
class Task:
    """The folds of one data set.

    Attributes:
        table: one row for each image of each fold: path, image, label, case, seed, fold, role, position. The label of
            an ``outer`` row is empty: it is asked for. ``position`` is the row of the image in the features.
        classes: names, in score order.
        minutes: that the peer may take for all folds together; 0 for no limit.
        backbone: timm's name of the network whose weights and features smalti uses.
        size_px: side of its input.
        mean, std: by which its input is normalised.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    minutes: float
    backbone: str
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def list_folds(self) -> list[pd.DataFrame]:
        """The rows of each seed and fold."""
        return [rows for _, rows in self.table.groupby(["seed", "fold"])]

    def answer(self, rows: pd.DataFrame, scores: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
        """The answer for rows of the table: scores (n, C) of the named classes, 0 for a class that was never seen."""
        found = pd.DataFrame(scores, columns=list(names)).reindex(columns=list(self.classes), fill_value=0.0)
        return pd.concat([rows[list(KEYS)].reset_index(drop=True), found.add_prefix("score_")], axis=1)

    def write(self, folder: Path) -> None:
        """Write the table and the rest of the task."""
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(folder / "table.csv", index=False)
        rest = {name: value for name, value in asdict(self).items() if name != "table"}
        (folder / "task.json").write_text(json.dumps(rest, indent=1), encoding="utf-8")


def read_task(folder: Path) -> Task:
    """Read what `Task.write` wrote."""
    table = pd.read_csv(folder / "table.csv", dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)
    rest = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    return Task(table, **{name: tuple(v) if isinstance(v, list) else v for name, v in rest.items()})


def write_answer(folder: Path, answers: Iterable[pd.DataFrame], *, note: str) -> None:
    """Write the scores of all outer rows, and a sentence about how they came to be."""
    pd.concat(answers, ignore_index=True).to_csv(folder / "answer.csv", index=False)
    (folder / "note.txt").write_text(note, encoding="utf-8")
