"""Ensembles: a run whose scores come from other runs on the same folds."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ...errors import RunError
from ...project import Listener, Project
from ...recipe import Recipe
from ...records import Ensemble, Influence, RunFolder, log_stage
from ...records.layout import AS_GIVEN, FOLDS, INNER, OUT_OF_FOLD, SEALED, SUBMISSION, TEST
from ...store import find_table, hash_file, hash_text, read_table
from ...types import PREDICTION_COLUMNS, Cohort
from ..prepare.ground import Ground
from ..prepare.preparation import begin_combined
from ..prepare.settling import UNFITTED, check_rules

if TYPE_CHECKING:
    from ...predict import Member

TABLES = (INNER, OUT_OF_FOLD, TEST, SEALED, AS_GIVEN)


def combine_runs(project: Project, ground: Ground, recipe: Recipe, *, name: str | None = None) -> RunFolder:
    """Combine the members of ``recipe.ensemble`` and write the predictions of the ensemble.

    Raises:
        PartError, RecipeError: see `check_rules`.
        RunError: a member is no finished run beside this one, or has other images or folds than this recipe.
        DataError: the members were not scored on the same images and folds.
    """
    check_rules(recipe)
    folders = [project.runs / member for member in recipe.ensemble.members]
    if missing := [folder for folder in folders if not (folder / OUT_OF_FOLD).is_file()]:
        names = ", ".join(str(folder) for folder in missing)
        raise RunError(f"no finished run at {names}", fix="run them first, or name runs that 'smalti logbook' lists")
    files = [folder / table for folder in folders for table in TABLES]
    members = hash_text(*(hash_file(path) if path.is_file() else "" for path in files))
    run_folder, _, influence = begin_combined(project, ground, recipe, name=name, stands_on=members, members=folders)
    blend_members(run_folder, ground, recipe, folders, influence=influence, listener=project.listener)
    return run_folder


def blend_members(
    run_folder: RunFolder,
    ground: Ground,
    recipe: Recipe,
    folders: list[Path],
    *,
    influence: Influence,
    listener: Listener,
) -> None:
    """Write the predictions that finished runs make together, by the method and the rules of the recipe.

    Raises:
        RunError: a member has other images or folds than this recipe.
        DataError: the members were not scored on the same images and folds.
    """
    from ...predict import PARTIAL, combine_members, write_predictions

    with log_stage(run_folder.path, "predict"):
        cohort, method = ground.cohort, recipe.ensemble.method
        listed = _read_members(folders, partial=method in PARTIAL)
        combined = combine_members(listed, classes=cohort.classes, method=method)
        _check_fit(run_folder, folders[0], combined.outer, cohort)
        found = {"out_of_fold": combined.outer, "test": combined.test, "sealed": combined.sealed}
        tables = {name: table for name, table in found.items() if table is not None}
        given = [find_table(f / AS_GIVEN) for f in folders]
        if influence.followed and all(table is not None for table in given):
            # The same ensemble: what it fits is fitted on the inner images alone.
            as_given = [replace(m, outer=table) for m, table in zip(listed, given, strict=True) if table is not None]
            tables["as_given"] = combine_members(as_given, classes=cohort.classes, method=method).outer
        Ensemble(folds=combined.record).write(run_folder.path)
        settled = write_predictions(run_folder, combined.inner, tables, recipe=recipe, classes=cohort.classes)
        if cohort.unlabelled and "test" in tables:
            # What a fitted method gives for inner images is what it was fitted to: no calibration can be told from it.
            calibration = "none" if method not in UNFITTED else choose_calibration(recipe)
            moved = [f.name for f in folders if RunFolder(f).read_recipe().predict.decision != "largest"]
            if moved and cohort.form is not None and cohort.form.scores:
                listener.say(f"the probabilities carry the class weights of {', '.join(moved)} (predict.decision)")
            submit(
                run_folder, cohort, settled["test"], inner=combined.inner, scores=tables["test"],
                calibration=calibration, listener=listener,
            )  # fmt: skip


def _read_members(folders: list[Path], *, partial: bool) -> list[Member]:
    from ...predict import Member

    inner = _read_inner([folder / INNER for folder in folders], partial=partial)
    return [
        Member(
            f.name,
            inner=table,
            outer=RunFolder(f).read_out_of_fold(),
            test=find_table(f / TEST),
            sealed=find_table(f / SEALED),
        )
        for f, table in zip(folders, inner, strict=True)
    ]


def choose_calibration(recipe: Recipe) -> str:
    """The calibration of probabilities that a submission asks for: by temperature where the recipe has none."""
    return "temperature" if recipe.predict.calibration == "none" else recipe.predict.calibration


def submit(
    run_folder: RunFolder,
    cohort: Cohort,
    decided: pd.DataFrame,
    *,
    inner: pd.DataFrame,
    scores: pd.DataFrame,
    calibration: str,
    listener: Listener,
) -> None:
    """Write ``submission.csv``, and say what is in it; where none is written, say why.

    Args:
        run_folder: where it goes.
        cohort: its form is filled.
        decided: the test table that the run keeps; the class of its largest score is said.
        inner: scores of the inner images before any rule.
        scores: the test table before any rule.
        calibration: of the probabilities, if they are asked for.
        listener: hears what is said.
    """
    from ...predict import calibrate_scores, find_unreadable, write_submission

    form, path = cohort.form, run_folder.path / SUBMISSION
    if form is None:
        listener.say(f"no submission is written: {cohort.no_submission}")
        return
    probabilities = None
    if form.scores:
        probabilities = calibrate_scores(inner, scores, classes=cohort.classes, calibration=calibration)
        listener.say(f"submission.csv holds probabilities, calibration '{calibration}' on inner images")
    write_submission(path, cohort, decided, probabilities)
    if filled := find_unreadable(cohort):
        what = "the shares of the classes" if form.scores else "the most frequent class"
        listener.say(f"{len(filled)} row(s) without a readable image get {what} ({', '.join(filled[:3])})")


def _check_fit(run_folder: RunFolder, member: Path, outer: pd.DataFrame, cohort: Cohort) -> None:
    """Check that members scored the images of the data, in the folds that ``folds.csv`` of the whole will show.

    Raises:
        RunError: they did not.
    """
    scored, wanted = set(outer["image"]), {sample.image for sample in cohort.labelled}
    if scored != wanted:
        raise RunError(
            f"the members scored {len(scored)} images, this data with its decisions has {len(wanted)}; "
            f"{len(scored ^ wanted)} differ",
            fix="combine runs with the same decisions",
        )
    mine, theirs = (read_table(folder / FOLDS) for folder in (run_folder.path, member))
    if mine.equals(theirs):
        return
    split = RunFolder(member).read_recipe().split.model_dump(mode="json")
    own = run_folder.read_recipe().split.model_dump(mode="json")
    settings = " ".join(f"--set split.{k}={v}".replace(", ", ",") for k, v in split.items() if own[k] != v)
    raise RunError(f"this recipe makes other folds than {member.name} has", fix=f"{settings or 'run the members anew'}")


def _read_inner(paths: list[Path], *, partial: bool) -> list[pd.DataFrame]:
    """Tables of inner predictions on the same rows: solved heads hold back more images than others.

    These are the rows that all members have; for a method that takes ``partial`` tables all rows that any has, without
    scores where a member has none. Where the former have none in common, the tables stay as they are, and
    `combine_members` says how they differ.
    """
    keys = ["seed", "fold", "image"]
    # A table without rows does not say that these are numbers.
    tables = [read_table(path, *PREDICTION_COLUMNS).astype({"seed": int, "fold": int}) for path in paths]
    rows = [pd.MultiIndex.from_frame(table[keys]) for table in tables]
    if not partial:
        common = reduce(pd.Index.intersection, rows)
        if common.empty:
            return tables
        return [table[row.isin(common)].reset_index(drop=True) for table, row in zip(tables, rows, strict=True)]
    heads = pd.concat([table[list(PREDICTION_COLUMNS)] for table in tables]).drop_duplicates(keys)
    return [heads.merge(table.drop(columns=["case", "label"]), on=keys, how="left") for table in tables]
