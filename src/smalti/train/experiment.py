"""Everything that the folds of one run share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..errors import PartError, RecipeError
from ..models import FUSIONS, NORMS, POOLERS, TRANSFORMS, Backbone, build_described, is_described
from ..recipe import STEPS, Recipe, Settled
from ..records import RunFolder
from ..registry import read_options
from ..samples import AUGMENTATIONS, StainMaps, apply_transform
from ..tile import TileStore
from ..tissue import STAINS
from ..types import Cohort, Sample, Split
from .devices import Device
from .features import Features, GivenFeatures
from .heads import HEADS
from .optim.losses import LOSSES
from .optim.optimisers import check_optimiser
from .policies.searches import SEARCHES
from .pretraining import check_pretraining
from .synthesis.looking import DrawnImages, check_synthesis


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """What a frozen backbone made of the store.

    Attributes:
        features: of every tile.
        embeddings: of every image (views, images of the store, D); None where the pooler or a branch beside it learns.
    """

    features: Features
    embeddings: torch.Tensor | None


@dataclass(frozen=True)
class Experiment:
    """One recipe on one cohort, ready to learn.

    Attributes:
        frozen: name of a split -> what a frozen backbone sees in it; empty where no phase needs that. The same for all
            unless stain is normalised, each fold to its own reference.
        stains: name of a split -> what happens to the stain of each image; empty where tiles stay as they are.
        digests: image -> hash of its file.
        given: all labelled images as they were given, where they are to be scored so as well; the store holds them.
        unfit: unlabelled image -> code of the finding for which it may not teach.
        drawn: what was drawn from the labelled images, to teach beside them; None where nothing is to be drawn.
        pretrained: name of a split -> the backbone after phase ``pretrain``; empty where there was none.
    """

    run: RunFolder
    recipe: Settled
    cohort: Cohort
    splits: tuple[Split, ...]
    store: TileStore
    backbone: Backbone
    frozen: Mapping[str, FrozenFeatures]
    device: Device
    fabric: Fabric
    stains: Mapping[str, StainMaps] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    given: tuple[Sample, ...] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)
    pretrained: Mapping[str, Backbone] = field(default_factory=dict)
    drawn: DrawnImages | None = None

    def find_backbone(self, split: Split) -> Backbone:
        """Return the backbone that a fold begins with."""
        return self.pretrained.get(split.name, self.backbone)

    def compare_images(self) -> torch.Tensor | None:
        """Return frozen embeddings of the labelled images to compare them by, (n, D); None without a phase
        ``transfer``.

        Of what learns on tiles, each fold has its own, so the mean of the tiles takes their place. Where folds see
        different stains, those of the first; nothing that scores reads them.
        """
        bags = self.find_bags(np.arange(len(self.cohort.labelled)))
        first = next(iter(self.frozen.values()), None)
        if first is None:
            return None
        if first.embeddings is not None:
            return first.embeddings[0, bags]
        if isinstance(first.features, GivenFeatures):
            return first.features.pool(POOLERS.build("mean", first.features.size, 1))[0, bags]
        return torch.stack([torch.from_numpy(first.features.read_bag(int(bag))).mean(dim=0) for bag in bags])

    def find_bags(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions in the store of labelled images."""
        return np.array([self.store.position(self.cohort.labelled[i].image) for i in indices], dtype=np.int64)


def freeze(features: Features, recipe: Recipe, *, classes: int) -> FrozenFeatures:
    """Return features, with the image embeddings of the recipe's pooler where nothing before the head learns."""
    model = recipe.model
    pooler = POOLERS.build(model.pooler, features.size, classes, **read_options(model.pooler_options))
    if pooler.learns or model.fusion is not None:
        return FrozenFeatures(features, None)
    return FrozenFeatures(features, features.pool(pooler, weighs=model.coverage_weights))


