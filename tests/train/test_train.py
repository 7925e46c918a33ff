"""Training: heads against scikit-learn, rates against formulas, choice against the recorded losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from smalti.errors import PartError, RecipeError, RunError
from smalti.models import ParameterGroup, hash_weights
from smalti.predict import predict_outer
from smalti.samples import normalise_tiles
from smalti.train import list_optimisers, read_checkpoint, train_folds
from smalti.train.checkpoints import write_checkpoint
from smalti.train.optim.losses import weigh_classes
from smalti.train.optim.optimisers import build_optimiser

Make = Callable[..., Any]


def draw_points(
    count: int, *, apart: float, features: int = 12, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Three Gaussian clouds of different size in ``features`` dimensions of very different scale."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(3).repeat(4), rng.choice(3, count - 12, p=[0.5, 0.3, 0.2])])
    points = rng.normal(size=(count, features))
    points[np.arange(count), targets] += apart
    return points * np.geomspace(0.01, 100, features) + 7, np.array(["a", "b", "c"])[targets]


def read_fold(experiment: Any, split: Any) -> dict[str, Any]:
    return read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")


def learn(experiment: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train the first fold; its checkpoint and history."""
    train_folds(replace(experiment, splits=experiment.splits[:1]))
    return read_fold(experiment, experiment.splits[0]), pd.read_csv(experiment.run.path / "history.csv")


def guess(experiment: Any) -> NDArray[np.str_]:
    """The out-of-fold class of each labelled image, in the order of the cohort (one seed)."""
    train_folds(experiment)
    table = predict_outer(experiment).set_index("image").loc[[s.image for s in experiment.cohort.labelled]]
    scores = table[[f"score_{c}" for c in experiment.cohort.classes]].to_numpy()
    assert np.allclose(scores.sum(axis=1), 1)
    return np.array(experiment.cohort.classes)[scores.argmax(axis=1)]


# --- the transfer head --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("apart", "slack"), [(9.0, 0.0), (2.0, 0.04)])
def test_a_head_is_as_accurate_as_logistic_regression(apart: float, slack: float, embed: Make) -> None:
    points, labels = draw_points(240, apart=apart)
    experiment = embed(points, labels, "split.folds=3", "train.transfer.lr=0.03")
    splits = experiment.splits
    reference = np.empty_like(labels)
    for split in splits:
        rest = np.concatenate([split.train, split.inner])
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        reference[split.outer] = model.fit(points[rest], labels[rest]).predict(points[split.outer])
    ours, theirs = (float(np.mean(labels == g)) for g in (guess(experiment), reference))
    assert ours >= theirs - slack
    assert theirs >= (1.0 if slack == 0 else 0.75)


def test_labels_that_mean_nothing_score_by_chance(embed: Make) -> None:
    """Case-wise embeddings with labels drawn without looking at them; a leak would let a head learn the case."""
    rng = np.random.default_rng(1)
    truth, guesses = [], []
    for seed in range(3):
        cases = np.arange(160).repeat(2) // 2 // 2 * 2 + rng.integers(0, 2, 320)
        centres = rng.normal(size=(cases.max() + 1, 24)) * 3
        labels = rng.choice(["a", "b", "c"], cases.max() + 1)[cases]
        points = centres[cases] + rng.normal(size=(320, 24))
        experiment = embed(points, labels, "split.folds=4", f"split.seeds=[{seed}]", cases=cases, name=f"run{seed}")
        truth.append(labels)
        guesses.append(guess(experiment))
    truth_all, guesses_all = np.concatenate(truth), np.concatenate(guesses)
    scores = [f1_score(rng.permutation(truth_all), guesses_all, average="macro") for _ in range(400)]
    # Images of a case share their label, so that there are half as many independent guesses: twice the variance.
    width = 3 * math.sqrt(2) * float(np.std(scores))
    assert abs(f1_score(truth_all, guesses_all, average="macro") - float(np.mean(scores))) < width


def test_each_view_is_learned_from(embed: Make) -> None:
    """The second view of each image carries noise only in the plain view's place, so a head on both must use it."""
    points, labels = draw_points(90, apart=6.0)
    views = np.stack([points, np.random.default_rng(3).permutation(points)])
    plain, _ = learn(embed(points, labels, "split.folds=3", name="one"))
    both, _ = learn(embed(views, labels, "split.folds=3", "train.transfer.views=2", name="two"))
    assert torch.equal(plain["weights"]["head.center"], both["weights"]["head.center"])
    assert not torch.equal(plain["weights"]["head.linear.weight"], both["weights"]["head.linear.weight"])


# --- what chooses -------------------------------------------------------------------------------------------------


