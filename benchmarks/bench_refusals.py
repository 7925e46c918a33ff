"""Does a model refuse what it should, and answer the rest? Half of the cases are described, the other half is new.

    python benchmarks/bench_refusals.py DATA [DATA ...] [--splits 3] [--most 400] [--planted 24] [--time 1000]

For each data folder and split the labelled images of half of the cases become the training population. New are the
images of the other half, and planted among them:

foreign  photographs that ship with scikit-image and scikit-learn and drawn pictures, as they are, cut to the size of an
         image of the folder, and parts of that size at their own scale
blank    glass (white, grey, tinted, vignette, dirt) and black
painted  bright paint of all hues on new images
blurred  a Gaussian of 3 px on new images (2 px below 128 px)
scale    new images at half and at twice their size; nothing says their microns per pixel

real     share of untouched new images that are refused; ``clean`` without those that the audit of the whole folder
         calls blank, foreign, painted or out of focus. Planted images of a drawn cohort are not among the new ones
shift    share of splits in which the other half is called another laboratory; cases named, and not named

With --laboratories N, in N seeds, 30 drawn images of one laboratory are described, and 30 new ones of the same and of
each other laboratory are judged together. With --time N, it prints what measuring and judging a drawn image of N px
costs beside reading it, in milliseconds of one processor. Nothing is trained.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from planting import PHOTOGRAPHS
from smalti.audit import audit_cohort
from smalti.audit.measure.digest import ImageDigest, digest_sample
from smalti.cohort import read_cohort
from smalti.demo import CLASS_SHARES, CohortPlan, ImagePlan, draw_plan, plan_cohort
from smalti.demo.cohort import draw_image
from smalti.demo.field import LABORATORIES, TissuePlan
from smalti.demo.planted import draw_foreign
from smalti.images import read_image
from smalti.model.look import Look, measure_look, measure_traits
from smalti.model.moved import warn_shift
from smalti.model.population import describe_population
from smalti.model.refusal import Refuser
from smalti.store import read_table
from smalti.types import Cohort, Sample
from spoiling import BLANKS, STROKES, draw_blank, paint

Picture = NDArray[np.uint8]
FAULTS = ("blank", "foreign", "painted", "focus")  # checks of the audit
COLUMNS = ("foreign", "blank", "painted", "blurred", "scale")
SMALL_PX = 128
SIDE_PX = 400  # of the images of drawn laboratories


def plant(samples: list[Sample], *, count: int, rng: np.random.Generator) -> Iterator[tuple[str, str, Look]]:
    """Yield kind, case and look of planted pictures; the case is that of the image that was spoiled, or empty."""

    def draw_shape() -> tuple[int, int]:
        height, width = read_image(samples[rng.integers(len(samples))].path).shape[:2]
        return height, width

    pictures = [read_image(PHOTOGRAPHS[i]) for i in rng.permutation(len(PHOTOGRAPHS))[: 2 * count // 3]]
    pictures += [draw_foreign(np.random.default_rng(i), i) for i in range(count - len(pictures))]
    for turn, picture in enumerate(pictures):
        yield "foreign", "", measure_look((picture, fit(picture, draw_shape()), cut(picture, draw_shape()))[turn % 3])
    for turn in range(count):
        yield "blank", "", measure_look(draw_blank(rng, draw_shape(), way=BLANKS[turn % len(BLANKS)]))
    for turn in range(count):
        sample = samples[rng.integers(len(samples))]
        picture = read_image(sample.path)
        spoiled = paint(rng, picture, stroke=STROKES[turn % len(STROKES)], hue=turn / count)[0]
        yield "painted", sample.case, measure_look(spoiled)
        sigma = 3 if max(picture.shape) >= SMALL_PX else 2
        yield "blurred", sample.case, measure_look(np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8))
        factor, way = ((0.5, cv2.INTER_AREA), (2.0, cv2.INTER_CUBIC))[turn % 2]
        scaled = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way)
        yield "scale", sample.case, measure_look(np.asarray(scaled, np.uint8))


def fit(picture: Picture, shape: tuple[int, int]) -> Picture:
    """The middle of a picture, resized to cover a shape."""
    factor = max(shape[0] / picture.shape[0], shape[1] / picture.shape[1])
    size = (max(shape[1], round(factor * picture.shape[1])), max(shape[0], round(factor * picture.shape[0])))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cut(np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8), shape)


def cut(picture: Picture, shape: tuple[int, int]) -> Picture:
    """The middle of a picture, of this shape at most."""
    height, width = min(shape[0], picture.shape[0]), min(shape[1], picture.shape[1])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def read_some(folder: Path, most: int) -> tuple[Cohort, set[str]]:
    """The cohort with at most so many labelled images, and those of them that were drawn as faults."""
    cohort = read_cohort(folder, skip_problems=True)
    rows = np.sort(np.random.default_rng(0).permutation(len(cohort.labelled))[:most])
    cohort = replace(cohort, labelled=tuple(cohort.labelled[i] for i in rows), unlabelled=(), sealed=())
    truth = folder / "truth" / "planted.csv"
    if not truth.is_file():
        return cohort, set()
    table = read_table(truth, "image", "kind")
    return cohort, set(table["image"][table["kind"].isin(["foreign", "blank", "painted"])])


def judge_halves(folder: Path, *, splits: int, most: int, count: int) -> None:
    """Print one row."""
    cohort, drawn = read_some(folder, most)
    audit = audit_cohort(cohort, checks=FAULTS)
    assert audit.digest is not None
    accused = {f.images[0] for f in audit.findings}
    looks = {d.image: Look(d, measure_traits(d), d.source.mpp) for d in audit.digest.images}
    planted = list(plant([s for s in cohort.labelled if s.image not in drawn | accused], count=count,
                         rng=np.random.default_rng(0)))  # fmt: skip
    cases = sorted({s.case for s in cohort.labelled})
    refused = defaultdict[str, list[bool]](list)
    for split in range(splits):
        half = set(np.random.default_rng(split).permutation(cases)[: (len(cases) + 1) // 2].tolist())
        mine = replace(cohort, labelled=tuple(s for s in cohort.labelled if s.case in half))
        population = describe_population(mine, audit.digest.images)
        refuser = Refuser(population)
        new = [s for s in cohort.labelled if s.case not in half and s.image not in drawn]
        for sample in new:
            said = bool(refuser.judge_look(looks[sample.image]))
            refused["real"].append(said)
            if sample.image not in accused:
                refused["clean"].append(said)
        for kind, case, look in planted:
            if case not in half:
                refused[kind].append(bool(refuser.judge_look(look)))
        traits = np.stack([looks[s.image].traits for s in new])
        refused["shift, cases"].append(warn_shift(population, traits, cases=[s.case for s in new]) is not None)
        refused["shift, images"].append(warn_shift(population, traits) is not None)
    shares = {kind: f"{np.mean(said):.3f} of {len(said)}" for kind, said in refused.items()}
    print(f"{folder.name:<18}{len(cohort.labelled):>7}{len(cases):>6}", end="")
    for kind in ("real", "clean", *COLUMNS, "shift, cases", "shift, images"):
        print(f"{shares.get(kind, '-'):>15}", end="")
    print(flush=True)


def time_judging(side_px: int, count: int = 12) -> None:
    """Print milliseconds of one processor for an image."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw_plan(plan_cohort(labelled=24, unlabelled=1, side_px=(side_px, side_px)), Path(scratch) / "drawn")
        cohort = read_cohort(folder)
        digests: list[ImageDigest] = list(audit_cohort(cohort, checks=("blank",)).digest.images)  # type: ignore[union-attr]
        refuser = Refuser(describe_population(cohort, digests))
        spent = np.zeros(3)
        for sample in cohort.labelled[:count]:
            started = time.process_time()
            picture = read_image(sample.path)
            read = time.process_time()
            look = measure_look(picture)
            measured = time.process_time()
            refuser.judge_look(look)
            spent += np.diff([started, read, measured, time.process_time()])
        reading, measuring, judging = 1000 * spent / count
        print(f"{side_px} px: reading {reading:.0f} ms, measuring {measuring:.0f} ms, judging {judging:.0f} ms")


