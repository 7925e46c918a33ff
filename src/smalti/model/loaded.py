"""The members of a model, ready to score one image: networks of every fold and seed, and how they are combined."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from ..metrics import SMALLEST_PROBABILITY
from ..models import Backbone, Network, assemble_network, fill_network, restore_backbone
from ..predict import Rule, mix_members, score_network
from ..recipe import Recipe
from ..records import FoldBlend, ModelMember, ModelRecord, NetworkRecord
from ..records.outgoing.model import JOINED
from ..samples import StainMaps
from ..tile import GivenStore, TileStore
from ..tissue import STAINS
from ..train import FrozenFeatures, GivenFeatures, HeldFeatures, choose_device, embed_view, freeze, make_fabric
from .bundle import iterate_voters, read_recipes, read_weights

Floats = NDArray[np.float64]
Key = tuple[int, int]  # seed, fold
ONE = np.zeros(1, dtype=np.int64)  # the one image of a store


@dataclass(frozen=True, slots=True)
class LoadedMember:
    """A member that can score.

    Attributes:
        backbone: of its networks; None for a combination.
        module: the backbone as it computes features; None for a combination.
        network_of: of each seed and fold.
        key: names what its frozen backbone does to tiles; equal for members that share it.
        votes: whether its networks have a share in the answer.
    """

    member: ModelMember
    recipe: Recipe
    fabric: Fabric
    backbone: Backbone | None
    module: nn.Module | None
    network_of: Mapping[Key, Network]
    key: str
    votes: bool

    @property
    def tiling(self) -> str:
        """Return what its tiles depend on; equal for members that see the same tiles."""
        return json.dumps([self.recipe.tile.model_dump(mode="json"), self.member.tile_px])


@dataclass(slots=True)
class Bags:
    """One image as the members see it; what several of them need is made once.

    Attributes:
        stores: tiling -> the tiles of the image.
        features: backbone, tiling, stain and view -> (N, D) of its tiles.
        pooled: of features that were made elsewhere, what members with one pooler share.
    """

    stores: Mapping[str, TileStore]
    features: dict[tuple[str, str, str, int], NDArray[np.float32]] = field(default_factory=dict)
    pooled: dict[str, FrozenFeatures] = field(default_factory=dict)


def load_members(folder: Path, record: ModelRecord, *, device: str) -> tuple[LoadedMember, ...]:
    """Build the networks of a model and load their weights; a frozen backbone once for all that share it.

    Raises:
        RunError: a weights file is damaged.
        WeightsError: weights do not fit the architecture of the installed timm.
        RecipeError: a recipe does not fit this version, or there is no such device.
    """
    recipes = read_recipes(folder, record)
    backbones: dict[str, Backbone] = {}
    modules: dict[str, nn.Module] = {}
    voters = {one.name for one in iterate_voters(record.members[-1], {one.name: one for one in record.members})}
    loaded = []
    for member in record.members:
        recipe = recipes[member.name]
        fabric = _make_fabric(recipe, record, device=device)
        if member.backbone is None:
            loaded.append(LoadedMember(member, recipe, fabric, None, None, {}, "", votes=False))
            continue
        model = recipe.model.model_copy(update={"backbone": member.backbone.name})
        key = json.dumps([member.backbone.model_dump_json(), model.norm, model.embedding, str(fabric._precision)])
        if key not in backbones:
            file = member.backbone.weights
            backbones[key] = restore_backbone(
                model, architecture=member.backbone.architecture, options=member.backbone.options,
                features=member.backbone.features, spec=member.backbone.spec,
                weights=read_weights(folder / file) if file else None,
            )  # fmt: skip
            modules[key] = fabric.setup_module(backbones[key].module).eval()
        networks = {}
        for row in member.networks:
            network = assemble_network(model, backbones[key], classes=len(record.classes))
            filled = fill_network(network, model, read_weights(folder / row.weights))
            networks[row.seed, row.fold] = filled.to(fabric.device)
        votes = member.name in voters
        loaded.append(LoadedMember(member, recipe, fabric, backbones[key], modules[key], networks, key, votes))
    return tuple(loaded)


def score_image(members: tuple[LoadedMember, ...], bags: Bags, *, classes: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Score one image.

    Returns:
        The answer (C,): the mean over folds and seeds of the last member, after its rules. And what each single
        network says of the members that have a share in it, (networks, C), after the rules of its fold.
    """
    said: dict[str, dict[Key, Floats]] = {}
    single: list[Floats] = []
    for loaded in members:
        member = loaded.member
        if loaded.backbone is None:
            scores = combine_scores([said[name] for name in member.members], member.members, member.blends)
        else:
            scores = _score_networks(loaded, loaded.backbone, bags, classes=len(classes))
        rules = {(r.seed, r.fold): Rule(r.temperature, tuple(r.weights[c] for c in classes)) for r in member.rules}
        said[member.name] = {key: rules[key].apply(row[None])[0] for key, row in scores.items()}
        if loaded.votes:
            single += said[member.name].values()
    return np.mean(list(said[members[-1].member.name].values()), axis=0), np.stack(single)


