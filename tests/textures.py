"""Drawn tissue-like textures in the challenge layout, and a recipe for them that is done in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("A", "B", "C")
LABELLED, UNLABELLED = 24, 6
FAST = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "train.device=cpu",
    "tile.size_px=64",
    "split.folds=2",
    "split.inner_frac=0.3",
    "evaluate.resamples=200",
    "train.transfer.epochs=8",
    "train.transfer.batch_images=8",
    "train.finetune.epochs=2",
    "train.finetune.stages=2",
    "train.finetune.tiles_per_image=2",
)
BARE = (*FAST, "audit.checks=[]")  # for what is not about the audit, which costs more than the training


def draw_texture(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """96 to 140 px of stripes (A), blobs (B) or grain (C) in the colours of a stain, (H, W, 3)."""
    height, width = rng.integers(96, 141, 2)
    rows, columns = np.mgrid[:height, :width].astype(float)
    if label == "A":
        angle = rng.uniform(0, np.pi)
        waves = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / rng.uniform(1.6, 2.0) + rng.uniform(0, 6))
    elif label == "B":
        centres = rng.uniform(0, 140, (14, 2))
        near = ((rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2).min(axis=-1)
        waves = np.clip(1.5 - near / rng.uniform(40, 60), -1, 1)
    else:
        waves = rng.normal(0, 0.8, (height, width))
    # Thick and thin places differ from image to image, so that two images of a class are no near-duplicates.
    patches = Image.fromarray(rng.uniform(-0.25, 0.25, (5, 5)).astype(np.float32)).resize((int(width), int(height)))
    share = np.clip(0.5 + 0.3 * waves + np.asarray(patches) + rng.normal(0, 0.04, waves.shape), 0, 1)[..., None]
    pixels = share * np.array([96, 56, 140]) + (1 - share) * np.array([236, 190, 214])
    # A sensor's noise, from a stream of its own; areas without any would be paint to the audit.
    pixels = pixels + np.random.default_rng([int(height), int(width)]).normal(0, 2.5, pixels.shape)
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


def draw_mask(size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """All but a margin of eight pixels."""
    mask = np.zeros(size_px, np.uint8)
    mask[8:-8, 8:-8] = 255
    return mask


def name_label(number: int) -> str:
    """The class of labelled image ``number``."""
    return CLASSES[number // 2 % 3]


def name_case(number: int) -> str:
    """The first twelve images are pairs of one case and class, each other is a case of its own."""
    return f"p{number // 2}" if number < 12 else f"s{number}"


def draw_challenge(folder: Path, *, seed: int = 0, unlabelled: int = UNLABELLED) -> Path:
    """24 labelled images of three classes and some unlabelled ones, all with masks, in the challenge layout."""
    rng = np.random.default_rng(seed)
    for part, count in (("train_data", LABELLED), ("test_data", unlabelled)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pixels = draw_texture(name_label(number), rng)
            Image.fromarray(pixels).save(folder / part / f"img_{number:04d}.png")
            Image.fromarray(draw_mask(pixels.shape[:2])).save(folder / part / f"mask_{number:04d}.png")
    write_lines(folder / "train_labels.csv", "sample_index,label", *(f"{i},{name_label(i)}" for i in range(LABELLED)))
    write_lines(folder / "cases.csv", "sample_index,case", *(f"{i},{name_case(i)}" for i in range(LABELLED)))
    if unlabelled:
        order = reversed(range(unlabelled))  # not the order of the folder
        write_lines(folder / "sample_submission.csv", "sample_index,label", *(f"{i},A" for i in order))
    return folder


def write_lines(path: Path, *lines: str) -> Path:
    """Write a small table."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
