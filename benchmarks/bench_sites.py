"""Does smalti notice that a score leans on the site, and keep still where it does not?

Cohorts of drawn embeddings: patients, several images each, from several sites. What is planted:

    none      sites differ in nothing
    shift     each site has a scanner of its own; classes are dealt evenly over sites, and tissue tells them
    scanner   the scanner goes with the class (nine cases of ten), and tissue tells nothing

Two solved heads are scored: random folds of whole cases, and whole sites left out. Printed for each kind: both scores,
how often the site is told, how often the gap shows, how often both do (an alarm), and how often any subgroup differs
after Holm's correction.

With --demo N cohorts of the demo get six sites and go the whole way of `smalti run`, once with a scanner that goes with
the class and once with none. With --external N a run on two laboratories of the demo is scored on images of the third:
is the site-out score nearer to that than the out-of-fold score?

    python benchmarks/bench_sites.py --cohorts 100 --planted 20
    python benchmarks/bench_sites.py --cohorts 0 --demo 2
    python benchmarks/bench_sites.py --cohorts 0 --external 5
    python benchmarks/bench_sites.py --cohorts 0 --croma      # numbers of the package, where it is installed
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from smalti.evaluate.site_effects import ALPHA, Sited, judge_sites
from smalti.recipe import Split
from smalti.records import Scoring
from smalti.samples import split_cases, split_sites
from smalti.stats.permutation import join_groups
from smalti.stats.robustness_index import measure_robustness
from smalti.train.heads import HEADS, solve_head
from smalti.types import Cohort, Sample

CLASSES = ("a", "b")
KINDS = ("none", "shift", "scanner")


def draw(kind: str, seed: int, *, sites: int = 6, cases: int = 120, size: int = 32) -> tuple[Cohort, np.ndarray]:
    """Draw a cohort without files, and embeddings (n, size) of its images."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    scanners = rng.standard_normal((sites, size)) * 1.2
    tissue = rng.standard_normal(size)
    tissue /= np.linalg.norm(tissue)
    samples, points = [], []
    for case in range(cases):
        site = case % sites
        likely = (site % 2) if rng.random() < 0.9 else 1 - site % 2
        label = likely if kind == "scanner" else int(rng.integers(2))
        own = 0.5 * rng.standard_normal(size)
        own = own + (scanners[site] if kind != "none" else 0)
        own = own + (tissue * (2 * label - 1) * 1.2 if kind != "scanner" else 0)
        for image in range(int(rng.integers(1, 4))):
            name = f"{case}_{image}.png"
            samples.append(Sample(name, Path(name), None, CLASSES[label], f"p{case}", name, site=f"s{site}"))
            points.append(own + rng.standard_normal(size))
    return Cohort(Path(), "table", tuple(samples), (), CLASSES), np.array(points)


def predict(cohort: Cohort, points: np.ndarray, splits: tuple) -> pd.DataFrame:
    """Return out-of-fold probabilities of a solved head."""
    cases = np.unique([s.case for s in cohort.labelled], return_inverse=True)[1].astype(np.int64)
    rows = []
    for split in splits:
        learn = np.union1d(split.train, split.inner)
        center, scale = points[learn].mean(axis=0), points[learn].std(axis=0) + 1e-9
        x, y = (points - center) / scale, cohort.targets
        solved = solve_head(
            HEADS.build("logistic"), x[None, learn], y[learn], np.ones(len(learn)), cases=cases[learn], seed=split.fold
        )
        logits = solved.head(x[split.outer])
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        for i, share in zip(split.outer, shares, strict=True):
            s = cohort.labelled[i]
            rows.append((s.image, s.case, split.fold, split.seed, s.label, *share))
    return pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label", *(f"score_{c}" for c in CLASSES)])


def judge(cohort: Cohort, points: np.ndarray):
    """Return the record of the sites of a drawn cohort."""
    own, held = split_cases(cohort, Split()), split_sites(cohort, Split(), inner="case")
    table = predict(cohort, points, own)
    by = {s.image: i for i, s in enumerate(cohort.labelled)}
    order = [by[name] for name in table["image"]]
    samples = [cohort.labelled[i] for i in order]
    sites, cases = [s.site for s in samples], [s.case for s in samples]
    sited = Sited(
        tuple(table["image"]), tuple(cases), tuple(str(s.label) for s in samples), tuple(sites),
        tuple(str(code) for code in join_groups(sites, cases)), {}, points[order],
    )  # fmt: skip
    return judge_sites(
        sited, table, predict(cohort, points, held), why="", scoring=Scoring(), classes=CLASSES, cases=None,
        confidence=0.95,
    )  # fmt: skip


