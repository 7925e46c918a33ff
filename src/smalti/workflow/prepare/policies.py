"""Policies of augmentation between runs: who may use which, and what a run says about the operations it drew from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ...errors import RecipeError
from ...project import Listener, Project
from ...recipe import Recipe
from ...records import RunFolder
from ...records.layout import HASHES, OPERATIONS
from ...registry import read_options
from ...store import hash_files, hash_text
from ...types import Split
from .ground import Ground

FILE = "policy"  # of `AUGMENTATIONS`


def hash_images(project: Project, ground: Ground) -> dict[str, str]:
    """Return image -> hash of its file, of labelled images."""
    samples = ground.cohort.labelled
    hashes = hash_files([s.path for s in samples], memo=project.cache / HASHES)
    return {s.image: hashes[s.path] for s in samples}


def check_policy(
    recipe: Recipe, ground: Ground, splits: tuple[Split, ...], *, digests: Mapping[str, str]
) -> dict[str, str]:
    """What a run stands on besides: the hash of the policy file that its recipe names, nothing where it names none.

    Raises:
        PartError: no such file, or no policy in it.
        RecipeError: images that chose the policy would score what is learned with it.
    """
    from ...samples import read_policy

    finetune = recipe.train.finetune
    if finetune.augmentation != FILE or finetune.policy_search is not None or not finetune.epochs:
        return {}
    path = Path(str(read_options(finetune.augmentation_options).get("file", "")))
    policy = read_policy(path)
    rows = ground.cohort.labelled
    outer = {rows[i].image for split in splits for i in split.outer}
    both = sorted(image for image in outer if digests[image] in policy.seen)
    if both:
        raise RecipeError(
            f"{len(both)} images that would score have chosen the policy {path} ({', '.join(both[:3])}, ...): what "
            "chooses never scores",
            fix="learn one in each fold, --set train.finetune.policy_search=density, or use the file on other images",
        )
    return {"policy": hash_text(path.read_text(encoding="utf-8"))}


def warn_of_operations(run: RunFolder, *, listener: Listener) -> None:
    """Say which operations of the augmentation take the class away from a network that has not learned with them."""
    path = run.path / OPERATIONS
    if not path.is_file():
        return
    table = pd.read_csv(path)
    folds = len(table.groupby(["seed", "fold"]))
    for name, rows in table[table.destroys].groupby("operation", sort=True):
        listener.say(
            f"operation {name} at amount {rows.amount.iloc[0]:g} takes {rows.fall.median():.2f} of the balanced "
            f"accuracy of inner images, more than noise, in {len(rows)} of {folds} folds: it may destroy the class"
        )