def test_the_chosen_epoch_is_the_one_of_the_least_inner_loss(embed: Make) -> None:
    """The inner loss of the kept network, by hand with balanced weights, is the least of the recorded ones."""
    points, labels = draw_points(90, apart=1.5)
    knobs = ("split.folds=3", "train.transfer.lr=0.05", "train.transfer.schedule=constant", "train.refit=false")
    experiment = embed(points, labels, *knobs)
    splits = experiment.splits
    content, history = learn(experiment)
    split, targets = splits[0], experiment.cohort.targets
    weights = compute_class_weight("balanced", classes=np.arange(3), y=targets[split.train])[targets[split.inner]]
    logits = content["inner_logits"].double().numpy()
    logged = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    by_hand = -(weights * logged[np.arange(len(weights)), targets[split.inner]]).sum() / weights.sum()
    assert by_hand == pytest.approx(history["inner_loss"].min(), rel=1e-5)
    assert 0 < history["inner_loss"].argmin() < len(history) - 1


@pytest.mark.parametrize("patience", [1, 4])
def test_patience_counts_epochs_without_a_better_inner_loss(patience: int, embed: Make) -> None:
    points, labels = draw_points(90, apart=1.5)
    knobs = ("train.transfer.lr=0.05", "train.transfer.schedule=constant", f"train.transfer.patience={patience}")
    _, history = learn(embed(points, labels, "split.folds=3", "train.refit=false", *knobs))
    losses = history["inner_loss"].to_numpy()
    assert len(losses) < 60
    assert len(losses) == losses.argmin() + 1 + patience
    records = np.flatnonzero(losses == np.minimum.accumulate(losses))
    assert np.diff(records).max(initial=0) <= patience


@pytest.mark.parametrize("refit", [True, False])
def test_refit_learns_from_training_and_inner_cases_at_the_chosen_rates(refit: bool, embed: Make) -> None:
    points, labels = draw_points(90, apart=1.5)
    experiment = embed(points, labels, "split.folds=3", "train.transfer.lr=0.02", f"train.refit={refit}")
    splits = experiment.splits
    content, history = learn(experiment)
    first, second = (history[history["phase"] == phase] for phase in ("transfer", "refit-transfer"))
    learned = np.union1d(splits[0].train, splits[0].inner) if refit else splits[0].train
    assert content["weights"]["head.center"].numpy() == pytest.approx(points[learned].mean(axis=0), rel=1e-4)
    chosen = int(first["inner_loss"].argmin())
    assert second["lr"].tolist() == pytest.approx(first["lr"].tolist()[: chosen + 1] if refit else [])
    assert second["inner_loss"].isna().all()


def test_a_finetuning_that_only_harms_is_taken_back(prepare: Make) -> None:
    """Decay takes nearly all of the weights at each step; those of transfer stay, in the first pass and the refit."""
    knobs = ("train.finetune.lr=0.001", "train.finetune.weight_decay=900", "train.transfer.lr=0.03")
    content, history = learn(prepare(*knobs))
    phases = history["phase"].value_counts()
    assert phases["finetune"] == 2
    assert "refit-finetune" not in phases
    assert history.loc[history["phase"] == "finetune", "inner_loss"].min() > history["inner_loss"].min()
    assert all(torch.isfinite(v).all() for v in content["weights"].values() if v.is_floating_point())