def combine_scores(
    scores: list[dict[Key, Floats]], names: tuple[str, ...], blends: tuple[FoldBlend, ...]
) -> dict[Key, Floats]:
    """Combine the scores (C,) of members in each seed and fold as it is recorded."""
    mixed = {}
    joined = blends[0].method == JOINED
    for key in scores[0]:
        blend = blends[0] if joined else next(b for b in blends if (b.seed, b.fold) == key)
        shares = np.array([(blend.weights or {})[name] for name in names])
        stacked = np.stack([member[key] for member in scores])[:, None]  # (M, 1, C)
        mixed[key] = mix_members(shares, stacked)[0]
        if blend.temperature != 1:
            mixed[key] = softmax(np.log(np.clip(mixed[key], SMALLEST_PROBABILITY, 1)) / blend.temperature)
    return {(0, 0): np.mean(list(mixed.values()), axis=0)} if joined else mixed


def _score_networks(loaded: LoadedMember, backbone: Backbone, bags: Bags, *, classes: int) -> dict[Key, Floats]:
    """Return the scores (C,) of the network of each seed and fold, before its rule."""
    recipe, store = loaded.recipe, bags.stores[loaded.tiling]
    if isinstance(store, GivenStore):
        return _score_given(loaded, backbone, bags, store, classes=classes)
    pooled: dict[str, FrozenFeatures] = {}
    scores = {}
    for row in loaded.member.networks:
        stains = find_stains(loaded, row, store)
        if not recipe.own_backbones and stains.key not in pooled:
            pooled[stains.key] = freeze(_find_features(loaded, backbone, bags, stains), recipe, classes=classes)
        logits = score_network(
            loaded.network_of[row.seed, row.fold], store, ONE, views=recipe.predict.views, spec=backbone.spec,
            fabric=loaded.fabric, stains=stains, frozen=pooled.get(stains.key),
        )  # fmt: skip
        scores[row.seed, row.fold] = logits.double().softmax(dim=1).numpy()[0]
    return scores


def _score_given(
    loaded: LoadedMember, backbone: Backbone, bags: Bags, store: GivenStore, *, classes: int
) -> dict[Key, Floats]:
    """Return the same of a bag of features that were made elsewhere; it is pooled once for all members alike."""
    model = loaded.recipe.model
    asked = f"{model.pooler} {model.pooler_options}"
    if asked not in bags.pooled:
        bags.pooled[asked] = freeze(GivenFeatures((), store, store.spec.size), loaded.recipe, classes=classes)
    scores = {}
    for row in loaded.member.networks:
        logits = score_network(
            loaded.network_of[row.seed, row.fold], store, ONE, views=1, spec=backbone.spec, fabric=loaded.fabric,
            stains=None, frozen=bags.pooled[asked],
        )  # fmt: skip
        scores[row.seed, row.fold] = logits.double().softmax(dim=1).numpy()[0]
    return scores


def find_stains(loaded: LoadedMember, row: NetworkRecord, store: TileStore) -> StainMaps:
    """Return what happens to the stain of an image before a network sees it."""
    method = loaded.recipe.stain.normalise
    plain = method == STAINS.find("none").name
    return StainMaps(store, method, None if plain or row.reference is None else np.array(row.reference))


def _find_features(loaded: LoadedMember, backbone: Backbone, bags: Bags, stains: StainMaps) -> HeldFeatures:
    """Return frozen features of the image in all views; those that another fold or member needed are there."""
    values = []
    for view in range(loaded.recipe.predict.views):
        key = (loaded.key, loaded.tiling, stains.key, view)
        if loaded.module is not None and key not in bags.features:
            parts = embed_view(
                loaded.module, backbone, stains.store, view=view, stains=stains, device=loaded.fabric.device
            )
            bags.features[key] = np.concatenate([part for _, part in parts])
        values.append(bags.features[key])
    return HeldFeatures((), stains.store, values[0].shape[1], tuple(values))


def _make_fabric(recipe: Recipe, record: ModelRecord, *, device: str) -> Fabric:
    """Make a Fabric with the number format of the run where the device is of the same kind; else that of the device."""
    train = recipe.train.model_copy(update={"device": device, "precision": "auto"})
    chosen = choose_device(train, fix="--device auto")
    if chosen.accelerator == record.device.get("accelerator"):
        train = train.model_copy(update={"precision": record.device["precision"]})
        chosen = choose_device(train)
    return make_fabric(chosen)
