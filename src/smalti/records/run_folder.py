"""The run folder: one recipe carried out on one data set."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import RunError
from ..project import CACHE
from ..recipe import Recipe, load_recipe
from ..store import hash_text, now_text, read_json, read_table, write_atomic
from ..store.leftovers import remove_leftovers
from ..types import PREDICTION_COLUMNS
from .environment import Environment, look_at_machine
from .layout import (
    CASES,
    CHECKPOINTS,
    ENSEMBLE,
    ENVIRONMENT,
    FOLDS,
    INNER,
    OUT_OF_FOLD,
    PREDICTIONS,
    RECIPE,
)

FEW_CASES = 3  # of a class: with fewer there may be none to hold back


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One recipe carried out on one data set."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights."""
        return self.path / CHECKPOINTS

    @property
    def predictions(self) -> Path:
        """Folder of the prediction tables."""
        return self.path / PREDICTIONS

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / RECIPE

    def read_recipe(self) -> Recipe:
        """Read the resolved recipe, which must be the one that the run began with.

        Raises:
            RunError: it was changed or damaged since.
            RecipeError: it is missing, or no recipe.
        """
        if self.recipe_path.is_file() and (began := Environment.find(self.path)) is not None:
            text = self.recipe_path.read_text(encoding="utf-8", errors="replace")
            if began.identity.get("recipe") not in (None, hash_text(text)):
                raise RunError(
                    f"{self.recipe_path} is not the recipe that this run began with",
                    fix="bring it back, or give the changed recipe to 'smalti run', which makes another run of it",
                )
        return load_recipe(self.recipe_path)

    def read_cases(self) -> dict[str, str] | None:
        """Read image -> the case that the data names; None where there is no answer by case.

        Raises:
            RunError: the table is damaged, or lacks images of the folds.
        """
        path = self.path / CASES
        if not path.is_file():
            return None
        table = read_table(path, "image", "case")
        cases = dict(zip(table["image"], table["case"], strict=True))
        folds = self.path / FOLDS
        lacking = set(read_table(folds, "image")["image"]) - cases.keys() if folds.is_file() else set()
        if lacking:
            raise RunError(
                f"{path} lacks {len(lacking)} images that {folds} names, such as {min(lacking)}",
                fix="bring it back, or run the same command again under another --name",
            )
        return cases

    def read_out_of_fold(self) -> pd.DataFrame:
        """The out-of-fold predictions; where the folds are known, those of every image of every seed.

        Raises:
            RunError: the table is missing or damaged, or lacks rows.
        """
        return self._read_part(OUT_OF_FOLD, role="outer")

    def read_inner(self) -> pd.DataFrame | None:
        """The predictions of inner images; None where there are none.

        Raises:
            RunError: the table is damaged or lacks rows.
        """
        if not (self.path / INNER).is_file():
            return None
        table = self._read_part(INNER, role="inner")
        return table if len(table) else None

    def _read_part(self, name: str, *, role: str) -> pd.DataFrame:
        """A table of predictions of labelled images, which must be those that the folds name.

        A head that is solved holds back each image that is not outer, so that all of these may be inner; or none of a
        fold, where a class has a single case left to learn from.
        """
        path, folds = self.path / name, self.path / FOLDS
        table = read_table(path, *PREDICTION_COLUMNS)
        if not folds.is_file() or (role == "inner" and table.empty):
            return table
        roles = read_table(folds, "seed", "fold", "image", "case", "label", "role")
        blended = self.path / ENSEMBLE
        # Where an ensemble made one network of those of all seeds, seed and fold are none of theirs.
        joined = blended.is_file() and any(row.get("method") == "average_seeds" for row in read_json(blended))
        keys = [] if joined else ["seed", "fold"]
        found, rest = _name_images(table, keys), roles[roles["role"] != "outer"]
        wanted, unheld = [_name_images(roles[roles["role"] == role], keys)], set()
        if role == "inner":
            wanted.append(_name_images(rest, keys))
            fewest = rest.groupby(["seed", "fold", "label"])["case"].nunique().groupby(["seed", "fold"]).min()
            unheld = set(fewest.index[fewest < FEW_CASES]) if keys else set()
        fits = all(
            any(found.get(key) == part.get(key) for part in wanted) or (key in unheld and key not in found)
            for key in found.keys() | wanted[0].keys()
        )
        if not fits or table.duplicated(["seed", "fold", "image"]).any():
            raise RunError(
                f"{path} has {len(table)} rows, and not those that {folds} names",
                fix=(
                    f"delete {path} and run the same command again; where that does not help, give the run another "
                    "--name"
                ),
            )
        return table


def _name_images(table: pd.DataFrame, keys: list[str]) -> dict[Any, set[str]]:
    """The images of each seed and fold, or of all together without ``keys``."""
    groups = table.groupby(keys)["image"] if keys else [((), table["image"])]
    return {key: set(images.astype(str)) for key, images in groups}


def open_run(
    path: Path,
    *,
    recipe: Recipe,
    identity: Mapping[str, str],
    training: str = "",
    device: Mapping[str, str] | None = None,
    weights: str | None = None,
) -> RunFolder:
    """Make a run folder, or continue the one that is there.

    ``identity`` (data hash, decisions hash, weights hash) and the recipe are written before anything else and must be
    the same when a run is continued. ``device``, ``weights``, what was read of a weights file, and ``training``, the
    hash of all that trained weights depend on, are recorded in ``environment.json``.

    Raises:
        RunError: the folder holds another recipe or other data, or something that is no run.
    """
    run = RunFolder(path)
    remove_leftovers(path, deep=True)
    remove_leftovers(path.parent)
    remove_leftovers(path.parent / CACHE, deep=True)
    wanted = {**identity, "recipe": hash_text(recipe.to_yaml())}
    if run.recipe_path.is_file():
        found = Environment.read(path).identity
        differing = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        if differing:
            raise RunError(
                f"{path} belongs to another experiment (different: {', '.join(differing)})",
                fix="give this run another --name, or delete the folder",
            )
        return run
    # A start that was cut short leaves the first of the two files.
    if path.is_dir() and any(p.name != ENVIRONMENT and p.name[0] != "." for p in path.iterdir()):
        raise RunError(f"{path} exists and is not a run folder", fix="give this run another --name")
    path.mkdir(parents=True, exist_ok=True)
    Environment(
        identity=wanted, training=training, started=now_text(), command=tuple(sys.argv), weights=weights,
        device=dict(device or {}), **look_at_machine().model_dump(),
    ).write(path)  # fmt: skip
    write_atomic(run.recipe_path, recipe.to_yaml())
    return run
