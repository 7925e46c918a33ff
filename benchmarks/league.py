"""What smalti delivers beside what its users would write themselves: the same folds for all, paired by case.

    python benchmarks/league.py DATA... [--minutes 20] [--runs FOLDER] [--only quick auto] [--set data.label=grade]

DATA is a data folder, or FOLDER:KNOB=VALUE for a setting of its own (glas-a:data.label=grade). Peers:

majority   the most frequent class of the training cases
whole      each image shrunk to the backbone's input, frozen features, scikit-learn's logistic regression, C of 1
colour     21 numbers of colour (mean, spread, skewness of R, G, B, hue, saturation, value; share of glass, of dark,
           of purple), the same regression
quick      one plain head on frozen features
auto       the portfolio, in so many minutes

All have the folds of the recipe ``auto`` on that data, cases kept whole, and the backbone of the recipe. For each set:
macro-F1 with its interval, by image and by case where cases have answers; seconds of wall clock and of CPU; the paired
difference of ``auto`` to each peer. Last the mean over sets and the mean rank.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti import images, workflow
from smalti.evaluate import Unit, average_cases, score_predictions
from smalti.recipe import load_recipe
from smalti.runs import RunFolder, read_table
from smalti.types import Cohort, score_columns
from smalti.workflow.units import read_unit

PEERS = ("majority", "whole", "colour", "quick", "auto")
T = TypeVar("T")
SIDE_PX = 256  # images are shrunk to it before their colour is measured


@dataclass(frozen=True)
class Place:
    """One data set, and where its runs go."""

    data: Path
    settings: tuple[str, ...]
    runs: Path

    @property
    def name(self) -> str:
        return self.data.name + "".join(f":{s.partition('=')[2]}" for s in self.settings)


def run_recipe(place: Place, recipe: str, minutes: float) -> Path:
    """A whole run of a preset; its folder."""
    settings = [*place.settings, f"portfolio.minutes={minutes:g}"]
    return workflow.run(
        place.data, recipe, settings=settings, runs=place.runs, name=f"{place.name.replace(':', '-')}-{recipe}",
        skip_problems=True,
    ).path  # fmt: skip


def read_cohort(run: Path) -> Cohort:
    """The labelled images of a run, as their files are."""
    experiment, _ = workflow.reopen(run)
    return experiment.cohort


def describe_colours(cohort: Cohort) -> np.ndarray:
    """21 numbers of each labelled image, (n, 21)."""
    rows = []
    for sample in cohort.labelled:
        pixels = images.read_image(sample.path)
        scale = SIDE_PX / max(pixels.shape[:2])
        if scale < 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        planes = np.concatenate([pixels, hsv], axis=2).reshape(-1, 6).astype(float) / 255
        middle, spread = planes.mean(axis=0), planes.std(axis=0)
        skew = ((planes - middle) ** 3).mean(axis=0) / np.maximum(spread, 1e-6) ** 3
        red, green, blue = planes[:, :3].T
        shares = [(planes[:, :3].min(axis=1) > 0.8).mean(), (planes[:, :3].max(axis=1) < 0.3).mean()]
        rows.append([*middle, *spread, *skew, *shares, ((green < red) & (green < blue)).mean()])
    return np.array(rows)


def regress(x: np.ndarray, folds: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Out-of-fold table of a logistic regression on numbers (n, D), rows in the order of the images of a fold."""
    tables = []
    for (seed, fold), rows in folds.groupby(["seed", "fold"]):
        outer = (rows["role"] == "outer").to_numpy()
        labels = rows["label"].to_numpy(dtype=str)
        order = rows["position"].to_numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x[order[~outer]], labels[~outer])
        scores = pd.DataFrame(0.0, index=range(outer.sum()), columns=score_columns(classes))
        scores[score_columns(tuple(model.classes_))] = model.predict_proba(x[order[outer]])
        head = rows.loc[outer, ["image", "case", "label"]].reset_index(drop=True).assign(seed=seed, fold=fold)
        tables.append(pd.concat([head, scores], axis=1))
    return pd.concat(tables, ignore_index=True)


