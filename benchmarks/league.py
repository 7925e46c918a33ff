"""What smalti delivers beside what its users would write themselves: the same folds for all, paired by case.

    python benchmarks/league.py DATA... [--minutes 20] [--runs FOLDER] [--only quick auto] [--set data.label=grade]
        [--peer fastai=PYTHON] [--peer autogluon=PYTHON]

DATA is a data folder, or FOLDER:KNOB=VALUE for a setting of its own (glas-a:data.label=grade). Peers:

majority   the most frequent class of the training cases
whole      each image shrunk to the backbone's input, frozen features, scikit-learn's logistic regression, C of 1
colour     21 numbers of colour (mean, spread, skewness of R, G, B, hue, saturation, value; share of glass, of dark,
           of purple), the same regression
start      the preset: the notebook's way; takes long, played where --only names it
fastai     vision_learner and fine_tune from the same weights (peers/fastai_peer.py), in as many minutes
autogluon  TabularPredictor on the features of quick (peers/autogluon_peer.py), in as many minutes
quick      one plain head on frozen features
default    the preset; takes long, played where --only names it
auto       the portfolio, in so many minutes

All have the folds of the recipe ``auto`` on that data, cases kept whole, and the backbone of the recipe. fastai and
AutoGluon live in environments of their own, whose interpreters --peer names, and see no label of an outer image. For
each set: macro-F1 with its interval, by image and by case where cases have answers; seconds of wall clock and of CPU;
the paired difference of ``auto`` to each peer. Last, over all sets: the mean, the mean rank, and the mean difference of
``auto`` to each peer with an interval from resamples of the cases of each set.

A league that was broken off goes on: tables that answered the same question are taken, and runs continue. The seconds
of a run that was broken off are not known, and are left out. What a run finds in the cache costs it nothing: ``auto``
has the features of ``quick``.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from outsiders import OUTSIDERS, ask, read_interpreters, set_task
from smalti import images, workflow
from smalti.errors import DataError
from smalti.evaluate import Unit, average_cases, score_predictions
from smalti.models import read_input_px
from smalti.recipe import load_recipe
from smalti.records import CohortRecord, RunFolder
from smalti.stats import Pool, pool_predictions
from smalti.store import hash_text, read_json, read_table, write_json, write_table
from smalti.types import Cohort, score_columns
from smalti.workflow.prepare.units import read_unit
from standing import Pools, tabulate_leads, tabulate_standing

RUNS = ("quick", "auto", "default", "start")  # presets, in the order of play
USUAL = ("majority", "whole", "colour", "quick", "auto")
PEERS = ("majority", "whole", "colour", "start", *OUTSIDERS, "quick", "default", "auto")
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

    @property
    def file(self) -> str:
        """The name as runs and files have it."""
        return self.name.replace(":", "-")


@dataclass(frozen=True)
class Played:
    """What a peer predicted, a run folder or a table, and its seconds of wall clock and of CPU; NaN: not known."""

    source: Path
    wall_s: float
    cpu_s: float


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


def play_run(place: Place, name: str, minutes: float) -> Played:
    """A preset, with the seconds that its record has; none where it was begun without one."""
    label = f"{place.file}-{name}" + (f"-{minutes:g}m" if name == "auto" else "")
    record, begun = place.runs / f"{label}.json", (place.runs / label).is_dir()
    settings = [*place.settings, *([f"portfolio.minutes={minutes:g}"] if name == "auto" else [])]
    run, seconds = _time(
        lambda: workflow.run(place.data, name, settings=settings, runs=place.runs, name=label, skip_problems=True)
    )
    if not begun:
        write_json(record, {"wall_s": seconds[0], "cpu_s": seconds[1]})
    elif not record.is_file():
        print(f"{label}: begun by a league that was broken off, so that its seconds are not known", flush=True)
        return Played(run.path, float("nan"), float("nan"))
    known = read_json(record, "wall_s", "cpu_s")
    return Played(run.path, known["wall_s"], known["cpu_s"])


def play_table(stem: Path, asked: str, work: Callable[[], pd.DataFrame]) -> Played:
    """A peer's table and seconds: those that are there where the same was asked, else new ones."""
    table, record = stem.parent / f"{stem.name}.csv", stem.parent / f"{stem.name}.json"
    if record.is_file() and table.is_file():
        known = read_json(record, "asked", "wall_s", "cpu_s")
        if known["asked"] == asked:
            return Played(table, known["wall_s"], known["cpu_s"])
    record.unlink(missing_ok=True)  # first: a table never stands beside the seconds of another
    found, (wall, cpu) = _time(work)
    write_table(table, found)
    write_json(record, {"asked": asked, "wall_s": wall, "cpu_s": cpu})
    return Played(table, wall, cpu)


