"""A copy of a data folder with problems planted in it, and the truth about them.

    python benchmarks/planting.py SOURCE TARGET [--seed 0] [--kinds foreign painted ...]

TARGET becomes a table cohort: ``samples.csv`` (image, mask, label, case, part), the images under their old names, the
planted ones as ``added_0000.*`` beside them, and ``truth/planted.csv`` (image, kind, detail), which nothing in smalti
reads. Untouched images are byte-equal copies. Every image is the source of one copy at most, and none of a copy and a
wrong label at once. Same seed and kinds, same bytes.

    foreign          photographs that ship with scikit-image and scikit-learn; every other one cut to the cohort's size;
                     the stained tissue among them (ihc) is left out. Each with a mask copied from another image
    painted          bright paint of hues all around the circle, in place or on a copy in turn
    blank            glass (white, grey, tinted, vignette, dirt) and black
    exact-duplicate  same bytes; same pixels in another file format
    near-duplicate   turned, flipped, cropped, JPEG 60, recoloured, shifted, rescaled
    contradicting    a copy with another label
    wrong-label      another label; the image stays as it is
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import skimage
import sklearn

from scoring import Planted, write_truth
from smalti.cohort import read_cohort
from smalti.images import read_image, read_mask
from smalti.types import Sample
from spoiling import BLANKS, CHANGES, COLOUR_CHANGES, STROKES, Byte, draw_blank, paint, spoil_jpeg

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
PHOTOGRAPHS = (
    *(SKIMAGE / f"{name}.png" for name in ("astronaut", "brick", "camera", "cell", "chelsea", "clock_motion")),
    *(SKIMAGE / f"{name}.png" for name in ("coffee", "coins", "grass", "gravel", "moon", "motorcycle_left")),
    *(SKIMAGE / f"{name}.png" for name in ("page", "text")),
    *(SKIMAGE / f"{name}.jpg" for name in ("hubble_deep_field", "retina", "rocket")),
    *(SKLEARN / f"{name}.jpg" for name in ("china", "flower")),
)
SHARES = {"foreign": 0.07, "painted": 0.07, "blank": 0.06, "exact-duplicate": 0.06, "contradicting": 0.06}
LEAST = 4  # of each kind


@dataclass
class Bed:
    """The folder in the making.

    Attributes:
        target: the folder.
        samples: of the source, those with a label.
        rows: of the table, image -> mask, label, case.
        truth: what was planted so far.
        free: samples that nothing was done to or taken from, in random order.
    """

    target: Path
    samples: tuple[Sample, ...]
    rows: dict[str, list[str]] = field(default_factory=dict)
    truth: list[Planted] = field(default_factory=list)
    free: list[Sample] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many of a kind to plant."""
        return max(LEAST, round(SHARES[kind] * len(self.samples)))

    def add(self, content: bytes, suffix: str, *, mask: Byte | None, label: str) -> str:
        """A new image with a case of its own; returns its name."""
        number = sum(PurePosixPath(name).name.startswith("added_") for name in self.rows)
        first = PurePosixPath(self.samples[0].image)
        name = str(first.with_name(f"added_{number:04d}{suffix}"))
        (self.target / name).write_bytes(content)
        mask_name = ""
        if mask is not None:
            folder = PurePosixPath(self.rows[self.samples[0].image][0]).parent
            mask_name = str(folder / f"mask_added_{number:04d}.png")
            (self.target / mask_name).write_bytes(_encode(255 * mask, ".png"))
        self.rows[name] = [mask_name, label, f"added-{number}"]
        return name

    def add_copy(self, rng: np.random.Generator, sample: Sample, *, way: str, label: str) -> str:
        """Another view of a sample, changed in one of `CHANGES`."""
        state = rng.bit_generator.state
        image, mask = CHANGES[way](rng, read_image(sample.path)), _read_own_mask(sample)
        if mask is not None and way not in COLOUR_CHANGES:
            rng.bit_generator.state = state  # the mask goes the same way
            mask = (CHANGES[way](rng, 255 * mask) > 127).astype(np.uint8)
        if way == "jpeg-60":
            return self.add(spoil_jpeg(image, quality=60), ".jpg", mask=mask, label=label)
        return self.add(_encode(image, ".png"), ".png", mask=mask, label=label)


