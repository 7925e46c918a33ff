"""Do images without labels help, and does the gate keep what helps and nothing else? Planted truths.

    python benchmarks/bench_unlabelled.py [--seeds 10] [--only embeddings|shuffled|images] [--head logistic]
        [--rounds 1]

*embeddings*: drawn embeddings, a few labels, 400 unlabelled images of the same population, of another prior, 30 % of
them foreign, and labels that are noise. For each seed the head without and with pseudo-labels is scored on 3,000 new
images of the labelled population: the difference, its mean over seeds with Student's interval (seeds are the pairs),
and how often the inner cases kept it. *shuffled*: the same with labels dealt at random, 20 times as many seeds as
there are planted cases of noise: how often the gate keeps what means nothing. *images*: two textures drawn as pictures,
the whole way with described colours and textures in place of a network, without and with the ladder's rungs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from smalti import workflow
from smalti.metrics import macro_f1
from smalti.recipe import Gate, Pseudo
from smalti.records import GateVerdict
from smalti.train import HEADS
from smalti.train.gate import open_inner
from smalti.train.heads import Linear, solve_head
from smalti.train.pseudo.eligible import Seen, find_unlike
from smalti.train.pseudo.rounds import Teacher, teach_unlabelled
from smalti.types import Cohort, Sample, Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIZE, CLASSES, NEW, FREE = 60, "abc", 3000, 400
EVEN = (1 / 3, 1 / 3, 1 / 3)


@dataclass(frozen=True)
class Planted:
    """What is drawn: ``apart`` is the distance of two class means, ``shares`` those of the unlabelled images."""

    name: str
    labelled: int = 48
    apart: float = 2.5
    shares: tuple[float, float, float] = EVEN
    foreign_frac: float = 0.0
    noise: bool = False


PLANTED = (
    Planted("same population, 30 labels", labelled=30),
    Planted("same population, 60 labels", labelled=60),
    Planted("same population, 240 labels", labelled=240),
    Planted("shifted prior (80, 15, 5 %)", shares=(0.8, 0.15, 0.05)),
    Planted("30 % foreign, far", foreign_frac=0.3),
    Planted("30 % foreign, near", foreign_frac=-0.3),
    Planted("labels are noise", noise=True),
)


def draw(y: Ints, rng: np.random.Generator, *, apart: float) -> Floats:
    """Embeddings (n, SIZE): a few wide directions hold the classes, many narrow ones do not; no axis is special."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(SIZE, SIZE)))[0]
    means = np.eye(3, SIZE) * apart / np.sqrt(2)
    return np.asarray((means[y] + rng.normal(size=(len(y), SIZE)) / np.sqrt(1 + np.arange(SIZE) / 3)) @ turn)


def draw_problem(planted: Planted, seed: int) -> tuple[Floats, Ints, Floats, Floats, Ints]:
    """Labelled embeddings and classes, unlabelled embeddings, new embeddings and classes; standardised."""
    rng = np.random.default_rng(seed)
    y, new_y = np.arange(planted.labelled) % 3, rng.choice(3, NEW)
    x, new = draw(y, rng, apart=planted.apart), draw(new_y, rng, apart=planted.apart)
    free = draw(rng.choice(3, FREE, p=planted.shares), rng, apart=planted.apart)
    strangers = int(abs(planted.foreign_frac) * FREE)
    # Another class, far away or among the three.
    shift = rng.normal(size=SIZE) * (1.0 if planted.foreign_frac > 0 else 0.25)
    free[:strangers] = draw(np.zeros(strangers, np.int64), rng, apart=0) + shift
    if planted.noise:
        y, new_y = rng.permutation(y), rng.permutation(new_y)
    middle, spread = x.mean(axis=0), x.std(axis=0)
    x, free, new = ((part - middle) / spread for part in (x, free, new))
    return x, y, free, new, new_y


def teach(
    x: Floats, y: Ints, free: Floats, pseudo: Pseudo, gate: Gate, *, head: str
) -> tuple[Linear, Linear, list[GateVerdict]]:
    """The head without and with pseudo-labels, and the verdicts."""
    names = [f"c{i:04d}" for i in range(len(y))]
    samples = tuple(Sample(n, Path(n), None, CLASSES[c], n, "") for n, c in zip(names, y, strict=True))
    nothing = np.empty(0, dtype=np.int64)
    inner = open_inner(
        Cohort(Path(), "table", samples, (), tuple(CLASSES)), Split(0, 0, np.arange(len(y)), nothing, nothing),
        repeats=gate.repeats,
    )  # fmt: skip
    weights, solver = np.ones(len(y)), HEADS.build(head)
    solved = solve_head(solver, x[None], y, weights, cases=np.arange(len(y)), seed=0)
    kept = np.random.default_rng(0).random((1, *free.shape)) >= pseudo.dropout
    none, others = np.full(len(y), ""), np.array([f"u{i:04d}" for i in range(len(free))])
    noisy = free[None] * kept / (1 - pseudo.dropout)
    seen = Seen(x[None], y, weights, np.array(names), none, free[None], noisy, others, np.full(len(free), ""))
    seen = seen.take(~find_unlike(seen, unlike_frac=pseudo.unlike_frac))
    taught = teach_unlabelled(Teacher(solver, seen, solved.strength, pseudo), inner, solved, gate=gate)
    return solved.head, taught.solved.head, [one.verdict for one in taught.rounds]