def check_parts(recipe: Recipe) -> None:
    """Build and try every part that training will use, so that a slip is told before hours of tiles and features.

    Raises:
        PartError: a part that does not exist, the message names the nearest; or one that its options break.
        RecipeError: weights by coverage for a pooler that has no use for them; a solved head on what learns; settings
            that ask descriptions to learn.
    """
    model = recipe.model
    if is_described(model.backbone):
        _check_described(recipe)
    with _trying(f"pooler '{model.pooler}'", model.pooler_options):
        pooler = POOLERS.build(model.pooler, 8, 2, **read_options(model.pooler_options)).eval()
        with torch.inference_mode():
            embedding = pooler(torch.linspace(-1, 1, 24).reshape(1, 3, 8)).embedding
        if not embedding.numel() or not embedding.isfinite().all():
            raise ValueError("it gives no finite embedding of a bag of three tiles")
    if model.coverage_weights and not pooler.weighs:
        raise RecipeError(
            f"pooler '{model.pooler}' has no shares that coverage could weigh",
            fix="--set model.coverage_weights=false, or a pooler with shares such as mean or attention",
        )
    if model.fusion is not None:
        FUSIONS.find(model.fusion)
    TRANSFORMS.find(model.transform)
    learns = pooler.learns or model.fusion is not None or recipe.train.finetune.epochs > 0
    if learns and model.transform != "none":
        raise RecipeError(
            f"model.transform={model.transform} is fitted on embeddings that are there before anything learns",
            fix="--set model.transform=none, or a pooler such as mean, model.fusion=null and train.finetune.epochs=0",
        )
    if model.head != STEPS:
        HEADS.find(model.head)
        if pooler.learns or model.fusion is not None or not recipe.train.transfer.epochs:
            raise RecipeError(
                f"head '{model.head}' is solved on embeddings that are there before anything learns",
                fix="a pooler such as mean, model.fusion=null and train.transfer.epochs above 0, "
                "or --set model.head=steps",
            )
    _check_solved(recipe)
    if model.embedding == "stages" and recipe.train.finetune.epochs and not is_described(model.backbone):
        raise RecipeError(
            "model.embedding=stages is of a frozen network, whose stages are not opened one by one",
            fix="--set train.finetune.epochs=0, or --set model.embedding=last",
        )
    check_pretraining(recipe)
    check_synthesis(recipe)
    if recipe.model.norm != "auto":
        NORMS.find(recipe.model.norm)
    STAINS.find(recipe.stain.normalise)
    finetune = recipe.train.finetune
    with _trying(f"augmentation '{finetune.augmentation}'", finetune.augmentation_options):
        augmentation = AUGMENTATIONS.build(finetune.augmentation, **read_options(finetune.augmentation_options))
        tiles = np.full((1, 4, 32, 32, 3), 128, dtype=np.uint8)
        apply_transform(tiles, augmentation(1, 4, finetune.strength_end, np.random.default_rng(0)))
    if finetune.policy_search is not None:
        SEARCHES.build(finetune.policy_search, **read_options(finetune.policy_options))
    for phase in (recipe.train.transfer, recipe.train.finetune):
        with _trying(f"loss '{phase.loss}'", phase.loss_options):
            loss = LOSSES.build(phase.loss, torch.ones(2), weights=torch.ones(2), **read_options(phase.loss_options))
            if not torch.isfinite(loss(torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.eye(2))).all():
                raise ValueError("the loss of two images is NaN or infinite")
        check_optimiser(phase.optimiser)


def _check_solved(recipe: Recipe) -> None:
    """Refuse what needs a head that is solved on a frozen backbone where there is none."""
    asked = "train.pseudo.rounds" if recipe.train.pseudo.rounds else "train.noise.method"
    default = "train.pseudo.rounds=0" if recipe.train.pseudo.rounds else "train.noise.method=none"
    unsolved = recipe.model.head == STEPS or recipe.train.finetune.epochs > 0
    if unsolved and (recipe.train.pseudo.rounds or recipe.train.noise.method != "none"):
        raise RecipeError(
            f"{asked} needs labels of a solved head on a frozen backbone",
            fix=f"--set model.head=logistic --set train.finetune.epochs=0, or --set {default}",
        )


def _check_described(recipe: Recipe) -> None:
    """Refuse what needs a network where descriptions take its place, all of it at once."""
    model, finetune = recipe.model, recipe.train.finetune
    build_described(model.backbone)
    converts = model.norm != "auto" and NORMS.build(model.norm).convert is not None
    asked = [
        (finetune.epochs > 0, f"train.finetune.epochs={finetune.epochs}", "train.finetune.epochs=0"),
        (model.mask_channel, "model.mask_channel=true", "model.mask_channel=false"),
        (model.weights is not None, f"model.weights={model.weights}", "model.weights=null"),
        (model.weights_part is not None, f"model.weights_part={model.weights_part}", "model.weights_part=null"),
        (converts, f"model.norm={model.norm}", "model.norm=auto"),
        (model.embedding == "stages", "model.embedding=stages", "model.embedding=last"),
    ]
    wrong = [(what, fix) for found, what, fix in asked if found]
    if wrong:
        raise RecipeError(
            f"{model.backbone} is measured, not learned: it has no weights, layers or norms, which "
            f"{', '.join(what for what, _ in wrong)} would need",
            fix=f"{' '.join(f'--set {fix}' for _, fix in wrong)}, or a network as model.backbone",
        )


@contextmanager
def _trying(part: str, options: Sequence[str]) -> Iterator[None]:
    """Turn what goes wrong inside the block into one error that names the part and its options."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it, where there is one
            yield
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise PartError(
            f"{part} does not work with {', '.join(options) or 'its defaults'}: {error}",
            fix="see 'smalti parts' for what it takes",
        ) from error
