"""A portfolio: ``plan.yaml``, ``clock.json`` and, in the folder of a member, ``done.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import pandas as pd
import yaml
from pydantic import ValidationError

from ..errors import RunError
from ..notation import read_yaml
from ..store import hash_text, write_atomic, write_table
from .layout import CLOCK, DONE, MEMBERS, PLAN
from .record import Part, Record, describe_fault

SEAL = "hash"  # of all above it, in the last line


class PlanData(Part):
    """The data that a plan is about; ``classes`` counts images, ``middle_size_px`` is (height, width) or 0."""

    labelled: int
    cases: int
    unlabelled: int
    masks: int
    middle_size_px: tuple[int, int]
    classes: dict[str, int]


class Expectation(Part):
    """What so many cases can show; both ranges from images that count alone to cases that count once."""

    interval_width: tuple[float, float]
    smallest_difference: tuple[float, float]
    reason: str


class PlanChoice(Part):
    """A value that was derived, why, and the source of the rule."""

    what: str
    value: int | str | tuple[int, ...] | None
    reason: str
    source: str


class Cost(Part):
    """What a run is expected to cost; ``minutes`` is what it has, 0 for any time."""

    minutes: float
    seconds: float
    memory_gb: float
    disk_gb: float


class PlannedMember(Part):
    """A member, whether it is taken, and why; the cost is None where it was not looked at."""

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"seconds", "tiles", "memory_gb", "disk_gb"})

    name: str
    about: str
    settings: tuple[str, ...]
    taken: bool
    reason: str
    seconds: float | None = None
    tiles: int | None = None
    memory_gb: float | None = None
    disk_gb: float | None = None


class Plan(Record):
    """``plan.yaml``: what a recipe became for this data and this machine; its last line is a hash of all others."""

    FILE: ClassVar[str] = PLAN
    FIX: ClassVar[str] = "give this run another --name"

    data: PlanData
    expect: Expectation
    choices: tuple[PlanChoice, ...]
    forecast: Cost
    members: tuple[PlannedMember, ...]

    @classmethod
    def read_file(cls, path: Path) -> Self:
        """Read a plan.

        Raises:
            RunError: it is missing, damaged, or was changed since it was written.
            RecipeError: it is no YAML.
        """
        content = read_yaml(path, kind="plan", fix=cls.FIX)
        if not isinstance(content, dict) or content.pop(SEAL, None) != hash_text(_spell(content)):
            raise RunError(
                f"{path} is not the plan that this run began with: what is chosen by hand after scores are known "
                f"would be chosen by them",
                fix=f"bring it back, or {cls.FIX}",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RunError(f"{path} is damaged: {describe_fault(error)}", fix=cls.FIX) from None

    def write_file(self, path: Path) -> Path:
        """Write a plan atomically."""
        text = _spell(self.model_dump(mode="json"))
        return write_atomic(path, text + f"{SEAL}: {hash_text(text)}\n")


def _spell(content: object) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


class UsedTime(Record):
    """``clock.json``: seconds that a run has used over all calls, and the most memory that it held."""

    FILE: ClassVar[str] = CLOCK

    seconds: float
    peak_memory_gb: float


class Done(Record):
    """``done.json``: a member is finished, and how long it took."""

    FILE: ClassVar[str] = DONE

    seconds: float


class MemberRow(Part):
    """A row of ``members.csv``: a member, what it was to cost and took, how much it counts, what it scores alone."""

    member: str
    status: Literal["done", "failed", "left out"] = "left out"
    reason: str
    forecast_s: float
    seconds: float | None = None
    weight: float | None = None
    macro_f1: float | None = None
    low: float | None = None
    high: float | None = None
    inner_macro_f1: float | None = None


def write_members(folder: Path, rows: Sequence[MemberRow]) -> Path:
    """Write ``members.csv`` of a run folder."""
    table = pd.DataFrame([dict(row) for row in rows], columns=list(MemberRow.model_fields))
    return write_table(folder / MEMBERS, table)
