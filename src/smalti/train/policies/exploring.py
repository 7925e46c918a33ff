"""Before ``finetune``: what the operations of the augmentation do to the class, and the policy where one is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from ...models import Network
from ...records import RunFolder
from ...records.layout import AUGMENTATION_PICTURE
from ...registry import read_options
from ...samples import (
    AUGMENTATIONS,
    OPERATIONS,
    Augmentation,
    BagBatches,
    Operation,
    Policy,
    TileAugmentation,
    describe_policy,
)
from ...store import write_atomic
from ...types import Split
from ..experiment import Experiment
from ..maskfeatures import MaskFeatureSource
from ..tasks.finetune import FinetuneTask, restain
from .probe import Effect, Probe, weigh_operations
from .searches import SEARCHES

Tell = Callable[[str, int, int], None]

MOST_IMAGES = 64  # of a probe; a search looks at its tiles a hundred times
PICTURED, DRAWS, PICTURED_PX = 4, 4, 128  # images, draws of the first and of the last epoch, side of a tile shown
MIDDLE = 0.5  # amount at which operations are weighed before a search chooses amounts of its own


@dataclass(frozen=True, slots=True)
class AugmentationChoice:
    """The augmentation of one fold.

    Attributes:
        effects: of the operations that it draws from; empty where it draws from none, or nothing was held back to see.
    """

    augmentation: Augmentation
    effects: tuple[Effect, ...] = ()

    def describe(self, split: Split) -> dict[str, object]:
        """Return for the checkpoint rows about operations, and the policy if it was learned here."""
        rows = [
            {"seed": split.seed, "fold": split.fold} | asdict(effect) | {"destroys": effect.destroys}
            for effect in self.effects
        ]
        learned = None
        if isinstance(self.augmentation, Policy) and self.effects:
            learned = describe_policy(self.augmentation)
        return {"operations": rows, "policy": learned}


def explore_augmentation(
    experiment: Experiment, split: Split, network: Network, *, tell: Tell | None = None
) -> AugmentationChoice:
    """Build or learn the augmentation of a fold, with the network that phase ``transfer`` leaves.

    ``tell(name, done, total)`` hears of every look at the tiles.
    """
    phase = experiment.recipe.train.finetune
    search = phase.policy_search
    augmentation = AUGMENTATIONS.build(phase.augmentation, **read_options(phase.augmentation_options))
    operations: Mapping[str, Operation] = {}  # what is drawn from; flips and colours draw from nothing
    amount = 0.0
    if search is not None:
        operations, amount = OPERATIONS, MIDDLE
    elif isinstance(augmentation, TileAugmentation):
        operations, amount = augmentation.operations, phase.strength_end
    if not operations or not len(split.inner) or experiment.recipe.train.transfer.epochs == 0:
        return AugmentationChoice(augmentation)
    rows = experiment.cohort.labelled
    inner, images = _build_probe(experiment, split, network, split.inner)
    effects = weigh_operations(
        inner,
        operations,
        amount=amount,
        cases=[rows[i].case for i in images],
        progress=None if tell is None else partial(tell, f"{split.name} operations"),
    )
    if search is None:
        return AugmentationChoice(augmentation, effects)
    training, _ = _build_probe(experiment, split, network, split.train)
    sound = {e.operation: operations[e.operation] for e in effects if not e.destroys}
    find = SEARCHES.build(search, **read_options(phase.policy_options))
    progress = None if tell is None else partial(tell, f"{split.name} policy")
    policy = find(training, inner, sound or operations, split.seed * 1000 + split.fold, progress=progress)
    # All of them, though a probe looks at a few: the network that it looks with has learned from the others.
    seen = frozenset(experiment.digests[rows[i].image] for i in np.union1d(split.train, split.inner))
    return AugmentationChoice(replace(policy, seen=seen), effects)


def picture_augmentation(run: RunFolder, task: FinetuneTask) -> None:
    """Draw real tiles as phase ``finetune`` sees them, once for a run, as ``figures/augmentation.png``."""
    path = run.path / AUGMENTATION_PICTURE
    if path.is_file():
        return
    classes = task.batches.targets
    chosen = _choose_evenly(classes, most=PICTURED, rng=np.random.default_rng(0))
    shown = task.show_tiles(task.batches.bags[chosen], draws=DRAWS)
    side = min(PICTURED_PX, task.store.tile_px)
    rows = []
    for row in shown:
        small = [cv2.resize(np.ascontiguousarray(t), (side, side), interpolation=cv2.INTER_AREA) for t in row]
        white = [cv2.copyMakeBorder(t, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for t in small]
        rows.append(np.concatenate(white, axis=1))
    encoded = cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1]
    write_atomic(path, encoded.tobytes())


def _build_probe(
    experiment: Experiment, split: Split, network: Network, images: NDArray[np.int64]
) -> tuple[Probe, NDArray[np.int64]]:
    """Return a probe of at most `MOST_IMAGES` images, as even over the classes as they allow, and which these are."""
    rng = np.random.default_rng([split.seed, split.fold])
    targets, store = experiment.cohort.targets, experiment.store
    chosen = images[_choose_evenly(targets[images], most=MOST_IMAGES, rng=rng)]
    bags = experiment.find_bags(chosen)
    tiles = experiment.recipe.train.finetune.tiles_per_image
    batches = BagBatches(store, bags, targets[chosen], len(bags), tiles, masked=network.takes_mask)
    batch = restain(next(batches.draw(rng)), experiment.stains.get(split.name))
    probe = Probe(
        network,
        batch,
        len(experiment.cohort.classes),
        experiment.backbone.spec,
        experiment.fabric,
        MaskFeatureSource.open(store, network.reader),
        seed=split.seed * 1000 + split.fold,
    )
    places = dict(zip(bags.tolist(), chosen.tolist(), strict=True))
    return probe, np.array([places[bag] for bag in batch.bags.tolist()])


def _choose_evenly(targets: NDArray[np.int64], *, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return positions of at most ``most`` images: classes take turns until none has any left."""
    order = rng.permutation(len(targets))
    turn = np.empty(len(targets), dtype=np.int64)
    for target in np.unique(targets):
        mine = order[targets[order] == target]
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])
