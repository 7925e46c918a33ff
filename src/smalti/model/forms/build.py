"""From a model folder to what its form takes: one module, and what a tile is.

A form holds networks and nothing else, so that what happens to pixels before them must be one and the same: tiles cut
at full resolution, one size, one mean and deviation, no stain mapped, no mask. Whatever is not so is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...errors import PartError
from ...models import (
    Backbone,
    Network,
    assemble_network,
    fill_network,
    is_described,
    looks_at_places,
    restore_backbone,
)
from ...predict.rules import Rule
from ...recipe import Recipe
from ...records import ModelMember, ModelRecord, NetworkRecord
from ...records.outgoing.model import JOINED
from ...types import InputSpec
from ..bundle import iterate_voters, read_model, read_recipes, read_weights
from ..scorer import Mixture, Scorer, Vote


@dataclass(frozen=True, slots=True)
class Built:
    """A model as one module.

    Attributes:
        scorer: all networks and rules.
        tile_px: side of a tile as the networks take it.
        field_px: side of the square of an image that a tile shows, in pixels of the image.
        spec: mean and standard deviation.
        mpp: microns per pixel of the images; None where nothing says it.
        architecture: of the first backbone, as timm calls it.
        needs_place: a pooler looks at where tiles lie, so that bags of more than one tile cannot be scored.
    """

    record: ModelRecord
    scorer: Scorer
    tile_px: int
    field_px: int
    spec: InputSpec
    mpp: float | None
    architecture: str
    needs_place: bool


def build_scorer(folder: Path, *, member: str | None = None, network: str | None = None) -> Built:
    """Build the module of a model, of one member of it, or of one network of that, such as ``fold0-seed0``.

    Raises:
        RunError: the folder holds no whole model.
        PartError: a form cannot hold it; with every reason at once. No member or network is called so.
    """
    record = read_model(folder)
    recipes = read_recipes(folder, record)
    found = _find_member(record, member)
    top = found or record.members[-1]
    by_name = {one.name: one for one in record.members}
    leaves = list(iterate_voters(top, by_name))
    if reasons := sorted({why for leaf in leaves for why in _list_obstacles(leaf, recipes[leaf.name])}):
        raise PartError(
            f"{top.name} cannot be written so, since a form holds networks alone: {'; '.join(reasons)}",
            fix="'smalti predict MODEL FOLDER' does all of it" + _offer_members(record, leaves, recipes),
        )
    if found is None:  # told after what no name would help
        names = ", ".join(one.name.removeprefix(f"{record.name}/") for one in record.members)
        raise PartError(f"the model has no member '{member}'", fix=f"one of {names}")
    if network is not None:
        top = by_name[top.name] = _keep_network(top, network)
        leaves = [top]
    inputs = {_describe_input(leaf, recipes[leaf.name]) for leaf in leaves}
    if len(inputs) > 1:
        raise PartError(
            f"the members of {top.name} take {len(inputs)} different inputs: "
            + "; ".join(f"{px} px of {field} px, mean {mean}" for px, field, mean, *_ in sorted(inputs, key=str)),
            fix=_offer_members(record, leaves, recipes).removeprefix(", or ") or "'smalti predict MODEL FOLDER'",
        )
    first = leaves[0]
    tile, backbone = recipes[first.name].tile, first.backbone
    assert backbone is not None  # of every leaf
    assert first.tile_px is not None
    size = backbone.spec.size_px if backbone.spec.fixed else first.tile_px
    given = 0 if record.features is None else record.features.size
    assembly = _Assembly(folder, recipes, record.classes, by_name, size=given)
    scorer = assembly.assemble(top)
    mpp = tile.mpp or tile.image_mpp or (record.mpp[1] if record.mpp and record.mpp[0] == record.mpp[2] else None)
    return Built(
        record, scorer, size, tile.field_px or first.tile_px, backbone.spec, mpp, backbone.architecture,
        assembly.needs_place,
    )  # fmt: skip


def _find_member(record: ModelRecord, name: str | None) -> ModelMember | None:
    if name is None:
        return record.members[-1]
    # The name of the whole model may be left out: members of a portfolio are NAME/member.
    found = (one for one in record.members if name in (one.name, one.name.removeprefix(f"{record.name}/")))
    return next(found, None)


def _keep_network(member: ModelMember, name: str) -> ModelMember:
    """Return the member with one of its networks alone."""
    names = [f"fold{one.fold}-seed{one.seed}" for one in member.networks]
    if name not in names:
        raise PartError(
            f"{member.name} has no network '{name}'", fix=f"one of {', '.join(names)}" if names else "--member first"
        )
    kept = member.networks[names.index(name)]
    rules = tuple(rule for rule in member.rules if (rule.seed, rule.fold) == (kept.seed, kept.fold))
    return member.model_copy(update={"networks": (kept,), "rules": rules})


def _list_obstacles(member: ModelMember, recipe: Recipe) -> Iterator[str]:
    name, model, tile = member.name, recipe.model, recipe.tile
    if is_described(model.backbone):
        yield f"{name} measures {model.backbone}, which is no network"
    if recipe.stain.normalise != "none":
        yield f"{name} maps the stain of each image (stain.normalise={recipe.stain.normalise})"
    if model.mask_channel or model.fusion is not None or model.coverage_weights:
        yield f"{name} reads the mask inside the network"
    if tile.source != "tiles":
        yield f"{name} shrinks whole images (tile.source={tile.source})"
    if tile.outside != "keep":
        yield f"{name} changes what lies outside the mask (tile.outside={tile.outside})"
    if len(tile.magnifications) > 1:
        yield f"{name} looks at {len(tile.magnifications)} magnifications of one place"


def _describe_input(member: ModelMember, recipe: Recipe) -> tuple[object, ...]:
    assert member.backbone is not None
    spec, tile = member.backbone.spec, recipe.tile
    return member.tile_px, tile.field_px or member.tile_px, spec.mean, spec.std, tile.mpp, spec.fixed and spec.size_px


def _offer_members(record: ModelRecord, leaves: list[ModelMember], recipes: Mapping[str, Recipe]) -> str:
    able = [leaf.name for leaf in leaves if not list(_list_obstacles(leaf, recipes[leaf.name]))]
    names = [name.removeprefix(f"{record.name}/") for name in able if name != record.name]
    return f", or --member with one of {', '.join(names)}, which is another classifier" if names else ""


class _Assembly:
    """Networks of a model by name; a frozen backbone is built once, however many networks read it."""

    def __init__(
        self,
        folder: Path,
        recipes: Mapping[str, Recipe],
        classes: tuple[str, ...],
        by_name: Mapping[str, ModelMember],
        *,
        size: int,
    ) -> None:
        self.folder, self.recipes, self.classes, self.by_name = folder, recipes, classes, by_name
        self.size = size
        self.backbones: list[torch.nn.Module] = []
        self.known: dict[object, tuple[int, Backbone]] = {}
        self.needs_place = False

    def assemble(self, member: ModelMember) -> Scorer:
        """Return the module of the whole answer of a member: the mean over its folds and seeds."""
        joined = bool(member.blends) and member.blends[0].method == JOINED
        rules = [rule for rule in member.rules if (rule.seed, rule.fold) == (0, 0)] if joined else member.rules
        nodes = [self._join(member, rule.seed, rule.fold) for rule in rules]
        answer = nodes[0] if len(nodes) == 1 else Mixture(nodes, [1 / len(nodes)] * len(nodes), self._plain())
        return Scorer(self.backbones, answer, size=self.size)

    def _plain(self) -> Rule:
        return Rule(1.0, (1.0,) * len(self.classes))

    def _join(self, member: ModelMember, seed: int, fold: int) -> Vote | Mixture:
        """Return what a member says in one fold and seed."""
        found = next(rule for rule in member.rules if (rule.seed, rule.fold) == (seed, fold))
        rule = Rule(found.temperature, tuple(found.weights[name] for name in self.classes))
        if member.networks:
            network = next(one for one in member.networks if (one.seed, one.fold) == (seed, fold))
            return self._vote(member, network, rule)
        blend = next(one for one in member.blends if (one.seed, one.fold) == (seed, fold) or one.method == JOINED)
        members = [self.by_name[name] for name in member.members]
        if blend.method == JOINED:
            parts = [self._join(one, r.seed, r.fold) for one in members for r in one.rules]
            return Mixture(parts, [1 / len(parts)] * len(parts), rule)
        blend = next(one for one in member.blends if (one.seed, one.fold) == (seed, fold))
        shares = blend.weights or dict.fromkeys(member.members, 1 / len(members))
        parts = [self._join(one, seed, fold) for one in members if shares[one.name] > 0]
        kept = [shares[one.name] for one in members if shares[one.name] > 0]
        return Mixture(parts, kept, Rule(blend.temperature * rule.temperature, rule.weights))

    def _vote(self, member: ModelMember, network: NetworkRecord, rule: Rule) -> Vote:
        recipe, described = self.recipes[member.name].model, member.backbone
        assert described is not None
        frozen = described.weights
        key = (frozen, described.architecture, str(recipe.norm), recipe.embedding) if frozen else network.weights
        if key not in self.known:
            weights = read_weights(self.folder / frozen) if frozen else None
            backbone = restore_backbone(
                recipe, architecture=described.architecture, options=described.options, features=described.features,
                spec=described.spec, weights=weights,
            )  # fmt: skip
            self.known[key] = (len(self.backbones), backbone)
            self.backbones.append(backbone.module)
        position, backbone = self.known[key]
        filled: Network = fill_network(
            assemble_network(recipe, backbone, classes=len(self.classes)), recipe,
            read_weights(self.folder / network.weights),
        )  # fmt: skip
        self.backbones[position] = filled.backbone
        with torch.inference_mode():
            self.needs_place |= looks_at_places(filled.pooler, features=backbone.features)
        return Vote(position, filled.reader, rule, views=self.recipes[member.name].predict.views)