def say(values: list[float]) -> str:
    """Mean over seeds with its interval, and whether it is worse or better beyond noise."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error if error > 0 else 0.0
    verdict = "worse" if mean + half < 0 else "better" if mean - half > 0 else "no difference"
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f}) {verdict}"


def measure_embeddings(seeds: int, head: str, rounds: int) -> None:
    """Print gains on new images for each planted truth, with the gate and without."""
    for planted in PLANTED:
        always, gated, base, kept, started = [], [], [], 0, time.perf_counter()
        for seed in range(seeds):
            x, y, free, new, new_y = draw_problem(planted, seed)
            before, after, verdicts = teach(x, y, free, Pseudo(rounds=rounds), Gate(keep="always"), head=head)
            base.append(macro_f1(new_y, before(new)))
            always.append(macro_f1(new_y, after(new)) - base[-1])
            if rounds > 1:  # of several, the first that is dropped is the end
                after, verdicts = teach(x, y, free, Pseudo(rounds=rounds), Gate(), head=head)[1:]
            helps = verdicts[0].kept and not verdicts[0].reason.startswith("train.gate.keep=always")
            gated.append(macro_f1(new_y, after(new)) - base[-1] if helps else 0.0)
            kept += helps
        took = (time.perf_counter() - started) / seeds
        print(
            f"{planted.name:30s} without {np.mean(base):.3f}; always: {say(always)}; if-better: {say(gated)}, kept "
            f"{kept} of {seeds}; {took:.1f} s", flush=True,
        )  # fmt: skip


def measure_shuffled(seeds: int, head: str) -> None:
    """Print how often the gate keeps pseudo-labels of labels that mean nothing, and what new images say."""
    planted = Planted("", noise=True)
    for metric in ("log_loss", "macro_f1"):
        scores, kept = [], 0
        for seed in range(seeds):
            x, y, free, new, new_y = draw_problem(planted, 1000 + seed)
            _, after, verdicts = teach(x, y, free, Pseudo(rounds=1), Gate(metric=metric, repeats=1), head=head)
            kept += verdicts[0].kept
            scores.append(macro_f1(new_y, after(new)) - 1 / 3)
        print(f"shuffled labels, {metric}: kept {kept} of {seeds}; macro-F1 of new images less 1/3: {say(scores)}")


def draw_pictures(folder: Path, seed: int, *, labelled: int, free: int) -> Path:
    """Two textures in the challenge layout: grains of two sizes in the colours of a stain that differ by image."""
    rng = np.random.default_rng(seed)
    for part, count in (("train_data", labelled), ("test_data", free)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            grain = rng.normal(size=(96, 96)).astype(np.float32)
            size = (1.2 if number % 2 else 1.5) * rng.uniform(0.75, 1.3)
            smooth = cv2.GaussianBlur(grain, (0, 0), size)
            share = np.clip(0.5 + 0.25 * smooth / smooth.std(), 0, 1)[..., None]
            dark, light = rng.normal((140, 56, 96), 12), rng.normal((214, 190, 236), 8)
            pixels = share * dark + (1 - share) * light + rng.normal(0, 2.5, (96, 96, 3))
            cv2.imwrite(str(folder / part / f"img_{number:04d}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
    rows = (f"{i},{'AB'[i % 2]}\n" for i in range(labelled))
    (folder / "train_labels.csv").write_text("sample_index,label\n" + "".join(rows))
    (folder / "sample_submission.csv").write_text("sample_index,label\n" + "".join(f"{i},A\n" for i in range(free)))
    return folder


def measure_images(seeds: int) -> None:
    """Print macro-F1 of unlabelled pictures, whose truth is known, without and with pseudo-labels, the whole way."""
    import pandas as pd

    common = ["model.backbone=described:colour+texture", "tile.size_px=64", "train.device=cpu", "split.folds=3"]
    ways = {"without": [], "if-better": ["train.pseudo.rounds=1"],
            "always": ["train.pseudo.rounds=1", "train.gate.keep=always"]}  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in ways}
    kept: dict[str, int] = dict.fromkeys(ways, 0)
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as home:
            data = draw_pictures(Path(home) / "pictures", seed, labelled=40, free=160)
            for name, settings in ways.items():
                result = workflow.run(data, "quick", settings=[*common, *settings], runs=Path(home) / "runs", name=name)
                table = pd.read_csv(result.path / "predictions" / "test.csv")
                mean = table.groupby("image")[["score_A", "score_B"]].mean()
                truth = np.array([int(Path(str(image)).stem[-4:]) % 2 for image in mean.index])
                found[name].append(macro_f1(truth, mean.to_numpy()))
                if name != "without":
                    kept[name] += sum(row["kept"] for row in json.loads((result.path / "gate.json").read_text()))
    for name in ways:
        gains = [a - b for a, b in zip(found[name], found["without"], strict=True)]
        told = "" if name == "without" else f", gain {say(gains)}; folds that kept: {kept[name]} of {3 * seeds}"
        print(f"pictures, {name}: macro-F1 of the unlabelled {np.mean(found[name]):.3f}{told}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=("embeddings", "shuffled", "images"))
    parser.add_argument("--head", default="logistic")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with threadpool_limits(1):
        if asked.only in (None, "embeddings"):
            measure_embeddings(asked.seeds, asked.head, asked.rounds)
        if asked.only in (None, "shuffled"):
            measure_shuffled(20 * asked.seeds, asked.head)
        if asked.only in (None, "images"):
            measure_images(asked.seeds)


if __name__ == "__main__":
    main()
