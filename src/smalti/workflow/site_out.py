"""Scores on sites that were left out of training, beside the scores of a run; what the site means for them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import SplitError
from ..evaluate.site_effects import Sited, judge_sites
from ..project import Project
from ..recipe import Recipe
from ..recipe.automatic import PLAIN_POOLERS
from ..records import CohortRecord, Embeddings, RunFolder, Scoring, log_stage
from ..records.layout import EMBEDDINGS, SAMPLES, SITE_OUT, SITE_RUNS, name_checkpoint
from ..records.studies.sites import SiteFolds, SitesRecord
from ..stats.permutation import join_groups
from ..store import read_table, write_table
from ..types import PREDICTION_COLUMNS, SITE_COLUMN, SUBGROUP_PREFIX, score_columns
from .prepare.frozen import refold
from .units.ahead import train_ahead

if TYPE_CHECKING:
    from ..train import Experiment


def explain_no_sites(recipe: Recipe) -> str:
    """Return why this recipe has no scores of sites that were left out; empty where it has."""
    fix = "--set split.group=site makes all scores of a run such scores"
    if recipe.split.group == "site":
        return "the folds of this run are sites, so that its scores are site-out scores"
    if recipe.evaluate.sites == "none":
        return "evaluate.sites=none"
    if recipe.ensemble.members or recipe.portfolio.members is not None:
        return f"several members make the scores of this run; {fix}"
    if recipe.train.pretrain.method is not None:
        return f"each fold pretrains its own backbone; {fix}"
    if recipe.evaluate.sites == "train":
        return ""
    slow = (
        (recipe.train.finetune.epochs > 0, "fine-tune a network"),
        (recipe.stain.normalise != "none", "normalise stain to other training cases"),
        (recipe.model.pooler not in PLAIN_POOLERS or recipe.model.fusion is not None, "train a pooler on tiles"),
    )
    found = [what for stands, what in slow if stands]
    long = "for each site, which takes long; --set evaluate.sites=train does it, and"
    return f"leaving sites out would {found[0]} {long} {fix}" if found else ""


def hold_out_sites(project: Project, experiment: Experiment) -> None:
    """Train the recipe once more for each site that is left out, and write what it scores there.

    All choices are made on other cases of the sites that teach, as in the folds of the run; nothing but what is held
    out differs. An interrupted call goes on where it was. There is nothing to do where the data says no sites.
    """
    from ..predict import predict_outer
    from ..predict.rules import settle_tables
    from ..samples import split_sites
    from ..train import tabulate_inner, train_split

    run, cohort, recipe = experiment.run, experiment.cohort, experiment.recipe
    if SiteFolds.locate(run.path).is_file():
        shutil.rmtree(run.path / SITE_RUNS, ignore_errors=True)  # of a call that was killed at its very end
        return
    if not any(s.site for s in cohort.labelled) or explain_no_sites(recipe):
        return
    try:
        splits = split_sites(cohort, recipe.split.model_copy(update={"folds": "auto"}), inner="case")
    except SplitError as error:
        SiteFolds(folds={}, why=error.message).write(run.path)
        project.listener.say(str(error))
        return
    folder = RunFolder(run.path / SITE_RUNS)
    folder.path.mkdir(exist_ok=True)
    with log_stage(run.path, "sites"):
        own = refold(project, experiment, cohort, splits, run_folder=folder)
        own = replace(own, given=())
        train_ahead(project, own)
        for done, split in enumerate(splits):
            project.listener.tell("sites", done, len(splits))
            if not (folder.path / name_checkpoint(split.name)).is_file():
                train_split(own, split)
        table, inner = predict_outer(own), tabulate_inner(own)
        _, settled, _ = settle_tables(inner, {"site_out": table}, classes=cohort.classes, predict=recipe.predict)
        write_table(run.path / SITE_OUT, settled["site_out"])
        folds = {s.name: tuple(sorted({cohort.labelled[i].site for i in s.outer})) for s in splits}
        SiteFolds(folds=folds).write(run.path)
    shutil.rmtree(folder.path)


def evaluate_sites(run: RunFolder, scoring: Scoring, cases: Mapping[str, str] | None) -> SitesRecord | None:
    """Write ``sites.json`` and return it; None where the data says neither sites nor subgroups.

    Raises:
        RunError: a table is missing or damaged.
    """
    if not (run.path / SAMPLES).is_file():
        return None
    samples = read_table(run.path / SAMPLES)
    columns = [name for name in map(str, samples) if name.startswith(SUBGROUP_PREFIX)]
    if SITE_COLUMN not in samples and not columns:
        return None
    recipe, table = run.read_recipe(), run.read_out_of_fold()
    classes, folds, held = CohortRecord.read(run.path).classes, SiteFolds.find(run.path), None
    if SITE_COLUMN not in samples:
        why = "the data names no sites"
    elif folds is not None and not folds.why:
        held, why = read_table(run.path / SITE_OUT, *PREDICTION_COLUMNS, *score_columns(classes)), ""
    else:
        late = "no site was held out yet, which the same 'smalti run' does"
        why = explain_no_sites(recipe) or (late if folds is None else folds.why)
    first = table.drop_duplicates("image").set_index("image")
    rows = samples.set_index("image").loc[list(first.index)]
    sites = rows[SITE_COLUMN] if SITE_COLUMN in rows else pd.Series("", index=rows.index)
    points = Embeddings.read_file(run.path / EMBEDDINGS) if (run.path / EMBEDDINGS).is_file() else None
    sited = Sited(
        images=tuple(first.index), cases=tuple(first["case"]), labels=tuple(first["label"]), sites=tuple(sites),
        groups=tuple(f"{code}" for code in join_groups(list(sites), list(first["case"]))),
        subgroups={name.removeprefix(SUBGROUP_PREFIX): tuple(rows[name]) for name in columns},
        points=None if points is None else points.order(tuple(first.index)),
    )  # fmt: skip
    record = judge_sites(
        sited, table, held, why=why, scoring=scoring, classes=classes, cases=cases,
        confidence=recipe.evaluate.confidence, by_site=recipe.split.group == "site" and SITE_COLUMN in samples,
    )  # fmt: skip
    record.write(run.path)
    return record