def embed_whole(place: Place) -> np.ndarray:
    """Frozen features of each labelled image, shrunk to the input of the backbone, from its last layer, (n, D)."""
    side_px = read_input_px(load_recipe("quick", settings=place.settings).model)
    settings = [*place.settings, "tile.source=whole", f"tile.size_px={side_px}"]
    settings += ["model.head=logistic", "model.embedding=last"]
    experiment = workflow.train_run(
        place.data, load_recipe("quick", settings=settings), runs=place.runs, name=f"{place.file}-quick-whole",
        skip_problems=True,
    )  # fmt: skip
    found = experiment.compare_images()
    assert found is not None  # quick has a phase transfer
    return found.numpy()


def play(place: Place, wanted: Sequence[str], minutes: float, peers: Mapping[str, Path]) -> dict[str, Played]:
    """Every wanted peer, and quick, whose folds all have."""
    played = {name: play_run(place, name, minutes) for name in RUNS if name in {"quick", *wanted}}
    run = RunFolder(played["quick"].source)
    classes, folds = CohortRecord.read(run.path).classes, read_table(run.path / "folds.csv")
    experiment = workflow.reopen(run.path)
    cohort = experiment.cohort
    folds["position"] = folds["image"].map({s.image: i for i, s in enumerate(cohort.labelled)})
    asked = hash_text(folds.to_csv(index=False), *place.settings)
    plain: dict[str, Callable[[], pd.DataFrame]] = {
        "majority": lambda: guess(folds, classes),
        "whole": lambda: regress(embed_whole(place), folds, classes),
        "colour": lambda: regress(describe_colours(cohort), folds, classes),
    }
    for name in (name for name in plain if name in wanted):
        played[name] = play_table(place.runs / f"{place.file}-{name}", asked, plain[name])
    for name, python in peers.items():
        label = f"{place.file}-{name}-{minutes:g}m"
        folder = place.runs / "peers" / label
        asked = set_task(name, folder, experiment=experiment, folds=folds, minutes=minutes)
        work = partial(ask, name, python, folder, folds=folds, classes=classes)
        played[name] = play_table(place.runs / label, asked, work)
    return played


def score(place: Place, played: Mapping[str, Played], wanted: Sequence[str]) -> tuple[pd.DataFrame, Pools]:
    """One row for each unit and peer, and what they predicted."""
    run = played["quick"].source
    classes, (scoring, cases) = CohortRecord.read(run).classes, read_unit(run)
    units: tuple[Unit, ...] = ("image", "case") if scoring.by_case else ("image",)
    rows, pools = [], dict[tuple[str, str], Pool]()
    for unit, name in itertools.product(units, (peer for peer in PEERS if peer in played and peer in wanted)):
        path = played[name].source
        table = RunFolder(path).read_out_of_fold() if path.is_dir() else read_table(path)
        table = table if unit == "image" else average_cases(table, cases or {}, classes=classes)
        pool = pools[unit, name] = pool_predictions(table, classes=classes)
        other = next(name for by, name in pools if by == unit)
        if not np.array_equal(pool.fold, pools[unit, other].fold):
            raise DataError(f"{place.name}: {name} has other folds than {other}. Fix: --runs with a new folder")
        metric = score_predictions(table, classes=classes).metrics["macro_f1"]
        row = {"set": place.name, "by": unit, "peer": name, "macro_f1": metric.value, "low": metric.low}
        row |= {"high": metric.high, "wall_s": played[name].wall_s, "cpu_s": played[name].cpu_s}
        if name != "auto" and "auto" in wanted:
            sources = [path, played["auto"].source]
            compared = workflow.compare_sources(sources, runs=place.runs, unit=unit)
            found = compared.rows[1].gap
            row |= {"auto_minus": found.value, "gap_low": found.low, "gap_high": found.high}
            row["verdict"] = found.verdict
        rows.append(row)
    return pd.DataFrame(rows), pools


def _time(work: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """What a piece of work gives, and its seconds of wall clock and of CPU."""
    began, cpu = time.monotonic(), _count_cpu()
    return work(), (round(time.monotonic() - began, 1), round(_count_cpu() - cpu, 1))


def _count_cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def main() -> None:
    """Play every set, print its table, then the standing over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=Path, default=Path("league"))
    parser.add_argument("--only", nargs="+", choices=[p for p in PEERS if p not in OUTSIDERS], default=USUAL)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="plays a peer as well")
    parser.add_argument("--set", action="append", default=[], help="for all sets, as of smalti run")
    args = parser.parse_args()
    peers = read_interpreters(args.peer)
    wanted, tables, pools = (*args.only, *peers), [], []
    for text in args.data:
        folder, _, setting = text.partition(":")
        place = Place(Path(folder).resolve(), (*args.set, *([setting] if setting else [])), args.runs)
        table, found = score(place, play(place, args.only, args.minutes, peers), wanted)
        tables.append(table)
        pools.append(found)
        print(table.round(3).to_string(index=False), flush=True)
    table = pd.concat(tables, ignore_index=True)
    print(tabulate_standing(table).round(3).to_string(index=False))
    if "auto" in wanted:
        print(tabulate_leads(pools, first="auto").round(3).to_string(index=False))


if __name__ == "__main__":
    main()
