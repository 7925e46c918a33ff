"""Files that list the members of a portfolio: recipes that differ from the run's own in a few settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ..errors import RecipeError
from .documents import load_document
from .loading import change_recipe
from .recipe import Recipe
from .section import Section
from .sections import Portfolio

STANDARD, FEATURES = "standard", "features"  # built-in portfolios: of pictures, and of features made elsewhere
Need = Literal["masks", "several_tiles", "many_tiles", "accelerator"]
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
OWN = ("tile", "stain", "model", "train", "predict")  # sections in which members may differ


class Member(Section):
    """One line of a portfolio file."""

    name: str = Field(description="short name: a-z, 0-9 and -")
    about: str = Field("", description="what it sees that others do not, in words")
    settings: tuple[str, ...] = Field((), alias="set", description="section.knob=value on top of the run's recipe")
    needs: tuple[Need, ...] = Field(
        (),
        description="masks: most images have one; several_tiles, many_tiles: the middle image has 2, 8 tiles or more; "
        "accelerator: a GPU is at hand",
    )


class MemberList(Section):
    """A portfolio file: members from cheap to dear; where the time is short the last are left out."""

    about: str = Field("", description="what the portfolio is for")
    members: tuple[Member, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> MemberList:
        names = [member.name for member in self.members]
        faults = [
            f"member '{name}': a name is made of a-z, 0-9 and -, 60 at most"
            for name in names
            if not NAME.fullmatch(name)
        ]
        faults += [
            f"member '{member.name}' sets {setting}, and members differ in {', '.join(OWN)} alone"
            for member in self.members
            for setting in member.settings
            if setting.partition(".")[0].strip() not in OWN
        ]
        faults += [f"member '{name}' is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def settle_portfolio(recipe: Recipe, *, features: bool) -> Recipe:
    """Return the recipe with the built-in portfolio for features in the place of that for pictures."""
    if not features or recipe.portfolio.members != STANDARD:
        return recipe
    return recipe.model_copy(update={"portfolio": recipe.portfolio.model_copy(update={"members": FEATURES})})


def check_portfolio(recipe: Recipe) -> None:
    """Check the members that a recipe names, and that it bounds no time where it names none.

    Raises:
        RecipeError: as `load_portfolio`, or ``portfolio.minutes`` is set, and there are no members that would read it.
    """
    if recipe.portfolio.members is not None:
        load_portfolio(recipe)
    elif (minutes := recipe.portfolio.minutes) != Portfolio().minutes:
        raise RecipeError(
            f"portfolio.minutes={minutes:g} (--minutes) bounds the time of a portfolio, and this recipe is alone",
            fix="leave it out, or --recipe auto",
        )


def load_portfolio(recipe: Recipe) -> tuple[tuple[Member, Recipe], ...]:
    """Return the members that a recipe names, each with its own recipe: the run's, alone, with the member's settings.

    Raises:
        RecipeError: the recipe names none, no such portfolio, or settings that do not fit, of all members at once.
    """
    if recipe.portfolio.members is None:
        raise RecipeError("the recipe names no portfolio", fix="--recipe auto, or --set portfolio.members=standard")
    listed = load_document(recipe.portfolio.members, "portfolio", model=MemberList)
    alone = recipe.model_copy(update={"portfolio": Portfolio()})
    found, faults = [], []
    for member in listed.members:
        try:
            found.append((member, change_recipe(alone, member.settings, where=f"member '{member.name}'")))
        except RecipeError as error:
            faults.append(str(error))
    if faults:
        raise RecipeError("\n".join([f"portfolio '{Path(recipe.portfolio.members).name}' does not fit:", *faults]))
    return tuple(found)