def guess(folds: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """The most frequent class of each training part."""
    outer = folds[folds["role"] == "outer"][["image", "case", "label", "seed", "fold"]].reset_index(drop=True)
    often = folds[folds["role"] != "outer"].groupby(["seed", "fold"])["label"].agg(lambda s: s.value_counts().index[0])
    said = [often[key] for key in zip(outer["seed"], outer["fold"], strict=True)]
    scores = {f"score_{name}": [float(name == s) for s in said] for name in classes}
    return outer.assign(**scores)


def play(place: Place, wanted: Sequence[str], minutes: float) -> pd.DataFrame:
    """One row for each peer; every table is written beside the runs."""
    rows, tables = [], dict[str, Path]()
    ways: dict[str, Callable[[], Path]] = {"quick": lambda: run_recipe(place, "quick", 0)}
    ways["auto"] = lambda: run_recipe(place, "auto", minutes)
    timed: dict[str, tuple[float, float]] = {}
    for name in ("quick", "auto"):
        if name in wanted or name == "quick":
            tables[name], timed[name] = _time(ways[name])
    run = RunFolder(tables["quick"])
    classes, folds = run.read_classes(), read_table(tables["quick"] / "folds.csv")
    cohort = read_cohort(run.path)
    folds["position"] = folds["image"].map({s.image: i for i, s in enumerate(cohort.labelled)})

    def embed() -> np.ndarray:
        settings = [*place.settings, "tile.source=whole", "model.head=logistic"]
        experiment, _ = workflow.train_run(
            place.data, load_recipe("quick", settings=settings), runs=place.runs, name=f"{run.path.name}-whole",
            skip_problems=True,
        )  # fmt: skip
        found = experiment.compare_images()
        assert found is not None
        return found.numpy()

    others: dict[str, Callable[[], pd.DataFrame]] = {
        "majority": lambda: guess(folds, classes),
        "whole": lambda: regress(embed(), folds, classes),
        "colour": lambda: regress(describe_colours(cohort), folds, classes),
    }
    for name in (peer for peer in others if peer in wanted):
        table, timed[name] = _time(others[name])
        tables[name] = place.runs / f"{run.path.name}-{name}.csv"
        table.to_csv(tables[name], index=False)
    scoring, cases = read_unit(run.path)
    units: tuple[Unit, ...] = ("image", "case") if scoring.by_case else ("image",)
    for unit, name in itertools.product(units, (peer for peer in PEERS if peer in tables and peer in wanted)):
        path = tables[name]
        table = RunFolder(path).read_out_of_fold() if path.is_dir() else read_table(path)
        table = table if unit == "image" else average_cases(table, cases or {}, classes=classes)
        metric = score_predictions(table, classes=classes)["metrics"]["macro_f1"]
        row = {"set": place.name, "by": unit, "peer": name, "macro_f1": metric["value"], "low": metric["low"]}
        row |= {"high": metric["high"], "wall_s": timed[name][0], "cpu_s": timed[name][1]}
        if name != "auto" and "auto" in wanted:
            sources = [tables[name], tables["auto"]]
            compared = workflow.compare_sources(sources, runs=place.runs, unit=unit)
            found = compared["rows"][1]["difference"]["macro_f1"]
            row |= {"auto_minus": found["value"], "gap_low": found["low"], "gap_high": found["high"]}
            row["verdict"] = found["verdict"]
        rows.append(row)
    return pd.DataFrame(rows)


def _time(work: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """What a piece of work gives, and its seconds of wall clock and of CPU."""
    began, cpu = time.monotonic(), _count_cpu()
    return work(), (round(time.monotonic() - began, 1), round(_count_cpu() - cpu, 1))


def _count_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=Path, default=Path("league"))
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--set", action="append", default=[], help="for all sets, as of smalti run")
    args = parser.parse_args()
    tables = []
    for text in args.data:
        folder, _, setting = text.partition(":")
        place = Place(Path(folder).resolve(), (*args.set, *([setting] if setting else [])), args.runs)
        tables.append(play(place, args.only, args.minutes))
        print(tables[-1].round(3).to_string(index=False), flush=True)
    table = pd.concat(tables, ignore_index=True)
    table["rank"] = table.groupby(["set", "by"])["macro_f1"].rank(ascending=False)
    print(table.groupby(["by", "peer"])[["macro_f1", "rank", "wall_s", "cpu_s"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
