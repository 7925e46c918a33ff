"""What runs share: weights trained in just the same way, and folds that do not depend on what was left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from pages import without_pages
from smalti import workflow
from smalti.audit import Audit, apply_decisions
from smalti.errors import RunError, SplitError
from smalti.recipe import load_recipe
from smalti.train import load_network, read_checkpoint, score_bags, train_folds
from smalti.types import DECISION_COLUMNS, Cohort, Decision, Sample, Split
from smalti.workflow.prepare import identity
from smalti.workflow.prepare.splitting import make_splits
from textures import CLASSES, FAST, LABELLED, name_case, name_label, write_lines

FROZEN = (*FAST, "train.finetune.epochs=0", "train.transfer.epochs=4", "evaluate.resamples=100", "audit.checks=[]")
COLUMNS = [f"score_{c}" for c in CLASSES]
FILES = ("fold0-seed0.safetensors", "fold1-seed0.safetensors")

Make = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def no_report() -> Iterator[None]:
    with without_pages():
        yield


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Fine-tuned networks seen in one view, in eight, and with another decision; read only."""
    runs = tmp_path_factory.mktemp("shared")
    settings = [*FAST, "train.transfer.epochs=4", "train.finetune.epochs=1", "evaluate.resamples=100"]
    settings += ["audit.checks=[]"]
    said: list[str] = []
    listener = workflow.Listener(say=said.append)
    for name, more in (("one", []), ("eight", ["predict.views=8"]), ("prior", ["predict.decision=prior"])):
        workflow.run(challenge, "default", settings=[*settings, *more], runs=runs, name=name, listener=listener)
    return SimpleNamespace(runs=runs, said=said)


def read_events(run: Path) -> list[str]:
    lines = (run / "events.log").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_recipes_that_differ_only_in_prediction_share_their_weights(shared: SimpleNamespace) -> None:
    for name, other in (("eight", "one"), ("prior", "one"), ("prior", "eight")):
        for file in FILES:
            assert (shared.runs / name / "checkpoints" / file).samefile(shared.runs / other / "checkpoints" / file)
    assert [read_events(shared.runs / n).count("trained") for n in ("one", "eight", "prior")] == [2, 0, 0]
    assert sum("2 trained network(s) taken from" in text for text in shared.said) == 2
    folds = [(shared.runs / n / "predictions" / "folds" / "outer-fold0-seed0.csv") for n in ("one", "eight", "prior")]
    assert folds[0].read_bytes() == folds[2].read_bytes() != folds[1].read_bytes()
    assert pd.read_csv(shared.runs / "one" / "history.csv").equals(pd.read_csv(shared.runs / "eight" / "history.csv"))
    pictures = [(shared.runs / name / "figures" / "augmentation.png") for name in ("one", "eight", "prior")]
    assert pictures[0].read_bytes() == pictures[1].read_bytes() == pictures[2].read_bytes()


def turn(tiles: torch.Tensor) -> list[torch.Tensor]:
    """The eight symmetries of the square, tiles (N, H, W, 3)."""
    flipped = (tiles, tiles.flip(2))
    return [torch.rot90(one, quarter, (1, 2)) for one in flipped for quarter in range(4)]


