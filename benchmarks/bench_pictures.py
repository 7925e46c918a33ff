"""What reading pictures costs, and whether another reader sees the same: ``python benchmarks/bench_pictures.py``.

Cost: CPU milliseconds an image of 1,000 px for all that an audit does with its file (check, size, pixels, encoding,
microns), best of several rounds; and of Pillow decoding the same file to RGB, once. ``--readings`` with a folder of
pictures compares each with Pillow, OpenCV and tifffile instead, where they read it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from smalti import images
from smalti.errors import SmaltiError

SIDE_PX = 1000
RGB = {"photometric": "rgb"}


def draw(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8), (0, 0), 9).astype(float)
    spread = (smooth - smooth.min()) / np.ptp(smooth) * 150 + 90 + rng.normal(0, 3, smooth.shape)
    return np.clip(spread, 0, 255).astype(np.uint8)


def write_files(folder: Path, *, count: int) -> dict[str, list[Path]]:
    """Files of each kind."""
    ways: dict[str, Callable[[Path, NDArray[np.uint8]], Any]] = {
        "PNG": lambda p, a: Image.fromarray(a).save(p.with_suffix(".png")),
        "JPEG": lambda p, a: Image.fromarray(a).save(p.with_suffix(".jpg"), quality=90),
        "TIFF": lambda p, a: Image.fromarray(a).save(p.with_suffix(".tif")),
        "TIFF LZW": lambda p, a: Image.fromarray(a).save(p.with_suffix(".tif"), compression="tiff_lzw"),
        "TIFF deflate": lambda p, a: Image.fromarray(a).save(p.with_suffix(".tif"), compression="tiff_adobe_deflate"),
        "TIFF JPEG tiles": lambda p, a: tifffile.imwrite(
            p.with_suffix(".tif"), a, **RGB, compression="jpeg", tile=(256, 256)
        ),
    }
    files = {}
    for name, write in ways.items():
        place = folder / name
        place.mkdir()
        for i in range(count):
            write(place / str(i), draw(i))
        files[name] = sorted(place.iterdir())
    return files


def read_as_audit(path: Path) -> None:
    """What check and digest do with the file of an image."""
    images.check_image(path)
    with images.hold_files([path]):
        images.hash_image(path)
        images.read_size(path)
        images.read_image(path)
        images.read_encoding(path)
        images.read_mpp(path)


def read_with_pillow(path: Path) -> None:
    with Image.open(path) as image:
        np.asarray(image.convert("RGB"))


def measure(work: Callable[[Path], None], paths: list[Path], *, rounds: int) -> float:
    """CPU milliseconds a file, best round."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for path in paths:
            work(path)
        times.append((time.process_time() - start) / len(paths))
    return 1000 * min(times)


def compare_readers(folder: Path) -> None:
    """One line a file: what other readers see, as the mean difference from ours in grey levels."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            ours = images.read_image(path).astype(int)
        except SmaltiError as error:
            print(f"{path.name:28s} refused: {str(error).splitlines()[-1].split(': ', 1)[-1]}")
            continue
        found = {}
        for name, read in (("Pillow", _read_pillow), ("OpenCV", _read_opencv), ("tifffile", tifffile.imread)):
            try:
                theirs = np.asarray(read(path))
            except Exception as error:  # noqa: BLE001  # what it cannot read is told by its reason
                found[name] = type(error).__name__
                continue
            theirs = theirs >> 8 if theirs.dtype == np.uint16 else theirs
            same = theirs.shape == ours.shape
            found[name] = f"{np.abs(ours - theirs).mean():.2f}" if same else str(theirs.shape)
        print(f"{path.name:28s}", "  ".join(f"{name} {value}" for name, value in found.items()))


def _read_pillow(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _read_opencv(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=Path, help="folder of pictures to compare with other readers")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.readings is not None:
        compare_readers(args.readings)
        return
    with tempfile.TemporaryDirectory() as name:
        for kind, paths in write_files(Path(name), count=args.images).items():
            ours = measure(read_as_audit, paths, rounds=args.rounds)
            pillow = measure(read_with_pillow, paths, rounds=args.rounds)
            print(f"{kind:16s} {ours:6.1f} ms for check and digest, {pillow:6.1f} ms for Pillow decoding it once")


if __name__ == "__main__":
    main()
