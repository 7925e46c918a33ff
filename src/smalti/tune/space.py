"""What a search may change: knobs of the recipe with ranges or choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from pydantic import Field, model_validator

from ..errors import RecipeError
from ..recipe import Recipe, Section, load_document, load_recipe
from ..records.studies.search import KnobValue


class Knob(Section):
    """One line of a space: a range or choices."""

    knob: str = Field(description="section.knob, as --set")
    low: float | None = Field(None, description="least value of a range")
    high: float | None = Field(None, description="greatest value of a range")
    log: bool = Field(False, description="whether the range is logarithmic, as for rates")
    whole: bool = Field(False, description="whole numbers only")
    steps: int = Field(4, ge=2, description="values of a range in a grid, and on a curve")
    choices: tuple[KnobValue, ...] = Field((), description="values instead of a range")

    @model_validator(mode="after")
    def _check(self) -> Knob:
        is_range = self.low is not None and self.high is not None and self.low < self.high
        if bool(self.choices) is is_range or (self.log and (self.low or 0) <= 0):
            raise ValueError(f"{self.knob}: give low below high (above 0 with log), or choices")
        if len(self.choices) == 1:
            raise ValueError(f"{self.knob}: one choice leaves nothing to choose")
        return self

    def describe_distribution(self) -> optuna.distributions.BaseDistribution:
        """Return how optuna draws the knob."""
        if self.choices:
            return optuna.distributions.CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.whole:
            return optuna.distributions.IntDistribution(round(self.low), round(self.high), log=self.log)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    def list_values(self) -> list[KnobValue]:
        """Return the values for a grid or a curve: the choices, or ``steps`` even steps of the range."""
        if self.choices:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        space = np.geomspace if self.log else np.linspace
        values = space(self.low, self.high, self.steps).tolist()
        return sorted({round(v) for v in values}) if self.whole else values


class Space(Section):
    """A space file."""

    about: str = Field("", description="what the search asks")
    preset: str = Field("quick", description="preset or recipe file whose knobs are changed")
    settings: tuple[str, ...] = Field((), alias="set", description="on top of it, for all trials")
    knobs: tuple[Knob, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Space:
        names = [knob.knob for knob in self.knobs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: there twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the knobs."""
        return tuple(knob.knob for knob in self.knobs)

    def describe_distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return how optuna draws each knob."""
        return {knob.knob: knob.describe_distribution() for knob in self.knobs}

    def build_recipe(self, values: Mapping[str, Any], settings: tuple[str, ...] = ()) -> Recipe:
        """Return the recipe with knobs at these values; they override ``settings``.

        Raises:
            RecipeError: a value that does not fit, alone or with the others.
        """
        turned = [f"{name}={yaml.safe_dump(value).splitlines()[0]}" for name, value in values.items()]
        return load_recipe(self.preset, settings=[*self.settings, *settings, *turned])


def load_space(source: str | Path) -> Space:
    """Read a built-in space by name, or a space file, and try the ends of every knob.

    Raises:
        RecipeError: no such space, no YAML, or knobs and values that do not fit; all that is wrong at once.
    """
    space = load_document(source, "space", model=Space)
    faults = []
    for knob in space.knobs:
        for value in (knob.list_values()[0], knob.list_values()[-1]):
            try:
                space.build_recipe({knob.knob: value})
            except RecipeError as error:
                faults.append(str(error))
    if faults:
        raise RecipeError("\n".join([f"space '{source}' does not fit:", *dict.fromkeys(faults)]))
    return space