def read_logits(experiment: Any, split: Split, bag: int) -> list[torch.Tensor]:
    """Logits (C,) of each turned copy of a bag by hand: stored tiles through the saved weights in timm's network."""
    weights = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")["weights"]
    tuned = {key[9:]: value for key, value in weights.items() if key.startswith("backbone.")}
    network = timm.create_model("test_resnet", num_classes=0).eval()
    network.load_state_dict(tuned or experiment.backbone.module.state_dict())
    rows, spec = experiment.store.rows(bag), experiment.backbone.spec
    logits = []
    with torch.inference_mode():
        for tiles in turn(torch.from_numpy(experiment.store.read_rows(rows.start, rows.stop))):
            pixels = (tiles / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
            mean = network(pixels.permute(0, 3, 1, 2)).mean(dim=0)
            scaled = (mean - weights["head.center"]) / weights["head.scale"]
            logits.append(weights["head.linear.weight"] @ scaled + weights["head.linear.bias"])
    return logits


def test_test_time_augmentation_is_the_mean_of_logits_over_the_turned_copies(prepare: Make) -> None:
    """Fine-tuned networks look at tiles; frozen ones at stored embeddings; by hand it is the same."""
    for epochs in (1, 0):
        settings = ("train.transfer.epochs=4", f"train.finetune.epochs={epochs}", "predict.views=8")
        experiment = prepare(*settings)
        splits = experiment.splits
        train_folds(experiment)
        split = splits[0]
        bags = experiment.find_bags(split.outer[:3])
        network = load_network(experiment, split)
        by_hand = [read_logits(experiment, split, int(bag)) for bag in bags]
        options: dict[str, Any] = {"spec": experiment.backbone.spec, "fabric": experiment.fabric}
        means = torch.stack([torch.stack(logits).mean(dim=0) for logits in by_hand])
        plain = torch.stack([logits[0] for logits in by_hand])
        assert torch.allclose(score_bags(network, experiment.store, bags, views=8, **options), means, atol=1e-4)
        assert torch.allclose(score_bags(network, experiment.store, bags, views=1, **options), plain, atol=1e-4)
        assert torch.equal(
            score_bags(network, experiment.store, bags, **options),
            score_bags(network, experiment.store, bags, views=1, **options),
        )
        assert not torch.allclose(means, plain, atol=1e-3)
        workflow.predict(experiment)
        table = pd.read_csv(experiment.run.predictions / "out_of_fold.csv").set_index("image")
        images = [experiment.cohort.labelled[i].image for i in split.outer[:3]]
        expected = means.double().softmax(dim=1).numpy()
        assert table.loc[images, COLUMNS].to_numpy() == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def trained(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A trained run on frozen features, from a weights file."""
    place = tmp_path_factory.mktemp("trained")
    torch.manual_seed(5)
    weights = place / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    data = Path(shutil.copytree(challenge, place / "textures"))
    settings = (*FROZEN, f"model.weights={weights}")
    workflow.train_run(data, settings=settings, runs=place / "runs", name="trained")
    return SimpleNamespace(data=data, runs=place / "runs", settings=settings, weights=weights)


def list_taken(trained: SimpleNamespace, *settings: str, decisions: Path | None = None) -> list[str]:
    """Checkpoints that a new run has before anything is trained; the run is removed."""
    recipe = load_recipe(settings=[*trained.settings, *settings])
    project = workflow.Project(trained.data, trained.runs, decisions or trained.runs / "none.csv")
    experiment = workflow.prepare(project, workflow.inspect_ground(project, recipe), recipe, name="new")
    taken = sorted(path.name for path in experiment.run.checkpoints.glob("*"))
    shutil.rmtree(experiment.run.path)
    return taken


@pytest.mark.parametrize(
    "setting",
    ["predict.views=8", "predict.calibration=temperature", "evaluate.resamples=500", "audit.accept=[blank]"],
)
def test_what_comes_after_training_leaves_the_weights_as_they_are(setting: str, trained: SimpleNamespace) -> None:
    assert list_taken(trained, setting) == list(FILES)


@pytest.mark.parametrize(
    "setting",
    [
        "split.seeds=[1]",
        "split.folds=3",
        "split.inner_frac=0.4",
        "train.transfer.lr=0.001",
        "train.transfer.views=2",
        "model.dropout=0.5",
        "model.pooler=max",
        "tile.overlap_frac=0.5",
        "tile.source=whole",
    ],
)
def test_another_way_of_training_is_trained_anew(setting: str, trained: SimpleNamespace) -> None:
    assert list_taken(trained, setting) == []


def test_other_data_decisions_weights_or_code_are_trained_anew(
    trained: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "train_data/img_0012.png,relabel,B,seen,a reader,,"
    assert not list_taken(trained, decisions=write_lines(tmp_path / "d.csv", ",".join(DECISION_COLUMNS), row))
    data = Path(shutil.copytree(trained.data, tmp_path / "textures"))
    lines = (data / "train_labels.csv").read_text(encoding="utf-8").splitlines()
    write_lines(data / "train_labels.csv", lines[0], "0,B", *lines[2:])
    assert not list_taken(SimpleNamespace(**{**vars(trained), "data": data}))
    torch.manual_seed(6)
    other = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), other)
    assert not list_taken(trained, f"model.weights={other}")
    with monkeypatch.context() as patch:
        patch.setattr(identity, "hash_code", lambda *_: "other code")
        assert not list_taken(trained)
    assert list_taken(trained) == list(FILES)


def test_only_what_is_missing_is_trained(trained: SimpleNamespace, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(trained.runs, tmp_path / "runs"))
    (runs / "trained" / "checkpoints" / FILES[1]).unlink()
    settings = [*trained.settings, "predict.views=4"]
    workflow.train_run(trained.data, settings=settings, runs=runs, name="other")
    assert read_events(runs / "other").count("trained") == 1
    taken, made = ((runs / "other" / "checkpoints" / file) for file in FILES)
    assert taken.samefile(runs / "trained" / "checkpoints" / FILES[0])
    weights = [read_checkpoint(path)["weights"] for path in (made, trained.runs / "trained" / "checkpoints" / FILES[1])]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


def test_an_ensemble_with_other_folds_than_its_members_is_refused(trained: SimpleNamespace) -> None:
    runs, members = trained.runs, "ensemble.members=[trained]"
    workflow.predict(workflow.reopen(runs / "trained"))
    settings = [*trained.settings, members, "split.folds=3"]
    for seeds in ("0", "0,1"):
        fix = "--set split.folds=2" + (r" --set split.seeds=\[0\]$" if seeds != "0" else "$")
        with pytest.raises(RunError, match=rf"other folds than trained has. Fix: {fix}"):
            workflow.run(
                trained.data,
                "default",
                settings=[*settings, f"split.seeds=[{seeds}]"],
                runs=runs,
                name=f"e{len(seeds)}",
            )
    result = workflow.run(trained.data, "default", settings=[*trained.settings, members], runs=runs, name="same")
    tables = [pd.read_csv(runs / name / "predictions" / "out_of_fold.csv") for name in ("same", "trained")]
    pd.testing.assert_frame_equal(*tables)
    assert (result.path / "folds.csv").read_bytes() == (runs / "trained" / "folds.csv").read_bytes()


# --- folds --------------------------------------------------------------------------------------------------------


def draw_ground(labels: list[str], cases: list[str], decisions: list[Decision]) -> workflow.Ground:
    names = [f"i{n:02d}" for n in range(len(labels))]
    rows = zip(names, labels, cases, strict=True)
    samples = tuple(Sample(n, Path(n), None, label, case, n) for n, label, case in rows)
    whole = Cohort(Path(), "table", samples, (), tuple(sorted(set(labels))))
    return workflow.Ground(apply_decisions(whole, decisions), whole, tuple(decisions), Audit((), {}))


def exclude(numbers: Any) -> list[Decision]:
    return [Decision(f"i{n:02d}", "exclude", "torn", "a reader", "") for n in numbers]


def list_roles(ground: workflow.Ground, splits: tuple[Split, ...]) -> dict[tuple[str, str], str]:
    """(split, image) -> role."""
    parts = ("train", "inner", "outer")
    return {
        (split.name, ground.cohort.labelled[i].image): part
        for split in splits
        for part in parts
        for i in getattr(split, part)
    }


TEXTURES = ([name_label(n) for n in range(LABELLED)], [name_case(n) for n in range(LABELLED)])
RECIPE = load_recipe(settings=["split.folds=3", "split.seeds=[0,1]"])


@pytest.mark.parametrize("draw", range(6))
def test_images_keep_their_fold_and_role_whatever_is_left_out(draw: int) -> None:
    left_out = np.random.default_rng(draw).choice(LABELLED, 4, replace=False)
    ground = draw_ground(*TEXTURES, exclude(left_out))
    said: list[str] = []
    splits = make_splits(ground, RECIPE, listener=workflow.Listener(say=said.append))
    whole = draw_ground(*TEXTURES, [])
    before = list_roles(whole, make_splits(whole, RECIPE, listener=workflow.SILENT))
    names = {f"i{n:02d}" for n in left_out}
    assert not any("anew" in text for text in said)
    assert list_roles(ground, splits) == {key: role for key, role in before.items() if key[1] not in names}
    assert len(before) == LABELLED * 6


def test_folds_are_made_anew_where_a_part_would_be_empty_and_that_is_said() -> None:
    whole = draw_ground(*TEXTURES, [])
    recipe = load_recipe(settings=["split.folds=2"])
    first = make_splits(whole, recipe, listener=workflow.SILENT)[0]
    kept = {int(i) for i in first.outer if TEXTURES[0][i] == "A"}
    assert len({TEXTURES[1][i] for i in kept}) > 1
    ground = draw_ground(*TEXTURES, exclude(n for n in range(LABELLED) if TEXTURES[0][n] == "A" and n not in kept))
    said: list[str] = []
    splits = make_splits(ground, recipe, listener=workflow.Listener(say=said.append))
    assert len(said) == 1
    assert "made anew" in said[0]
    for split in splits:
        assert set(ground.cohort.targets[split.train]) == {0, 1, 2}


def test_a_relabelled_image_may_give_a_class_the_case_that_folds_need() -> None:
    labels, cases = ["a", "a", "a", "b", "b", "b", "c", "b"], [f"p{n}" for n in range(8)]
    recipe = load_recipe(settings=["split.folds=2"])
    with pytest.raises(SplitError, match=r"Class 'c' has 1 case"):
        make_splits(draw_ground(labels, cases, []), recipe, listener=workflow.SILENT)
    ground = draw_ground(labels, cases, [Decision("i07", "relabel", "seen", "a reader", "", label="c")])
    splits = make_splits(ground, recipe, listener=workflow.SILENT)
    assert sorted(np.concatenate([split.outer for split in splits])) == list(range(8))
