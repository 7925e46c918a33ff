"""The folds of a run: made before anything was left out, so that runs with other decisions have the same."""

from __future__ import annotations

from contextlib import suppress

from ...errors import SplitError
from ...project import Listener
from ...recipe import Recipe
from ...types import Split
from .ground import Ground


def make_splits(ground: Ground, recipe: Recipe, *, listener: Listener) -> tuple[Split, ...]:
    """Return the folds of the whole cohort without what was left out; made anew where that would empty a part.

    What makes them say less is said: folds that other runs do not have, outer parts that lack a class.

    Raises:
        SplitError: too few cases of a class.
    """
    from ...samples import find_lacking, restrict_splits, split_cases

    splits: tuple[Split, ...] | None = None
    # What was relabelled may have given a class the cases that it lacked.
    with suppress(SplitError):
        splits = restrict_splits(split_cases(ground.whole, recipe.split), whole=ground.whole, cohort=ground.cohort)
    if splits is None:
        if ground.decisions:
            listener.say("with these decisions the folds have to be made anew; runs without them have other folds")
        splits = split_cases(ground.cohort, recipe.split)
    for name, count in find_lacking(ground.cohort, splits).items():
        held = len({s.case for s in ground.cohort.labelled if s.label == name})
        listener.say(
            f"{count} of {len(splits)} outer parts hold no image of class '{name}' ({held} cases): scores are pooled "
            "over all parts, but these say nothing about it"
        )
    return splits