def test_class_weights_are_those_of_scikit_learn() -> None:
    targets = np.array([0, 0, 0, 0, 1, 1, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    counts = np.bincount(targets)
    assert weigh_classes(counts, kind="balanced").numpy() == pytest.approx(expected)
    assert weigh_classes(counts, kind="none").tolist() == [1, 1, 1]


# --- schedules and optimisers, in both phases ---------------------------------------------------------------------


def test_cosine_is_half_a_cosine_in_both_phases(prepare: Make) -> None:
    _, history = learn(prepare("train.finetune.epochs=3", "train.refit=false"))
    for phase, epochs, rate in (("transfer", 8, 3e-3), ("finetune", 3, 3e-4)):
        expected = [rate * (1 + math.cos(math.pi * e / epochs)) / 2 for e in range(epochs)]
        assert history.loc[history["phase"] == phase, "lr"].tolist() == pytest.approx(expected)


def test_plateau_lowers_the_rate_in_both_phases(prepare: Make) -> None:
    """At a rate of almost nothing the inner loss stalls at once; a third of the patience later the rate falls."""
    knobs = [
        f"train.{phase}.{knob}"
        for phase in ("transfer", "finetune")
        for knob in ("schedule=plateau", "lr=1.0e-7", "patience=6", "epochs=8", "weight_decay=0")
    ]
    _, history = learn(prepare(*knobs, "train.refit=false", "train.finetune.batch_images=16"))
    for phase in ("transfer", "finetune"):
        rates = history.loc[history["phase"] == phase, "lr"].tolist()
        assert rates[:4] == [1e-7] * 4
        assert rates[4] == pytest.approx(0.3e-7)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_optimisers_move_both_phases(name: str, prepare: Make) -> None:
    knobs = [f"train.{phase}.optimiser={name}" for phase in ("transfer", "finetune")]
    experiment = prepare(*knobs, "train.refit=false", "train.finetune.epochs=1", "train.transfer.epochs=2")
    content, history = learn(experiment)
    assert history["phase"].tolist() == ["transfer", "transfer", "finetune"]
    assert history["train_loss"].map(math.isfinite).all()
    assert content["weights"]["head.linear.weight"].abs().sum() > 0


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw_step_as_in_torch(name: str) -> None:
    start = torch.linspace(-1, 1, 6).reshape(2, 3)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    group = ParameterGroup((ours,), 1, 0.5, True)
    reference: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    pair = build_optimiser(name, [group], lr=0.1, weight_decay=0.2), reference([theirs], lr=0.05, weight_decay=0.2)
    for _ in range(4):
        for parameter, optimiser in zip((ours, theirs), pair, strict=True):
            (parameter**3).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, start)


def test_lion_steps_by_the_sign_as_in_its_paper() -> None:
    """Chen et al. 2023: w -= lr * (sign(0.9 m + 0.1 g) + decay * w), m = 0.99 m + 0.01 g."""
    parameter = torch.nn.Parameter(torch.tensor([[0.5, -2.0, 1.0]]))
    optimiser = build_optimiser("lion", [ParameterGroup((parameter,), 0, 1.0, True)], lr=0.1, weight_decay=0.3)
    weights, momentum = parameter.detach().clone(), torch.zeros(1, 3)
    for step in range(5):
        gradient = torch.tensor([[1.0, -1.0, (-1.0) ** step * 5**step]])
        parameter.grad = gradient.clone()
        optimiser.step()
        weights -= 0.1 * (torch.sign(0.9 * momentum + 0.1 * gradient) + 0.3 * weights)
        momentum = 0.99 * momentum + 0.01 * gradient
    assert torch.allclose(parameter, weights, atol=1e-6)


def test_an_unknown_optimiser_suggests_the_nearest() -> None:
    with pytest.raises(PartError, match=r"'adamww'.*Did you mean adamw"):
        build_optimiser("adamww", [], lr=1, weight_decay=0)
    assert {"adam", "adamw", "lion", "sgd"} <= set(list_optimisers())


# --- what is frozen -----------------------------------------------------------------------------------------------


def test_transfer_leaves_the_backbone_as_it_was_bit_for_bit(prepare: Make) -> None:
    experiment = prepare("train.finetune.epochs=0")
    before = {name: value.clone() for name, value in experiment.backbone.module.state_dict().items()}
    content, _ = learn(experiment)
    after = experiment.backbone.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.partition(".")[0] for name in content["weights"]} == {"head"}


@pytest.mark.parametrize(("epochs", "closed"), [(1, ("conv1", "bn1", "layer1")), (3, ())])
def test_finetuning_opens_from_the_top(epochs: int, closed: tuple[str, ...], prepare: Make) -> None:
    """One epoch of three stages is the first stage; the shared backbone itself never changes."""
    stages = "train.finetune.stages=3"
    knobs = ("train.transfer.epochs=0", f"train.finetune.epochs={epochs}", "train.finetune.schedule=constant")
    experiment = prepare(stages, *knobs, "train.refit=false", "train.finetune.lr=0.01")
    before, key = dict(experiment.backbone.module.named_parameters()), hash_weights(experiment.backbone.module)
    content, history = learn(experiment)
    changed = {name for name, value in before.items() if not torch.equal(value, content["weights"][f"backbone.{name}"])}
    assert hash_weights(experiment.backbone.module) == key
    assert any(name.startswith("layer4") for name in changed)
    assert not [name for name in changed if closed and name.startswith(closed)]
    if not closed and history["inner_loss"].argmin() == 2:
        assert any(name.startswith("conv1") for name in changed)


@pytest.mark.parametrize(("kind", "moves"), [("frozen", False), ("live", True)])
def test_stored_batch_statistics_move_only_when_they_are_live(kind: str, moves: bool, prepare: Make) -> None:
    knobs = ("train.transfer.epochs=0", "train.finetune.epochs=1", "train.finetune.stages=1", "train.refit=false")
    experiment = prepare(*knobs, f"model.norm={kind}")
    before = dict(experiment.backbone.module.named_buffers())
    content, _ = learn(experiment)
    same = [torch.equal(v, content["weights"][f"backbone.{n}"]) for n, v in before.items() if n.endswith("mean")]
    assert len(same) > 3
    assert all(same) is not moves