def measure_drawn(cohorts: int, planted: int) -> None:
    """Print what is found in ``cohorts`` drawn cohorts without a site effect, and in ``planted`` of each other kind."""
    print(f"{'planted':8} {'out of fold':>12} {'site-out':>9} {'told':>5} {'gap':>5} {'alarm':>6} {'subgroup':>9}")
    for kind in KINDS:
        found = defaultdict(list)
        number = cohorts if kind == "none" else planted
        for seed in range(number):
            record = judge(*draw(kind, seed))
            found["oof"].append(record.site_out.out_of_fold.value)
            found["out"].append(record.site_out.score.value)
            found["told"].append(record.told.p <= ALPHA)
            found["gap"].append(record.site_out.gap.verdict == "better")
            found["alarm"].append(record.alarm)
            found["subgroup"].append(any(r.difference and r.difference.p_holm <= 0.05 for r in record.subgroups))
            if seed == 0:
                print(f"  {record.sentence}", flush=True)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        print(
            f"{kind:8} {means['oof']:12.3f} {means['out']:9.3f} {means['told']:5.2f} {means['gap']:5.2f} "
            f"{means['alarm']:6.2f} {means['subgroup']:9.2f}   of {number}", flush=True
        )  # fmt: skip


def write_sites(folder: Path, plan, laboratories: dict[str, int]) -> None:
    """Write the laboratory of each image beside its case."""
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("sample_index", "case", "site"))
        for image in plan.train:
            writer.writerow((image.index, image.case, f"lab{laboratories.get(image.index, 0)}"))


def draw_plain(seed: int, labelled: int, folder: Path):
    """Draw a demo cohort of small images without planted trouble; return its plan."""
    from smalti.demo.cohort import draw_plan
    from smalti.demo.plan import plan_cohort

    plan = plan_cohort(seed=seed, labelled=labelled, unlabelled=4, side_px=(256, 320))
    kept = tuple(i for i in plan.train if i.kind == "tissue" and i.given == i.true)
    plan = replace(plan, train=tuple(replace(image, number=n) for n, image in enumerate(kept)))
    draw_plan(plan, folder, workers=1)
    return plan


def measure_demo(cohorts: int) -> None:
    """Print what the whole way finds on demo cohorts, with and without a scanner that goes with the class."""
    import smalti

    for seed in range(cohorts):
        for planted in (True, False):
            place = Path(tempfile.mkdtemp())
            plan = draw_plain(seed, 90, place / "data")
            rng = np.random.default_rng(seed)
            classes = sorted({i.given for i in plan.train})
            # Six sites, three of each half of the classes, in nine cases of ten; a scanner each.
            site = {}
            for image in plan.train:
                half = classes.index(image.given) % 2
                half = 1 - half if rng.random() < 0.1 else half
                site.setdefault(image.case, 2 * int(rng.integers(3)) + (half if planted else int(rng.integers(2))))
            gains = rng.uniform(0.6, 1.0, size=(6, 3))
            for image in plan.train if planted else ():
                path = place / "data" / image.name
                pixels = cv2.imread(str(path)).astype(np.float32) * gains[site[image.case]]
                cv2.imwrite(str(path), np.clip(pixels, 0, 255).astype(np.uint8))
            write_sites(place / "data", plan, {i.index: site[i.case] for i in plan.train})
            relabel(place / "data", plan)
            result = smalti.run(
                place / "data", "quick",
                settings=["model.backbone=described:colour+texture", "model.head=logistic"],
                runs=place / "runs", name="run",
            )  # fmt: skip
            show_run(f"demo {seed}, {'scanner' if planted else 'none'}", result.path)
            shutil.rmtree(place)


