"""Which members of a portfolio a run takes: what fits the data, what weights are at hand, what the time allows.

It is settled once, before anything long, and written into the run folder with the reason of each; a run that goes on
reads it there, so that the speed of the machine on another day changes nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import PartError, RecipeError, RunError, WeightsError
from ...project import SILENT, Project
from ...recipe import AUTO, Member, Recipe, load_portfolio
from ...records import PlannedMember
from ...tile import count_tiles
from ...tile.cut import bound_bag
from ...tile.extent import settle_field
from ...types import Cohort
from ..prepare.settling import settle_recipe
from .forecast import Forecast, Prober

MASKED_FRAC = 0.5  # of the images must have a mask for members that look through masks
SEVERAL, MANY = 2, 8  # tiles of the middle image
USED_FRAC = 0.9  # of the time is planned for; the rest is for what a forecast gets wrong, and for the report
CLOSING_S = 20.0  # of scores and report


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member, and whether it is taken.

    Attributes:
        name, about: as the portfolio says.
        settings: its own, on top of the run's recipe.
        recipe: with them.
        taken: whether it is a member.
        reason: why, or why not.
        forecast: what it costs; None where that was not looked at.
        seconds: of it, without what members before it have made already.
    """

    name: str
    about: str
    settings: tuple[str, ...]
    recipe: Recipe
    taken: bool
    reason: str
    forecast: Forecast | None = None
    seconds: float = 0.0

    def describe(self) -> PlannedMember:
        """Return the row of ``plan.yaml``."""
        cost, known = self.forecast, self.forecast is not None
        return PlannedMember(
            name=self.name,
            about=self.about,
            settings=self.settings,
            taken=self.taken,
            reason=self.reason,
            seconds=round(self.seconds, 1) if known else None,
            tiles=None if cost is None else cost.tiles,
            memory_gb=None if cost is None else round(cost.memory_gb, 3),
            disk_gb=None if cost is None else round(cost.disk_gb, 3),
        )


def settle_members(project: Project, recipe: Recipe, cohort: Cohort, *, used: Callable[[], float]) -> list[Candidate]:
    """Look at each member of the portfolio in its order.

    Args:
        project: its cache is used, and its listener hears how far it is.
        recipe: of the run.
        cohort: with decisions applied.
        used: seconds of the time, up to the moment that it is asked; looking at members takes some, too.

    Raises:
        RecipeError: as `load_portfolio`, or no member fits the data.
        WeightsError: no member can be had.
    """
    from ...train import check_parts, choose_device

    choose_device(recipe.train)  # a device that is not there is told once, not for each member
    listed = load_portfolio(recipe)
    named = recipe.model.backbone != AUTO or recipe.model.weights is not None
    prober, there, spent = Prober(cohort, project.cache), dict[str, str](), CLOSING_S
    left, found, made = 60 * USED_FRAC * recipe.portfolio.minutes, list[Candidate](), set[str]()
    for number, (member, own) in enumerate(listed):
        project.listener.tell("plan", number, len(listed))
        candidate = Candidate(member.name, member.about, member.settings, own, taken=False, reason="")
        try:
            settled = settle_recipe(
                own, cohort.features, listener=SILENT
            )  # training settles it again, and says what it finds
            candidate = _judge(candidate, member, settled, cohort, there)
            if not candidate.reason:
                check_parts(settled)
                candidate = _cost(candidate, settled, prober, made)
        except (WeightsError, PartError, RecipeError) as error:
            if named and not any(setting.startswith("model.") for setting in member.settings):
                raise  # what the user asked for is never passed over
            candidate = replace(candidate, reason=error.message)
        if candidate.forecast is not None:
            rest = left - spent - used()
            late = recipe.portfolio.minutes > 0 and candidate.seconds > rest
            said = f"about {candidate.seconds:.0f} s, {max(0.0, rest):.0f} s are left" if late else ""
            candidate = replace(candidate, taken=not late, reason=said or "fits the data and the time")
        if candidate.taken and candidate.forecast is not None:
            spent += candidate.seconds
            made |= candidate.forecast.shares.keys()
            there[_name_view(settled)] = candidate.name
        found.append(candidate)
    return found if any(candidate.taken for candidate in found) else _take_cheapest(found)


