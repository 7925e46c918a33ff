"""Automated augmentation: policies that draw operations for each tile, after flips and quarter turns.

The papers tune one magnitude or none; here the strength of the phase (0 to 1, growing over its epochs) is the
magnitude, so that augmentation starts weak. Drawing is done with the generator of the epoch, never with a global one:
tiles are made ahead of the network in a thread, and a repeated epoch is the same epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torchvision import transforms

from ..errors import RecipeError
from .augment import AUGMENTATIONS, Augmentation, Edit, Transform, build_flips_stain, draw_flips
from .operations import AUTO, GENERAL, TISSUE, WIDE, Operation, Tile, replace_colours

Step = tuple[Operation, float, int]  # operation, amount, seed of what it draws itself
Published = tuple[str, float, int | None]  # torchvision's name of an operation, its chance, its magnitude of 0 to 9

# torchvision's names of the operations that AutoAugment is published with
NAMES = {"ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x", "TranslateY": "translate_y",
         "Color": "saturation", **{name.capitalize(): name for name in ("rotate", "brightness", "contrast",
         "sharpness", "posterize", "solarize", "equalize", "invert")}, "AutoContrast": "autocontrast"}  # fmt: skip


@AUGMENTATIONS.register(
    "randaugment",
    summary="flips; each tile two operations of one magnitude, the strength",
    reference="Cubuk et al. 2020",
)
def build_randaugment(*, count: int = 2) -> TileAugmentation:
    """``count`` operations of the paper's list, drawn evenly with the identity among them, signs by a coin."""
    return TileAugmentation(
        GENERAL, lambda strength, rng: partial(run_steps, _draw_chain(GENERAL, count, strength, rng))
    )


@AUGMENTATIONS.register(
    "trivialaugment",
    summary="flips; each tile one operation, its amount even from nothing to the strength",
    reference="Müller & Hutter 2021",
)
def build_trivialaugment() -> TileAugmentation:
    """One operation of the wide space; at strength 1 amounts are the paper's, any instead of 31."""
    return TileAugmentation(
        WIDE, lambda strength, rng: partial(run_steps, _draw_chain(WIDE, 1, strength * rng.random(), rng))
    )


@AUGMENTATIONS.register(
    "autoaugment",
    summary="flips; each tile one of 25 pairs of operations that were learned on photographs",
    reference="Cubuk et al. 2019",
)
def build_autoaugment(*, learned_on: str = "imagenet") -> TileAugmentation:
    """The published policies as torchvision has them; at strength 1 amounts are the paper's.

    Args:
        learned_on: "imagenet", "cifar10" or "svhn".

    Raises:
        RecipeError: there is no policy of that name.
    """
    policies = [policy.value for policy in transforms.AutoAugmentPolicy]
    if learned_on not in policies:
        raise RecipeError(f"no policy was learned on {learned_on!r}", fix=f"learned_on={', '.join(policies)}")
    pairs = [tuple(pair) for pair in transforms.AutoAugment(transforms.AutoAugmentPolicy(learned_on)).policies]

    def draw(strength: float, rng: np.random.Generator) -> Edit:
        # One pair, each operation of it by its own chance; published magnitudes are counted in ninths.
        drawn = pairs[int(rng.integers(len(pairs)))]
        happens, signs = rng.random(len(drawn)), rng.choice([-1.0, 1.0], len(drawn))
        seeds = rng.integers(2**32, size=len(drawn))
        steps = [
            (AUTO[NAMES[name]], strength * sign * (1.0 if ninths is None else ninths / 9), int(seed))
            for (name, chance, ninths), luck, sign, seed in zip(drawn, happens, signs.tolist(), seeds, strict=True)
            if luck < chance and strength > 0
        ]
        return partial(run_steps, steps)

    return TileAugmentation(AUTO, draw)


@AUGMENTATIONS.register(
    "augmix",
    summary="flips; each tile mixed from itself and three chains of one to three operations",
    reference="Hendrycks et al. 2020",
)
def build_augmix(*, width: int = 3, alpha: float = 1.0) -> TileAugmentation:
    """Chains weighed by Dirichlet(alpha), the mix by Beta(alpha, alpha) against the tile; the paper's loss
    is ``train.finetune.consistency``. A mask stays that of the tile: a mean of moved masks is no mask.
    """

    def draw(strength: float, rng: np.random.Generator) -> Edit:
        chains = [_draw_chain(GENERAL, int(rng.integers(1, 4)), strength * rng.random(), rng) for _ in range(width)]
        weights = rng.dirichlet([alpha] * width) * rng.beta(alpha, alpha)
        return partial(mix_chains, chains, weights)

    return TileAugmentation(GENERAL, draw)


@AUGMENTATIONS.register(
    "tissue", summary="flips and stain; each tile two of warp, defocus, smear, JPEG", reference="Tellez et al. 2019"
)
def build_tissue(*, count: int = 2) -> TileAugmentation:
    """What happens to a section between knife and file, after ``flips_stain``."""
    return TileAugmentation(
        TISSUE,
        lambda strength, rng: partial(run_steps, _draw_chain(TISSUE, count, strength * rng.random(), rng)),
        build_flips_stain(),
    )


def _draw_chain(operations: Mapping[str, Operation], count: int, amount: float, rng: np.random.Generator) -> list[Step]:
    """Draw ``count`` times among the operations and the identity; at amount 0 all are the identity."""
    choices = [*operations.values(), None]
    drawn = [choices[k] for k in rng.integers(0, len(choices), count)]
    signs = rng.choice([-1.0, 1.0], count)
    seeds = rng.integers(2**32, size=count)
    if amount == 0:
        return []
    return [
        (operation, amount * sign, int(seed))
        for operation, sign, seed in zip(drawn, signs.tolist(), seeds, strict=True)
        if operation is not None
    ]


def run_steps(steps: list[Step], tile: Tile) -> Tile:
    """Apply one operation after the other to a tile (H, W, 3 or 4)."""
    for operation, amount, seed in steps:
        tile = operation(tile, amount, np.random.default_rng(seed))
    return tile


def mix_chains(chains: list[list[Step]], weights: np.ndarray, tile: Tile) -> Tile:
    """Return ``weights`` (n,) of what n chains make of a tile, the rest of itself; the mask stays that of the tile."""
    mixed = (1 - weights.sum()) * tile[..., :3].astype(np.float32)
    for chain, weight in zip(chains, weights.tolist(), strict=True):
        mixed += weight * run_steps(chain, tile)[..., :3]
    return replace_colours(tile, np.clip(np.rint(mixed), 0, 255))


@dataclass(frozen=True, slots=True)
class TileAugmentation:
    """An augmentation that edits every tile after another one, flips unless one is given.

    Attributes:
        operations: what it draws from.
        draw_edit: from strength and generator, what is done to a tile.
    """

    operations: Mapping[str, Operation]
    draw_edit: Callable[[float, np.random.Generator], Edit]
    before: Augmentation = draw_flips

    def __call__(self, images: int, tiles: int, strength: float, rng: np.random.Generator) -> Transform:
        """Draw what happens to B images of N tiles."""
        transform = self.before(images, tiles, strength, rng)
        edits = tuple(tuple(self.draw_edit(strength, rng) for _ in range(tiles)) for _ in range(images))
        return replace(transform, edits=edits)
