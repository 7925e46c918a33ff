"""What a ladder is: named one-line changes, each on the rung below or on a named rung."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, model_validator

from ..audit.decisions import ACTIONS
from ..errors import RecipeError
from ..evaluate import MARGIN
from ..recipe import Recipe, Section, load_document, load_recipe, settle_choices
from ..types import Action
from ..workflow import SILENT, Listener

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class Rung(Section):
    """One line of a ladder file."""

    name: str = Field(description="short name: a-z, 0-9 and -")
    change: str = Field("", description="what it changes, in words; by default its settings")
    settings: tuple[str, ...] = Field((), alias="set", description="section.knob=value, as --set")
    # Not "on", which YAML reads as true.
    on: str | None = Field(None, alias="from", description="name of the rung that it changes; null takes the one below")
    decisions: bool | tuple[Action, ...] | None = Field(
        None, description="whether decisions act, or the actions that do; null as in the rung it changes"
    )
    members: tuple[str, ...] = Field((), description="rungs that it combines instead of training")


class Ladder(Section):
    """A ladder file."""

    about: str = Field("", description="what the ladder asks")
    preset: str = Field("default", description="preset or recipe file of the first rung")
    settings: tuple[str, ...] = Field((), alias="set", description="on top of it, for all rungs")
    margin: float = Field(
        MARGIN, ge=0, lt=1, description="a step whose whole interval is within it is practically equal; 0 does not ask"
    )
    rungs: tuple[Rung, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Ladder:
        faults, seen = [], set()
        for position, rung in enumerate(self.rungs):
            named = [*([rung.on] if rung.on else []), *rung.members]
            if not NAME.fullmatch(rung.name):
                faults.append(f"rung '{rung.name}': a name is made of a-z, 0-9 and -")
            if rung.name in seen:
                faults.append(f"rung '{rung.name}' is there twice")
            faults += [f"rung '{rung.name}' names '{n}', which is no rung below it" for n in named if n not in seen]
            if position and not rung.settings and not rung.members and rung.decisions is None:
                faults.append(f"rung '{rung.name}' changes nothing: give it set, decisions or members")
            seen.add(rung.name)
        if faults:
            raise ValueError("; ".join(faults))
        return self


@dataclass(frozen=True, slots=True)
class Step:
    """A rung with everything that it inherits.

    Attributes:
        name, change, on: as in the file; ``on`` is None for the first rung only.
        settings: its own.
        recipe: with all that it inherits; without the members of an ensemble, whose runs have names of their own.
        actions: decisions that act, those in ``decisions.csv`` and those that a rule accepts; none for no decision.
        members: rungs that it combines.
    """

    name: str
    change: str
    on: str | None
    settings: tuple[str, ...]
    recipe: Recipe
    actions: tuple[Action, ...]
    members: tuple[str, ...]


def load_ladder(source: str | Path) -> Ladder:
    """Read a built-in ladder by name, or a ladder file.

    Raises:
        RecipeError: no such ladder, no YAML, or rungs that do not fit together; all that is wrong at once.
    """
    return load_document(source, "ladder", model=Ladder)


def resolve_ladder(
    ladder: Ladder, *, settings: Iterable[str] = (), until: str | None = None, listener: Listener = SILENT
) -> tuple[Step, ...]:
    """The rungs with what they inherit; ``settings`` hold for all, below the rungs' own; the last is ``until``.

    What ``auto`` stands for is said. The head is one for all rungs, also those above ``until``: solved only where none
    of them asks for steps.

    Raises:
        RecipeError: knobs that do not exist, of all rungs at once, or no rung of that name.
    """
    names = [rung.name for rung in ladder.rungs]
    if until is not None and until not in names:
        raise RecipeError(f"the ladder has no rung '{until}'", fix=f"one of {', '.join(names)}")
    base = (*ladder.settings, *settings)
    load_recipe(ladder.preset, settings=base)  # so that a fault in what all rungs share is said once
    inherited: dict[str, tuple[str, ...]] = {}
    acting: dict[str, tuple[Action, ...]] = {}
    steps: list[Step] = []
    faults: list[str] = []
    below: str | None = None
    for rung in ladder.rungs:
        on = rung.on or below
        below = rung.name
        inherited[rung.name] = (*(inherited[on] if on else base), *rung.settings)
        named = rung.decisions
        own = named if isinstance(named, tuple) else () if named is False else ACTIONS
        acting[rung.name] = own if named is not None or not on else acting[on]
        try:
            recipe = load_recipe(ladder.preset, settings=inherited[rung.name])
        except RecipeError as error:
            faults.append(f"rung '{rung.name}': {error}")
            inherited[rung.name] = inherited[on] if on else base  # said once, not by every rung above
            continue
        change = rung.change or ", ".join(rung.settings)
        steps.append(Step(rung.name, change, on, rung.settings, recipe, acting[rung.name], rung.members))
    if faults:
        raise RecipeError("\n".join(faults))
    recipes, notes = settle_choices([step.recipe for step in steps])
    for note in notes:
        listener.say(note)
    settled = [replace(step, recipe=recipe) for step, recipe in zip(steps, recipes, strict=True)]
    return tuple(settled[: names.index(until) + 1 if until else None])