def _take_cheapest(found: list[Candidate]) -> list[Candidate]:
    """The candidates, of which the time allows none, with the cheapest of those that fit the data taken all the same.

    Raises:
        RecipeError: none fits the data.
    """
    fitting = [candidate for candidate in found if candidate.forecast is not None]
    if not fitting:
        reasons = "; ".join(f"{c.name}: {c.reason}" for c in found)
        raise RecipeError(
            f"no member can be had ({reasons})",
            fix="another list of members (portfolio.members) and another --name, or --recipe quick",
        )
    cheapest = min(fitting, key=lambda candidate: candidate.seconds)
    reason = f"{cheapest.reason}; taken all the same: no member is cheaper, and none fits the time"
    return [replace(c, taken=True, reason=reason) if c is cheapest else c for c in found]


def cost_recipe(project: Project, recipe: Recipe, cohort: Cohort) -> Candidate:
    """A recipe without a portfolio as the one member that it is.

    Raises:
        WeightsError: its weights cannot be had.
    """
    one = Candidate(recipe.preset, "this recipe alone", (), recipe, taken=True, reason="no portfolio is asked for")
    return _cost(
        one, settle_recipe(recipe, cohort.features, listener=project.listener), Prober(cohort, project.cache), set()
    )


def read_members(recipe: Recipe, rows: Sequence[PlannedMember], *, where: Path) -> list[Candidate]:
    """Return the members as an earlier call has settled them.

    Raises:
        RunError: what was written names other members than the portfolio has.
    """
    listed = {member.name: own for member, own in load_portfolio(recipe)}
    known = {row.name: row for row in rows}
    if known.keys() != listed.keys():
        raise RunError(f"{where} names other members than the portfolio", fix="give this run another --name")
    return [
        Candidate(name, row.about, row.settings, listed[name], row.taken, row.reason, seconds=row.seconds or 0.0)
        for name, row in ((name, known[name]) for name in listed)
    ]


def _judge(candidate: Candidate, member: Member, settled: Recipe, cohort: Cohort, there: dict[str, str]) -> Candidate:
    """The candidate with a reason where something speaks against it."""
    from ...models import read_input_px
    from ...train import choose_device

    masked = sum(s.mask_path is not None for s in cohort.labelled) / len(cohort.labelled)
    if "masks" in member.needs and masked < MASKED_FRAC:
        return replace(candidate, reason=f"{masked:.0%} of the images have a mask")
    least = MANY if "many_tiles" in member.needs else SEVERAL if "several_tiles" in member.needs else 1
    if least > 1:
        if cohort.features is not None:
            counts = count_tiles(cohort.labelled)
        else:
            tile_px = settled.tile.size_px or read_input_px(settled.model)
            tile = settle_field(settled.tile.model_copy(update={"source": "tiles"}), cohort.labelled, tile_px=tile_px)
            counts = [bound_bag(s, tile, tile_px=tile.size_px or tile_px) for s in cohort.labelled]
        if (count := statistics.median(counts)) < least:
            return replace(candidate, reason=f"the middle image has {count:g} tile(s), fewer than {least}")
    if "accelerator" in member.needs and choose_device(settled.train).accelerator == "cpu":
        return replace(candidate, reason="it learns through the whole backbone, and no accelerator is at hand")
    if (same := there.get(_name_view(settled))) is not None:
        return replace(candidate, reason=f"the same as {same} on this data")
    return candidate


def _name_view(recipe: Recipe) -> str:
    """All that a member learns from; members that share it are one."""
    return recipe.model_dump_json(include={"tile", "stain", "model", "train", "predict"})


def _cost(candidate: Candidate, settled: Recipe, prober: Prober, made: set[str]) -> Candidate:
    forecast = prober.forecast(settled)
    seconds = forecast.seconds - sum(cost for name, cost in forecast.shares.items() if name in made)
    return replace(candidate, forecast=forecast, seconds=seconds)
