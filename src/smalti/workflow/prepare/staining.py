"""Stain of a run: the reference of each fold, kept in the run folder, and what is left as it is, counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...project import Listener
from ...recipe import Recipe
from ...records import RunFolder, Stains, log_event
from ...tile import TileStore
from ...types import Cohort, Split

if TYPE_CHECKING:
    from ...samples import StainMaps


def fit_stains(cohort: Cohort, store: TileStore, recipe: Recipe, *, splits: tuple[Split, ...]) -> dict[str, StainMaps]:
    """Name of a split -> what happens to the stain of each image; nothing of what a fold holds out is looked at."""
    from ...samples import fit_maps

    stains = {}
    for split in splits:
        samples = [cohort.labelled[i] for i in np.union1d(split.train, split.inner)]
        bags = np.array([store.position(s.image) for s in samples], dtype=np.int64)
        stains[split.name] = fit_maps(store, recipe.stain.normalise, bags=bags, cases=[s.case for s in samples])
    return stains


def record_stains(
    run_folder: RunFolder, cohort: Cohort, stains: Mapping[str, StainMaps], *, method: str, listener: Listener
) -> None:
    """Write ``stain.json`` and say how many images and tiles are left as they are."""
    first = next(iter(stains.values()))
    bags = np.array([first.store.position(s.image) for s in cohort.samples], dtype=np.int64)
    images, tiles = first.find_left(bags)
    summary = describe_left(images, tiles, total=len(bags))
    references = {name: None if s.reference is None else s.reference.tolist() for name, s in stains.items()}
    Stains(normalise=method, summary=summary, left=images, left_tiles=tiles, references=references).write(
        run_folder.path
    )
    log_event(run_folder.path, "stain", normalise=method, summary=summary)
    listener.say(f"stain ({method}): {summary}")
    if None in references.values():
        listener.say("in some folds no training image has a stain that can be told; nothing is normalised there")


def describe_left(images: Mapping[str, str], tiles: Mapping[str, int], *, total: int) -> str:
    """In words: images by name and reason, tiles of the other images by reason."""
    if not images and not tiles:
        return f"all {total} images were normalised, with all their tiles."
    reasons = list(images.values())
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    first = f"{len(images)} of {total} images were left as they are{_list_counts(counts)}"
    second = f"{sum(tiles.values())} tiles of the other images{_list_counts(tiles)}"
    return f"{first}; so were {second}." if tiles else f"{first}."


def _list_counts(counts: Mapping[str, int]) -> str:
    return f": {', '.join(f'{number} {reason}' for reason, number in counts.items())}" if counts else ""