def _encode(pixels: Byte, suffix: str) -> bytes:
    pixels = np.ascontiguousarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels)  # OpenCV writes BGR
    return cv2.imencode(suffix, pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else [])[1].tobytes()


def _read_own_mask(sample: Sample) -> Byte | None:
    return None if sample.mask_path is None else read_mask(sample.mask_path)[0]


def _pick_label(rng: np.random.Generator, bed: Bed) -> str:
    """A label as frequent as it is in the cohort."""
    return str(bed.samples[rng.integers(len(bed.samples))].label)


def _pick_mask(rng: np.random.Generator, bed: Bed, shape: tuple[int, ...]) -> Byte | None:
    """The mask of any image, at another size if need be."""
    mask = _read_own_mask(bed.samples[rng.integers(len(bed.samples))])
    if mask is None or mask.shape == shape[:2]:
        return mask
    return np.asarray(cv2.resize(mask, shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def plant_foreign(rng: np.random.Generator, bed: Bed) -> None:
    """Photographs as they are, and cut to the size of an image of the cohort."""
    chosen = rng.permutation(len(PHOTOGRAPHS))[: bed.count("foreign")]
    for turn, path in enumerate(PHOTOGRAPHS[i] for i in chosen):
        picture, content, suffix = read_image(path), path.read_bytes(), path.suffix
        if turn % 2:
            height, width = read_image(bed.samples[rng.integers(len(bed.samples))].path).shape[:2]
            factor = max(height / picture.shape[0], width / picture.shape[1])
            size = (max(width, round(factor * picture.shape[1])), max(height, round(factor * picture.shape[0])))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
            top, left = rng.integers(picture.shape[0] - height + 1), rng.integers(picture.shape[1] - width + 1)
            picture = picture[top : top + height, left : left + width]
            content, suffix = _encode(picture, ".png"), ".png"
        mask = _pick_mask(rng, bed, picture.shape)
        name = bed.add(content, suffix, mask=mask, label=_pick_label(rng, bed))
        bed.truth.append(Planted(name, "foreign", f"{path.stem}{' at cohort size' if turn % 2 else ''}"))


def plant_painted(rng: np.random.Generator, bed: Bed) -> None:
    """Paint in place and on a copy in turn; hues are spread evenly around the circle."""
    count, first = bed.count("painted"), rng.random()
    for turn in range(count):
        sample = bed.free.pop()
        stroke, hue = STROKES[turn % len(STROKES)], (first + turn / count) % 1
        picture, text = paint(rng, read_image(sample.path), stroke=stroke, hue=hue)
        if turn % 2:
            name = bed.add(_encode(picture, ".png"), ".png", mask=_read_own_mask(sample), label=str(sample.label))
            bed.truth.append(Planted(name, "painted", f"{text} of {sample.image}"))
            continue
        lossy = sample.path.suffix.lower() in (".jpg", ".jpeg")
        content = spoil_jpeg(picture, quality=95) if lossy else _encode(picture, sample.path.suffix)
        (bed.target / sample.image).write_bytes(content)
        bed.truth.append(Planted(sample.image, "painted", f"{text} in place"))


def plant_blank(rng: np.random.Generator, bed: Bed) -> None:
    """Glass and darkness in turn, at the size of an image of the cohort."""
    first = int(rng.integers(len(BLANKS)))
    for turn in range(bed.count("blank")):
        way = BLANKS[(first + turn) % len(BLANKS)]
        shape = read_image(bed.samples[rng.integers(len(bed.samples))].path).shape[:2]
        content = _encode(draw_blank(rng, shape, way=way), ".png")
        name = bed.add(content, ".png", mask=_pick_mask(rng, bed, shape), label=_pick_label(rng, bed))
        bed.truth.append(Planted(name, "blank", way))


def plant_exact(rng: np.random.Generator, bed: Bed) -> None:
    """Same bytes, and same pixels in another lossless format, in turn."""
    for turn in range(bed.count("exact-duplicate")):
        sample = bed.free.pop()
        content, suffix, way = sample.path.read_bytes(), sample.path.suffix, "same-bytes"
        if turn % 2:
            suffix, way = ".bmp" if suffix == ".png" else ".png", "same-pixels"
            content = _encode(read_image(sample.path), suffix)
        name = bed.add(content, suffix, mask=_read_own_mask(sample), label=str(sample.label))
        bed.truth.append(Planted(name, "exact-duplicate", f"{way} of {sample.image}"))


def plant_near(rng: np.random.Generator, bed: Bed) -> None:
    """One copy in each of `CHANGES`, or more where the cohort is large."""
    ways = list(CHANGES)
    for turn in range(max(len(ways), round(0.08 * len(bed.samples)))):
        sample, way = bed.free.pop(), ways[turn % len(ways)]
        name = bed.add_copy(rng, sample, way=way, label=str(sample.label))
        bed.truth.append(Planted(name, "near-duplicate", f"{way} of {sample.image}"))


def plant_contradicting(rng: np.random.Generator, bed: Bed) -> None:
    """Copies that carry another label: same bytes, turned, recoloured in turn."""
    for turn in range(bed.count("contradicting")):
        sample, way = bed.free.pop(), ("same-bytes", "turn-90", "recolour")[turn % 3]
        label = _pick_other(rng, bed, sample)
        if way == "same-bytes":
            content, suffix = sample.path.read_bytes(), sample.path.suffix
            name = bed.add(content, suffix, mask=_read_own_mask(sample), label=label)
        else:
            name = bed.add_copy(rng, sample, way=way, label=label)
        bed.truth.append(Planted(name, "contradicting", f"{way} of {sample.image}"))


def plant_wrong_labels(rng: np.random.Generator, bed: Bed) -> None:
    """One label in ten is another one."""
    for _ in range(max(LEAST, round(0.1 * len(bed.samples)))):
        sample = bed.free.pop()
        bed.rows[sample.image][1] = _pick_other(rng, bed, sample)
        bed.truth.append(Planted(sample.image, "wrong-label", str(sample.label)))


def _pick_other(rng: np.random.Generator, bed: Bed, sample: Sample) -> str:
    return str(rng.choice(sorted({str(s.label) for s in bed.samples} - {str(sample.label)})))


KINDS: dict[str, Callable[[np.random.Generator, Bed], None]] = {
    "foreign": plant_foreign,
    "painted": plant_painted,
    "blank": plant_blank,
    "exact-duplicate": plant_exact,
    "near-duplicate": plant_near,
    "contradicting": plant_contradicting,
    "wrong-label": plant_wrong_labels,
}


def plant(source: Path, target: Path, *, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Planted]:
    """Copy a data folder and plant problems in it.

    Args:
        source: any data folder that smalti reads, of at least 60 labelled images for all kinds together.
        target: must not exist.
        seed: of everything that is drawn.
        kinds: keys of `KINDS`.

    Returns:
        The rows of ``target/truth/planted.csv``.
    """
    cohort = read_cohort(source)
    bed = Bed(target, cohort.labelled)
    for sample in cohort.samples:
        mask = "" if sample.mask_path is None else sample.mask_path.relative_to(cohort.root).as_posix()
        bed.rows[sample.image] = [mask, sample.label or "", sample.case]
        for name, path in ((sample.image, sample.path), (mask, sample.mask_path)):
            if path is not None:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
    order = np.random.default_rng([seed, len(KINDS)]).permutation(len(bed.samples))
    bed.free = [bed.samples[i] for i in order]
    for number, (kind, work) in enumerate(KINDS.items()):
        if kind in kinds:
            work(np.random.default_rng([seed, number, len(bed.samples)]), bed)
    _write_table(bed)
    write_truth(target, bed.truth)
    return bed.truth


def _write_table(bed: Bed) -> None:
    """``samples.csv``; columns that would be empty are left out."""
    header = ["image", "mask", "label", "case", "part"]
    tests = any(not label for _, label, _ in bed.rows.values())
    rows = [[name, *cells, "train" if cells[1] else "test"] for name, cells in bed.rows.items()]
    masks = any(cells[0] for cells in bed.rows.values())
    kept = [i for i, name in enumerate(header) if (name != "part" or tests) and (name != "mask" or masks)]
    with (bed.target / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([row[i] for i in kept] for row in [header, *rows])


def main() -> None:
    """Plant, and print how many of what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    args = parser.parse_args()
    rows = plant(args.source, args.target, seed=args.seed, kinds=args.kinds)
    for kind in args.kinds:
        print(f"{kind:<16} {sum(row.kind == kind for row in rows):4d}")
    print(f"written to {args.target}")


if __name__ == "__main__":
    main()
