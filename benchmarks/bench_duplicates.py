"""Near duplicates among 300, 1,000, 3,000 and 10,000 images: CPU seconds of each step, peak memory, copies proposed.

    python benchmarks/bench_duplicates.py [--counts 300 1000 3000 10000] [--side 1000] [--repeats 3]

Describing: the texture of one drawn field of 1,000 px, median over repeats.
Pairing: textures of 100 drawn fields, from which further images are made that share no point with any other: their
points are a random half of those of two fields, moved to random places. One in fifty is a copy instead: a random two
thirds of the points of another image, turned, with noise on the descriptors. It must be proposed; what is made of it
afterwards costs the same for all. Points and words are as many as in real images, so that the times are like theirs.
CPU seconds are those of all threads together; a busy machine does not lengthen them much.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from drawing import draw_tissue
from smalti.audit.compare.duplicates import LEAST_MATCHES
from smalti.audit.compare.overlay import overlay_textures
from smalti.audit.compare.words import propose_pairs
from smalti.audit.measure.keypoints import Texture, describe_texture, mirror_texture

FIELDS = 100
COPIES = 50  # one image in so many
OVERLAYS = 400


def main() -> None:
    """Print one row per count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[300, 1000, 3000, 10000])
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    drawn = [draw_tissue(seed, side_px=args.side) for seed in range(3)]
    described = statistics.median(measure(lambda: [describe_texture(d) for d in drawn]) for _ in range(args.repeats))
    print(f"describing one {args.side} px image: {described / len(drawn) * 1e3:.0f} ms")
    fields = [describe_texture(draw_tissue(seed, side_px=400)) for seed in range(FIELDS)]
    print("images  proposing s  proposals  overlays s  copies proposed  peak GB")
    for count in args.counts:
        textures, copies = make_textures(fields, count)
        started = time.process_time()
        proposals = propose_pairs(textures)
        proposing = time.process_time() - started
        found = {(i, j) for i, j, _ in proposals}
        each = statistics.fmean(measure_overlay(textures, p) for p in proposals[:: max(1, len(proposals) // OVERLAYS)])
        print(
            f"{count:6d}  {proposing:11.1f}  {len(proposals):9d}  {each * len(proposals):10.1f}  "
            f"{sum(c in found for c in copies):6d} of {len(copies):4d}  {peak_gb():8.2f}"
        )


def make_textures(fields: list[Texture], count: int) -> tuple[list[Texture], list[tuple[int, int]]]:
    """Textures, and which (earlier, later) show the same."""
    rng = np.random.default_rng(count)
    textures: list[Texture] = []
    copies = []
    for number in range(count):
        if number % COPIES == COPIES - 1:
            source = int(rng.integers(number))
            textures.append(copy_texture(textures[source], rng))
            copies.append((source, number))
        else:
            first, second = (fields[i] for i in rng.choice(len(fields), 2, replace=False))
            textures.append(mix_textures(first, second, rng))
    return textures, copies


def mix_textures(first: Texture, second: Texture, rng: np.random.Generator) -> Texture:
    """Kinds of points that there are, in places of their own."""
    halves = [rng.permutation(len(t.points))[: len(t.points) // 2] for t in (first, second)]
    sizes, descriptors = (
        np.concatenate([getattr(t, name)[half] for t, half in zip((first, second), halves, strict=True)])
        for name in ("sizes", "descriptors")
    )
    return replace(
        first,
        points=rng.random((len(sizes), 2), dtype=np.float32) * first.extent,
        angles=rng.uniform(-np.pi, np.pi, len(sizes)).astype(np.float32),
        sizes=sizes,
        descriptors=np.clip(descriptors + rng.normal(0, 25, descriptors.shape), 0, 255).astype(np.uint8),
    )


def copy_texture(source: Texture, rng: np.random.Generator) -> Texture:
    """Two thirds of the points, turned by a quarter, seen a little otherwise."""
    kept = rng.permutation(len(source.points))[: 2 * len(source.points) // 3]
    points = source.points[kept]
    return replace(
        source,
        extent=source.extent[::-1],
        points=np.stack([source.extent[1] - points[:, 1], points[:, 0]], axis=1),
        angles=source.angles[kept] + np.float32(np.pi / 2),
        sizes=source.sizes[kept],
        descriptors=np.clip(source.descriptors[kept] + rng.normal(0, 8, (len(kept), 128)), 0, 255).astype(np.uint8),
        light=np.ascontiguousarray(np.rot90(source.light, -1)),
    )


def measure(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_overlay(textures: list[Texture], proposal: tuple[int, int, bool]) -> float:
    """CPU seconds of one overlay."""
    first, second, mirrored = proposal
    laid = mirror_texture(textures[second]) if mirrored else textures[second]
    return measure(lambda: overlay_textures(textures[first], laid, least_matches=LEAST_MATCHES))


def peak_gb() -> float:
    """Highest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
