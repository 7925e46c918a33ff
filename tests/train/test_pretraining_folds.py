"""Pretraining behind the gate, as a run does it: who teaches, who judges, and what the fold goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from smalti.model import load_model
from smalti.project import Project
from smalti.records import GateRecord, PretrainingRecord, RunFolder
from smalti.samples import split_cases
from smalti.train.pretraining import pretrainer
from smalti.train.pretraining.pretrainer import Pretrainer
from smalti.workflow import run
from smalti.workflow.prepare.frozen import refold
from smalti.workflow.stages import reopen

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pages")]
SETTINGS = [
    "audit.checks=[]", "train.watch=none", "evaluate.resamples=100", "split.folds=2", "tile.size_px=32",
    "model.backbone=mobilenetv2_035", "model.pretrained=false", "model.embedding=last", "train.pretrain.method=diet",
    "train.pretrain.epochs=1", "train.pretrain.turns=2", "train.gate.repeats=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Labelled images of twelve cases, two each, and three unlabelled ones, of which one is of a labelled case."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,label,case,part"]
    for i in range(27):
        cv2.imwrite(str(folder / "images" / f"i{i:02d}.png"), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        case = f"c{i // 2}" if i < 24 else ("c0" if i == 24 else f"u{i}")
        rows.append(f"images/i{i:02d}.png,{'ab'[i // 2 % 2] if i < 24 else ''},{case},{'train' if i < 24 else 'test'}")
    (folder / "samples.csv").write_text("\n".join(rows))
    return folder


def test_outer_cases_neither_teach_nor_judge_and_unlabelled_ones_only_on_request(data, tmp_path, monkeypatch):
    taught: list[tuple[str, tuple[str, ...]]] = []
    teach = Pretrainer._teach

    def note(self, images, stains, name):
        taught.append((name, tuple(images)))
        return teach(self, images, stains, name)

    monkeypatch.setattr(Pretrainer, "_teach", note)
    experiments = {}
    for name, more in (("plain", []), ("with", ["train.pretrain.transductive=true"])):
        taught.clear()
        found = run(data, "quick", settings=[*SETTINGS, *more], runs=tmp_path / "runs", name=name)
        experiment = experiments[name] = reopen(found.path)
        cases = {s.image: s.case for s in experiment.cohort.samples}
        labelled = [s.image for s in experiment.cohort.labelled]
        for split in experiment.splits:
            outer = {cases[labelled[i]] for i in split.outer}
            inner = {cases[labelled[i]] for i in (*split.train, *split.inner)}
            mine = [images for where, images in taught if where == split.name]
            assert mine
            assert not outer & {cases[image] for images in mine for image in images}
            unlabelled = {image for images in mine for image in images} - set(labelled)
            assert bool(unlabelled) is (name == "with")
            # In each turn the cases that judge do not teach.
            turns = [images for images in mine if {cases[i] for i in images if i in labelled} != inner]
            assert len(turns) >= 2
            # Nor does the unlabelled image of one of them.
            assert all({"images/i00.png", "images/i24.png"} - set(images) != {"images/i00.png"} for images in mine)
    record = PretrainingRecord.read(experiments["with"].run.path)
    assert {fold.further for fold in record.folds} == {2, 3}  # the one of c0 teaches where c0 is not outer
    assert all(fold.further == 0 for fold in PretrainingRecord.read(experiments["plain"].run.path).folds)


def test_what_is_kept_is_what_the_fold_the_run_and_the_model_use(data, tmp_path):
    kept = run(data, "quick", settings=[*SETTINGS, "train.gate.keep=always"], runs=tmp_path / "runs", name="kept")
    dropped = run(data, "quick", settings=[*SETTINGS, "train.pretrain.lr=1e3"], runs=tmp_path / "runs", name="dropped")
    plain = [s for s in SETTINGS if not s.startswith("train.pretrain")]
    without = run(data, "quick", settings=plain, runs=tmp_path / "runs", name="without")
    verdicts = GateRecord.read(kept.path).verdicts
    assert [v.kept for v in verdicts] == [True, True]
    assert verdicts == tuple(fold.verdict for fold in PretrainingRecord.read(kept.path).folds)
    tables = [(r.path / "predictions" / "out_of_fold.csv").read_bytes() for r in (kept, dropped, without)]
    # A rate that spoils everything is undone, and the run is the one without it.
    assert [v.kept for v in GateRecord.read(dropped.path).verdicts] == [False, False]
    assert tables[1] == tables[2] != tables[0]
    again = reopen(kept.path)
    assert all(again.find_backbone(split).module is not again.backbone.module for split in again.splits)
    # Other folds on a part of the cohort begin anew: nothing of the backbones of these folds is taken over.
    part = replace(again.cohort, labelled=again.cohort.labelled[:16], unlabelled=())
    splits = tuple(replace(split, fold=split.fold + 5) for split in split_cases(part, again.recipe.split))
    other = tmp_path / "other"
    other.mkdir()
    anew = refold(Project(data, tmp_path / "runs"), again, part, splits, run_folder=RunFolder(other))
    assert set(anew.pretrained) == {split.name for split in splits}
    assert not {split.name for split in again.splits} & set(anew.pretrained)
    assert len(PretrainingRecord.read(other).folds) == len(splits)
    # The model has the backbone of each fold, and answers as the run does.
    paths = sorted((data / "images").glob("*.png"))[24:]
    answers = load_model(kept.path).predict(paths)
    columns = ["score_a", "score_b"]
    said = kept_test_scores(kept.path, [p.name for p in paths])
    np.testing.assert_allclose(answers[columns].to_numpy(), said, atol=1e-5)


def kept_test_scores(path: Path, names: list[str]) -> np.ndarray:
    """The mean over folds of what a run says of its unlabelled images."""
    import pandas as pd

    table = pd.read_csv(path / "predictions" / "test.csv")
    mean = table.groupby("image")[["score_a", "score_b"]].mean()
    return mean.loc[[f"images/{name}" for name in names]].to_numpy()


def test_a_verdict_stands_when_a_run_goes_on(data, tmp_path, monkeypatch):
    found = run(data, "quick", settings=SETTINGS, runs=tmp_path / "runs", name="run")

    def refuse(*args, **kwargs):
        raise AssertionError("inner cases were asked again")

    monkeypatch.setattr(pretrainer, "judge", refuse)
    reopen(found.path)
