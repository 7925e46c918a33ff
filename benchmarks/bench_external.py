"""Does what a model promises hold on new cases of the same laboratory, and how far does it fall at another one?

    python benchmarks/bench_external.py [--seeds 20] [--first 0] [--labelled 60] [--same 120] [--other 60]
        [--side-px 384] [--minutes 0] [--folder FOLDER]

For each seed: a drawn cohort of one laboratory, a run of ``quick`` on it, and two external cohorts with labels that the
model answers: other cases of the same laboratory, and cases of another laboratory. *interval*: the stated out-of-fold
interval holds the score on the same laboratory, which has luck of its own. *foreseen*: the range that is made for so
many new cases holds it. *difference*: the interval of external less out-of-fold holds nothing.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from smalti.demo.field import LABORATORIES, TissuePlan, draw_tissue
from smalti.demo.plan import class_counts
from smalti.model import answer_folder, list_columns, load_model
from smalti.records import Margin
from smalti.records.studies.external import ExternalRecord
from smalti.workflow import run, score_answers

PAIRED = 0.3  # share of the cases with a second image
HOME, SAME, OTHER = range(3)  # the three cohorts of a seed
SETTINGS = ["audit.checks=[]", "train.watch=none", "model.backbone=tf_efficientnet_lite0", "evaluate.resamples=200"]


@dataclass(frozen=True)
class Outcome:
    """What was found for one seed: the promise, the record of the same laboratory and that of another.

    ``other`` is None where the model refuses every image of the other laboratory.
    """

    promise: Margin
    same: ExternalRecord
    other: ExternalRecord | None


def main() -> None:
    """Print a line for each seed, and what all of them show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--labelled", type=int, default=60)
    parser.add_argument("--same", type=int, default=120)
    parser.add_argument("--other", type=int, default=60)
    parser.add_argument("--side-px", type=int, default=384)
    parser.add_argument("--minutes", type=float, default=0, help="no seed begins later; 0 for all seeds")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    outcomes: list[Outcome] = []
    started = time.monotonic()
    for seed in range(args.first, args.first + args.seeds):
        if args.minutes and time.monotonic() - started > 60 * args.minutes:
            break
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            sizes = {HOME: args.labelled, SAME: args.same, OTHER: args.other}
            found = judge_seed(Path(name), seed, sizes, side_px=args.side_px)
        outcomes.append(found)
        compared = take_compared(found.same)
        print(
            f"seed {seed:2d}  out of fold {found.promise.say()}  same laboratory {found.same.scores.headline.say()}"
            f"  foreseen {compared[0]:.3f} to {compared[1]:.3f}"
            f"  another laboratory {found.other.scores.headline.say() if found.other else 'refused whole'}"
            f"  {time.monotonic() - started:.0f} s",
            flush=True,
        )
    summarise(outcomes)


def judge_seed(folder: Path, seed: int, sizes: dict[int, int], *, side_px: int) -> Outcome:
    """Draw, train and answer for one seed."""
    home = seed % len(LABORATORIES)
    of = {HOME: home, SAME: home, OTHER: (home + 1) % len(LABORATORIES)}
    data = {
        part: draw(folder / f"data{part}", (seed, part), laboratory=of[part], count=count, side_px=side_px)
        for part, count in sizes.items()
    }
    result = run(data[HOME], "quick", settings=[*SETTINGS, f"split.seeds=[{seed}]"], runs=folder / "runs", name="r")
    model = load_model(result.path)
    records = {}
    for part in (SAME, OTHER):
        columns = list_columns(model)
        answers = answer_folder(model, data[part], folder / f"answers{part}", columns=columns)
        record = score_answers(model.record, answers)
        records[part] = record
    same = records[SAME]
    if same is None or same.promised is None:
        raise RuntimeError(f"seed {seed} was not scored on its own laboratory")
    return Outcome(same.promised.score, same, records[OTHER])


def draw(folder: Path, seed: tuple[int, int], *, laboratory: int, count: int, side_px: int) -> Path:
    """A table cohort of clean tissue of one laboratory; about every third case has a second image."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(seed)
    rows, number, case = [], 0, 0
    for label, images in class_counts(count).items():
        left = images
        while left:
            for _ in range(size := min(left, 2 if rng.random() < PAIRED else 1)):
                plan = TissuePlan((*seed, number), (*seed, 10_000 + case), (side_px, side_px), label, laboratory)
                pixels, mask = draw_tissue(plan)
                name = f"i{number:04d}.png"
                cv2.imwrite(str(folder / "images" / name), pixels[..., ::-1])
                cv2.imwrite(str(folder / "masks" / name), mask)
                rows.append((f"images/{name}", f"masks/{name}", label, f"c{case:03d}"))
                number += 1
            left, case = left - size, case + 1
    with (folder / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mask", "label", "case"), *rows])
    return folder


def take_compared(record: ExternalRecord) -> tuple[float, float]:
    """The foreseen range."""
    if record.promised is None or record.promised.compared is None:
        return float("nan"), float("nan")
    return record.promised.compared.foreseen


def summarise(outcomes: list[Outcome]) -> None:
    """How often the promise held, and the mean fall."""
    interval = foreseen = difference = worse = 0
    for found in outcomes:
        score = found.same.scores.headline.value or 0.0
        interval += (found.promise.low or 0) <= score <= (found.promise.high or 1)
        compared = found.same.promised.compared if found.same.promised else None
        if compared is not None:
            foreseen += compared.inside
            difference += (compared.difference.low or 0) <= 0 <= (compared.difference.high or 0)
        away = found.other.promised.compared if found.other and found.other.promised else None
        worse += away is not None and away.verdict == "worse"
    number = len(outcomes)
    refused = sum(found.other is None for found in outcomes)
    print(f"same laboratory: interval holds {interval} of {number}, foreseen {foreseen}, difference {difference}")
    print(f"another laboratory: refused whole in {refused} of {number}, told to be worse in {worse} of the others")
    for name, listed in (("same", [f.same for f in outcomes]), ("another", [f.other for f in outcomes])):
        gaps = np.array([
            (record.scores.headline.value or 0) - (found.promise.value or 0)
            for found, record in zip(outcomes, listed, strict=True)
            if record is not None
        ])  # fmt: skip
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        print(f"{name} laboratory less out of fold: {gaps.mean():+.3f}, standard error {error:.3f}, {len(gaps)} seeds")


if __name__ == "__main__":
    main()
