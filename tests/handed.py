"""Models of several recipes that have left home: their runs, the data and the cache are deleted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pages import without_pages
from textures import BARE, UNLABELLED, draw_challenge

FROZEN = "train.finetune.epochs=0"
RECIPES = {
    "finetuned": ("split.seeds=[0,1]", "model.mask_channel=true", "stain.normalise=reinhard"),
    "solved": (
        FROZEN, "model.head=logistic", "model.embedding=stages", "stain.normalise=macenko", "predict.views=2",
        "predict.calibration=temperature", "predict.decision=prior",
    ),
    "attention": (FROZEN, "model.pooler=attention", "model.fusion=concat", "model.coverage_weights=true"),
    "steps": (FROZEN, "tile.outside=blank", "predict.calibration=temperature"),
    "colour": (FROZEN, "model.backbone=described:colour", "model.head=logistic", "tile.source=mask_box"),
    "pair": (FROZEN, "portfolio.members=pair.yaml", "ensemble.method=weighed"),
    "both": ("ensemble.members=[attention, pair]", "ensemble.method=greedy"),
    "joined": ("ensemble.members=[colour, steps]", "ensemble.method=average_seeds"),
}  # fmt: skip
PAIR = """
members:
  - {name: colour, set: [tile.source=whole, "model.backbone=described:colour", model.head=logistic]}
  - {name: network, set: [model.head=ridge, "stain.normalise=macenko"]}
"""


@dataclass(frozen=True)
class Handed:
    """What is left of the runs.

    Attributes:
        models: folder with a model folder of each recipe's name.
        pictures: folder with the images that the runs had to predict, and their masks.
        again: ``model.json`` of recipe ``colour`` after the same run was made again from nothing.
    """

    models: Path
    pictures: Path
    again: bytes

    @property
    def files(self) -> list[Path]:
        """The images to predict."""
        return sorted(self.pictures.glob("img_*.png"))

    @property
    def masks(self) -> list[Path]:
        """The mask of each."""
        return sorted(self.pictures.glob("mask_*.png"))

    def read_wanted(self, name: str) -> pd.DataFrame:
        """The mean over folds and seeds of what the run itself said, one row for each of `files`."""
        table = pd.read_csv(self.models / f"{name}.test.csv")
        assert len(table) >= UNLABELLED
        columns = [column for column in table if column.startswith("score_")]
        return table.groupby("image")[columns].mean().sort_index()


def make_models(lab: Path, home: Path) -> None:
    """Make the runs of all recipes in ``lab``, and take what is needed of them to ``home``."""
    from smalti import workflow
    from smalti.model import export_model

    data, runs = draw_challenge(lab / "data"), lab / "runs"
    (lab / "pair.yaml").write_text(PAIR, encoding="utf-8")
    with without_pages():
        for name, settings in RECIPES.items():
            own = [setting.replace("pair.yaml", str(lab / "pair.yaml")) for setting in settings]
            workflow.run(data, "default", settings=[*BARE, *own], runs=runs, name=name)
            export_model(runs / name, home / "models" / name)
            shutil.copy(runs / name / "predictions" / "test.csv", home / "models" / f"{name}.test.csv")
        workflow.run(data, "default", settings=[*BARE, *RECIPES["colour"]], runs=lab / "others", name="colour")
    shutil.copy(lab / "others" / "colour" / "model" / "model.json", home / "again.json")
    (home / "pictures").mkdir()
    for path in (data / "test_data").iterdir():
        shutil.copy(path, home / "pictures")
