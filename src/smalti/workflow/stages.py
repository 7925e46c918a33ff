"""The stages of one run, each from files to files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..audit import (
    write_decisions,
    write_findings,
)
from ..errors import DataError, RunError
from ..evaluate import score_predictions
from ..recipe import Recipe, load_recipe, overlay_recipe
from ..runs import (
    RunFolder,
    hash_cohort,
    hash_text,
    open_run,
    read_json,
    read_table,
    tabulate_samples,
    write_json,
    write_table,
)
from ..types import Split

if TYPE_CHECKING:
    from ..train import Experiment

from .ground import RUNS, Ground, find_decisions, inspect_ground
from .listening import SILENT, Listener


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: where it is and its scores (see ``scores.json``)."""

    path: Path
    scores: dict[str, Any]

    def describe(self) -> str:
        """The score in one line, never naked."""
        score, interval = self.scores["metrics"]["macro_f1"], self.scores["interval"]
        trust = "" if interval["trustworthy"] else " (not to be trusted: few cases)"
        return (
            f"macro-F1 {score['value']:.3f}, {interval['confidence']:.0%} interval {score['low']:.3f} to "
            f"{score['high']:.3f}{trust}; {self.scores['n_images']} images, {self.scores['n_cases']} cases, "
            f"{self.scores['n_seeds']} seed(s); chance {score['chance_prior']:.3f}, majority class "
            f"{score['chance_majority']:.3f}"
        )