def test_statistics_are_measured_anew_on_the_training_tiles(prepare: Make) -> None:
    knobs = ("train.transfer.epochs=0", "train.finetune.epochs=1", "train.finetune.stages=2", "train.refit=false")
    experiment = prepare(*knobs, "model.norm=reestimated", "train.finetune.tiles_per_image=8")
    splits = experiment.splits
    content, _ = learn(experiment)
    module = copy.deepcopy(experiment.backbone.module).eval()
    name = next(n for n, m in module.named_modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    module.get_submodule(name).register_forward_hook(lambda _, given, __: seen.append(given[0].transpose(0, 1)))
    bags = experiment.find_bags(splits[0].train)
    rows = np.concatenate([np.asarray(experiment.store.rows(int(bag))) for bag in bags])
    with torch.inference_mode():
        module(normalise_tiles(torch.from_numpy(experiment.store.read_tiles(rows)), spec=experiment.backbone.spec))
    wanted = seen[0].flatten(1)
    kept = {k: content["weights"][f"backbone.{name}.running_{k}"] for k in ("mean", "var")}
    before = experiment.backbone.module.get_submodule(name)
    assert (before.running_mean - wanted.mean(dim=1)).abs().max() > 0.1  # there is something to measure
    torch.testing.assert_close(kept["mean"], wanted.mean(dim=1), rtol=0.1, atol=0.02)
    torch.testing.assert_close(kept["var"], wanted.var(dim=1), rtol=0.2, atol=0.02)


def test_bfloat16_runs_on_a_cpu(prepare: Make) -> None:
    experiment = prepare("train.precision=bf16-mixed", "train.finetune.epochs=1")
    content, history = learn(experiment)
    assert experiment.fabric._precision.precision == "bf16-mixed"
    assert {v.dtype for v in content["weights"].values() if v.is_floating_point()} == {torch.float32}
    assert history["train_loss"].map(math.isfinite).all()


# --- checkpoints --------------------------------------------------------------------------------------------------


def check_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert torch.equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        assert [type(key) for key in found] == [type(key) for key in wanted]
        for key in wanted:
            check_same(found[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            check_same(one, other)
    else:
        assert type(found) is type(wanted)
        assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3)}, 1: {}}, "1": torch.ones(0, 4)},
        {"loss": math.inf, "least": -math.inf, "none": math.nan, "nothing": None, "yes": True, "n": 10**15},
        {"a.b": torch.zeros(1), "a": {"b": torch.ones(1), "c": [torch.full((2,), 2), {"d": torch.full((2,), 3)}]}},
        {"pairs": {"items": {"tensor": "t.x"}}, "half": torch.ones(3, dtype=torch.bfloat16)},
        {"turned": torch.arange(6).reshape(2, 3).T, "small": torch.tensor(True), "text": 'größer, "quoted"\n'},
    ],
    ids=["empty", "integer keys", "not finite", "dots in keys", "reserved words", "strides"],
)
def test_a_checkpoint_gives_back_what_was_written(content: dict[str, Any], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x.progress", content)
    check_same(read_checkpoint(tmp_path / "x.progress"), content)


def test_an_optimiser_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    ends = []
    for cut in (None, 3):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        group = [ParameterGroup((layer.weight,), 0, 1.0, True), ParameterGroup((layer.bias,), 0, 1.0, False)]
        optimiser = build_optimiser("adamw", group, lr=0.1, weight_decay=0.1)
        for step in range(6):
            if step == cut:
                write_checkpoint(tmp_path / "x", {"o": optimiser.state_dict()})
                optimiser = build_optimiser("adamw", group, lr=9.0, weight_decay=0.0)
                optimiser.load_state_dict(read_checkpoint(tmp_path / "x")["o"])
            optimiser.zero_grad()
            layer(torch.ones(4, 3)).pow(2).sum().backward()
            optimiser.step()
        ends.append(torch.cat([p.detach().flatten() for p in layer.parameters()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize("damage", ["cut", "foreign", "absent"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if damage != "absent":
        write_checkpoint(path, {"w": torch.ones(50)})
        path.write_bytes(path.read_bytes()[:-30] if damage == "cut" else b"PK\x03\x04 not one of ours")
    with pytest.raises(RunError, match=r"x.safetensors (cannot be read|does not exist).*Fix"):
        read_checkpoint(path)


def test_a_phase_without_embeddings_says_so(embed: Make) -> None:
    points, labels = draw_points(30, apart=3)
    experiment = embed(points, labels, "split.folds=2")
    with pytest.raises(RecipeError, match="needs frozen features"):
        train_folds(replace(experiment, frozen={}))