def judge_laboratories(seeds: int, count: int = 30) -> None:
    """Print how often each drawn laboratory is called another one than the first, and how many of it are refused."""
    alarms, refused = defaultdict[int, list[bool]](list), defaultdict[int, list[str]](list)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            train = tuple(plan_images(0, seed, count=count))
            plan = CohortPlan(train, (replace(train[0], part="test"),))  # a test part of none is refused
            cohort = read_cohort(draw_plan(plan, Path(scratch) / f"laboratory-{seed}", workers=1))
            population = describe_population(cohort, [digest_sample(s) for s in cohort.labelled])
            refuser = Refuser(population)
            for laboratory in range(len(LABORATORIES)):
                plans = list(plan_images(laboratory, 100 + seed, count=count))
                looks = [measure_look(draw_image(one)[0]) for one in plans]
                alarm = warn_shift(population, np.stack([look.traits for look in looks]), cases=[p.case for p in plans])
                alarms[laboratory].append(alarm is not None)
                refused[laboratory] += [refuser.judge_look(look).partition(":")[0] for look in looks]
                if alarm and not seed:
                    print(f"laboratory {laboratory}: {alarm}")
    for laboratory, found in alarms.items():
        codes = ", ".join(f"{code or 'answered'} {n}" for code, n in sorted(Counter(refused[laboratory]).items()))
        print(f"laboratory {laboratory}: another one in {sum(found)} of {len(found)}; images: {codes}")


def plan_images(laboratory: int, seed: int, *, count: int) -> Iterator[ImagePlan]:
    """Clean tissue of one laboratory, two images a case."""
    labels = list(CLASS_SHARES)
    for number in range(count):
        case, own = number // 2, (7, laboratory, seed, number)
        label = labels[case % len(labels)]
        tissue = TissuePlan(own, (8, laboratory, seed, case), (SIDE_PX, SIDE_PX), label, laboratory)
        yield ImagePlan("train", number, "tissue", label, label, f"c{case}", tissue, (SIDE_PX, SIDE_PX), own)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--most", type=int, default=400, help="images of a folder")
    parser.add_argument("--planted", type=int, default=24, help="of each kind")
    parser.add_argument("--laboratories", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--time", type=int, default=0, metavar="PX")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.data:
        heads = ("real", "clean", *COLUMNS, "shift, cases", "shift, images")
        print(f"{'refused':<18}{'images':>7}{'cases':>6}" + "".join(f"{head:>15}" for head in heads), flush=True)
    for folder in args.data:
        judge_halves(folder, splits=args.splits, most=args.most, count=args.planted)
    if args.laboratories:
        judge_laboratories(args.laboratories)
    if args.time:
        time_judging(args.time)


if __name__ == "__main__":
    main()