def run(
    data: str | Path,
    recipe: str | Path | Recipe = "default",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    name: str | None = None,
    decisions: str | Path | None = None,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> Result:
    """Do the whole way on a data folder; an interrupted run of the same recipe and data goes on where it was.

    Args:
        data: the data folder; it is never changed.
        recipe: a preset, a recipe file, or a recipe.
        settings: ``section.knob=value`` on top of it.
        runs: folder of all runs, their cache and the decisions.
        name: of the run folder; by default data folder, preset and a hash of the recipe.
        decisions: the file that acts (see `find_decisions`).
        skip_problems: leave out images with problems, recorded as decisions.

    Raises:
        SmaltiError: see `smalti.errors`.
    """
    experiment, splits = train_run(
        data, recipe, settings=settings, runs=runs, name=name, decisions=decisions,
        skip_problems=skip_problems, listener=listener,
    )  # fmt: skip
    predict(experiment, splits, listener=listener)
    result = evaluate_run(experiment.run.path)
    report_run(experiment.run.path)
    return result


def train_run(
    data: str | Path,
    recipe: str | Path | Recipe = "default",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    name: str | None = None,
    decisions: str | Path | None = None,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> tuple[Experiment, tuple[Split, ...]]:
    """Everything up to trained folds; arguments as in `run`."""
    from ..train import train_folds

    data, runs = Path(data), Path(runs)
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    ground = inspect_ground(
        data,
        recipe=plan,
        decisions_path=Path(decisions) if decisions else find_decisions(data, runs=runs),
        skip_problems=skip_problems,
        listener=listener,
    )
    experiment, splits = prepare(ground, plan, runs=runs, name=name, listener=listener)
    with _stage(experiment.run, "train"):
        train_folds(experiment, splits, tell=listener.tell)
    return experiment, splits


def predict(experiment: Experiment, splits: tuple[Split, ...], *, listener: Listener = SILENT) -> None:
    """Out-of-fold scores, scores of the unlabelled part, and the submission."""
    from ..predict import find_unreadable, predict_outer, predict_unlabelled, write_submission

    with _stage(experiment.run, "predict"):
        predict_outer(experiment, splits, tell=listener.tell)
        if experiment.cohort.unlabelled:
            scores = predict_unlabelled(experiment, splits, tell=listener.tell)
            write_submission(experiment.run.path / "submission.csv", experiment.cohort, scores)
            if filled := find_unreadable(experiment.cohort):
                names = ", ".join(filled[:3])
                listener.say(f"{len(filled)} unreadable image(s) get the most frequent class ({names})")


def reopen(path: str | Path, *, listener: Listener = SILENT) -> tuple[Experiment, tuple[Split, ...]]:
    """An experiment from its run folder: same recipe, data and decisions, trained where it was not yet."""
    run_folder = Path(path).resolve()  # "." has no name
    recorded = read_json(run_folder / "cohort.json")
    return train_run(
        recorded["root"],
        load_recipe(run_folder / "recipe.yaml"),
        runs=run_folder.parent,
        name=run_folder.name,
        decisions=run_folder / "decisions.csv",
        listener=listener,
    )


def evaluate_run(path: str | Path) -> Result:
    """Score a run folder's out-of-fold predictions and write ``scores.json``."""
    folder = RunFolder(Path(path))
    recipe = load_recipe(folder.recipe_path)
    with _stage(folder, "evaluate"):
        scores = score_predictions(
            read_table(folder.predictions / "out_of_fold.csv"),
            classes=tuple(read_json(folder.path / "cohort.json")["classes"]),
            inner=_read_inner(folder),
            resamples=recipe.evaluate.resamples,
            confidence=recipe.evaluate.confidence,
        )
        write_json(folder.path / "scores.json", scores)
    return Result(folder.path, scores)


def evaluate_table(path: str | Path) -> Result:
    """Score a prediction table that any tool made; its score columns name the classes.

    Raises:
        DataError: with everything that is wrong with the table.
    """
    try:
        table = read_table(Path(path))
    except ValueError as error:  # of pandas' parser, or no UTF-8
        raise DataError(f"{path} is no table: {error}. Fix: save it as CSV, UTF-8, separated by commas") from None
    classes = tuple(c.removeprefix("score_") for c in table.columns if c.startswith("score_"))
    return Result(Path(path), score_predictions(table, classes=classes))


def report_run(path: str | Path) -> Path:
    """Write ``report.html`` of a run folder."""
    from ..report import write_report

    folder = RunFolder(Path(path))
    with _stage(folder, "report"):
        return write_report(folder)


def _read_inner(folder: RunFolder) -> pd.DataFrame | None:
    path = folder.predictions / "inner.csv"
    table = read_table(path) if path.is_file() else None
    return table if table is not None and len(table) else None


def prepare(
    ground: Ground, plan: Recipe, *, runs: Path, name: str | None, listener: Listener
) -> tuple[Experiment, tuple[Split, ...]]:
    """Record the plan, then tiles and features: all that the folds share."""
    from ..models import build_backbone, describe_missing_weights, find_weights, hash_weights
    from ..samples import split_cases
    from ..tile import build_store
    from ..train import Experiment, check_parts, choose_device, make_fabric

    if plan.model.without_weights == "scratch" and find_weights(plan.model) is None:
        listener.say(describe_missing_weights(plan.model).split(". Fix")[0] + "; a small backbone starts from scratch")
        plan = overlay_recipe(plan, "scratch")
    check_parts(plan)
    cohort, cache = ground.cohort, runs / "cache"
    splits = split_cases(cohort, plan.split)
    backbone = build_backbone(plan.model)
    device = choose_device(plan.train)
    identity = {
        "data": hash_cohort(cohort, memo=cache / "hashes.json"),
        "decisions": hash_text(*(f"{d.image}|{d.action}|{d.label}" for d in ground.decisions)),
        "weights": hash_weights(backbone.module),
    }
    folder = runs / (name or f"{cohort.root.resolve().name}-{plan.preset}-{hash_text(plan.to_yaml())[:6]}")
    run_folder = open_run(folder, recipe=plan, identity=identity, device=asdict(device))
    _record(run_folder, ground, splits)
    listener.say(f"{device.name}, {device.precision}: {device.reason}")
    with _stage(run_folder, "tile"):
        tile_px = plan.tile.size_px or backbone.spec.size_px
        store = build_store(cohort, plan.tile, tile_px=tile_px, cache=cache, progress=listener.follow("tile"))
    fabric = make_fabric(device)
    embeddings = None
    if plan.train.transfer.epochs > 0:
        with _stage(run_folder, "features"):
            embeddings = _embed(plan, backbone, store, fabric=fabric, cache=cache, listener=listener)
    return Experiment(run_folder, plan, cohort, store, backbone, embeddings, device, fabric), splits


def _embed(plan: Recipe, backbone: Any, store: Any, *, fabric: Any, cache: Path, listener: Listener) -> Any:
    """Frozen image embeddings (views, images, D)."""
    from ..models import POOLERS
    from ..train import compute_features

    features = compute_features(
        backbone, store, views=plan.train.transfer.views, fabric=fabric, cache=cache,
        progress=listener.follow("features"),
    )  # fmt: skip
    return features.pool(POOLERS.build(plan.model.pooler))


def _record(run_folder: RunFolder, ground: Ground, splits: tuple[Split, ...]) -> None:
    """Everything that was decided, in the run folder before training begins."""
    from ..samples import tabulate_folds

    cohort = ground.cohort
    left_out = [{"image": d.image, "reason": d.reason, "who": d.who} for d in ground.decisions if d.action == "exclude"]
    write_json(
        run_folder.path / "cohort.json",
        {
            "root": str(cohort.root.resolve()), "layout": cohort.layout, "classes": cohort.classes,
            "n_labelled": len(cohort.labelled), "n_unlabelled": len(cohort.unlabelled),
            "n_cases": len({s.case for s in cohort.labelled}), "notes": cohort.notes, "left_out": left_out,
        },
    )  # fmt: skip
    write_table(run_folder.path / "samples.csv", tabulate_samples(cohort))
    write_decisions(run_folder.path / "decisions.csv", ground.decisions)
    write_findings(run_folder.path / "findings.json", ground.seen)
    write_table(run_folder.path / "folds.csv", tabulate_folds(cohort, splits))


@contextmanager
def _stage(run_folder: RunFolder, name: str) -> Iterator[None]:
    """Log when a stage began and how long it took."""
    if not run_folder.path.is_dir():
        raise RunError(f"no run folder at {run_folder.path}. Fix: give the path that 'smalti run' printed")
    started = time.monotonic()
    run_folder.log(f"{name} begins")
    yield
    run_folder.log(f"{name} done", seconds=round(time.monotonic() - started, 2))