def measure_external(cohorts: int) -> None:
    """Print which of the two scores of a run is nearer to the score on a laboratory that was not there."""
    import smalti
    from smalti.metrics import macro_f1
    from smalti.records.studies.sites import SitesRecord

    nearer = 0
    for seed in range(cohorts):
        place = Path(tempfile.mkdtemp())
        plan = draw_plain(seed, 120, place / "data")
        away = {i.index for i in plan.train if i.tissue.laboratory == 2}
        cases = {i.case for i in plan.train if i.index in away}
        away = {i.index for i in plan.train if i.case in cases}  # a case lies on one side
        for image in plan.train:
            if image.index in away:  # the third laboratory becomes the part to predict
                for name in (image.name, image.mask_name):
                    target = place / "data" / name.replace("train_data", "test_data").replace("_0", "_9")
                    (place / "data" / name).rename(target)
        here = replace(plan, train=tuple(i for i in plan.train if i.index not in away))
        write_sites(place / "data", here, {i.index: i.tissue.laboratory for i in here.train})
        relabel(place / "data", here)
        settings = ["model.backbone=described:colour+texture", "model.head=logistic"]
        run = smalti.run(place / "data", "quick", settings=settings, runs=place / "runs", name="run")
        table = pd.read_csv(run.path / "predictions" / "test.csv")
        columns = [name for name in table if name.startswith("score_")]
        means = table.groupby("image")[columns].mean()
        classes = sorted({i.given for i in plan.train})
        truth = {
            f"test_data/img_9{i.number:03d}.png": classes.index(i.given) % 2 for i in plan.train if i.index in away
        }
        means = means.loc[[name for name in means.index if name in truth]]
        there = macro_f1([truth[name] for name in means.index], means.to_numpy())
        found = SitesRecord.read(run.path).site_out
        closer = abs(found.score.value - there) < abs(found.out_of_fold.value - there)
        nearer += closer
        print(
            f"external {seed}: out of fold {found.out_of_fold.say()}, site-out {found.score.say()}, third laboratory "
            f"{there:.3f} ({len(means)} images); site-out is {'nearer' if closer else 'not nearer'}", flush=True,
        )  # fmt: skip
        shutil.rmtree(place)
    print(f"site-out nearer in {nearer} of {cohorts}")


def relabel(folder: Path, plan) -> None:
    """Halve the classes, so that the scanner has two of them to go with."""
    classes = sorted({i.given for i in plan.train})
    with (folder / "train_labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("sample_index", "label"))
        writer.writerows((i.index, f"half{classes.index(i.given) % 2}") for i in plan.train)
    (folder / "sample_submission.csv").unlink()


def show_run(title: str, path: Path) -> None:
    """Print the sentence of a run."""
    from smalti.records.studies.sites import SitesRecord

    record = SitesRecord.read(path)
    print(f"{title}: {'ALARM ' if record.alarm else ''}{record.sentence}", flush=True)


def measure_croma() -> None:
    """Print the largest difference to the package croma, over drawn cohorts."""
    from croma import RI, CRoMa

    worst: Counter[str] = Counter()
    for kind in KINDS:
        for seed in range(5):
            cohort, points = draw(kind, seed)
            names = [[getattr(s, f) for s in cohort.labelled] for f in ("label", "site", "case")]
            codes = [pd.factorize(np.array(x, dtype=str))[0].astype(np.int64) for x in names]
            own = measure_robustness(points, *codes)
            manifest = pd.DataFrame({
                "sample_id": [s.image for s in cohort.labelled], "image_path": [s.image for s in cohort.labelled],
                "label": names[0], "center": names[1], "group_id": names[2],
            })  # fmt: skip
            index = RI.compute(points, manifest, k_candidates=[5, 11, 21], confounder_column="center")
            try:
                margin = CRoMa.compute(points, manifest, confounder_column="center")
            except RuntimeError:  # the package asks for five neighbours of each kind
                assert own.lacking
                margin = None
            assert own.neighbours == index.k
            pairs = {
                "index": (own.index, index.value), "support": (own.support, index.support),
            }  # fmt: skip
            if margin is not None:
                pairs |= {
                    "margin": (own.margin, margin.value), "tail": (own.tail, margin.ltm_alpha),
                    "dominated": (own.dominated, margin.f0),
                }  # fmt: skip
            for name, (one, two) in pairs.items():
                worst[name] = max(worst[name], abs(one - two))  # type: ignore[assignment]
    print("largest difference to croma:", {name: f"{value:.2e}" for name, value in worst.items()})


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=100)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--demo", type=int, default=0)
    parser.add_argument("--external", type=int, default=0)
    parser.add_argument("--croma", action="store_true")
    args = parser.parse_args()
    if args.cohorts:
        measure_drawn(args.cohorts, args.planted)
    if args.croma:
        measure_croma()
    if args.external:
        measure_external(args.external)
    if args.demo:
        measure_demo(args.demo)


if __name__ == "__main__":
    main()
