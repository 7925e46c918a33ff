"""Losses against torch, torchvision and formulas; on soft targets, a mixture is the mixture of the losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy
from sklearn.metrics import f1_score
from torchvision.ops import sigmoid_focal_loss

from smalti.train import LOSSES, read_checkpoint, train_folds
from smalti.train.optim.losses import measure_divergence, soften, weigh_classes

Make = Callable[..., Any]
COUNTS = torch.tensor([50.0, 20.0, 5.0])
WEIGHTS = torch.tensor([0.5, 1.0, 4.0])
LOGITS = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)) * 2
TARGETS = torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1])


def build(name: str, *, weights: torch.Tensor = WEIGHTS, **options: float) -> Any:
    return LOSSES.build(name, COUNTS, weights=weights, **options)


def hard(classes: int = 3) -> torch.Tensor:
    return soften(TARGETS, classes=classes)


def test_the_log_loss_is_torchs_with_weights_and_with_smoothing() -> None:
    expected = F.cross_entropy(LOGITS, TARGETS, weight=WEIGHTS)
    torch.testing.assert_close(build("cross_entropy")(LOGITS, hard()), expected)
    smooth = soften(TARGETS, classes=3, smoothing=0.2)
    plain = build("cross_entropy", weights=torch.ones(3))
    torch.testing.assert_close(plain(LOGITS, smooth), F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2))
    torch.testing.assert_close(plain(LOGITS, smooth), F.cross_entropy(LOGITS, smooth))


def test_focal_loss_of_two_classes_is_torchvisions() -> None:
    """A softmax over (0, x) is a sigmoid of x."""
    x, targets = LOGITS[:, 0], TARGETS.clamp_max(1)
    focal = LOSSES.build("focal", torch.ones(2), weights=torch.ones(2), gamma=2.0)
    found = focal(torch.stack([torch.zeros_like(x), x], dim=1), soften(targets, classes=2))
    expected = sigmoid_focal_loss(x, targets.float(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(found, expected)
    plain = build("focal", gamma=0.0)
    torch.testing.assert_close(plain(LOGITS, hard()), build("cross_entropy")(LOGITS, hard()))


def test_focal_loss_has_a_gradient_where_an_image_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    build("focal", gamma=0.5)(logits, torch.tensor([[1.0, 0.0, 0.0]])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_adds_the_log_of_the_shares() -> None:
    expected = F.cross_entropy(LOGITS + (COUNTS / COUNTS.sum()).log(), TARGETS)
    torch.testing.assert_close(build("logit_adjusted", weights=torch.ones(3))(LOGITS, hard()), expected)


def test_margins_grow_for_rare_classes_as_in_the_paper() -> None:
    margins = COUNTS**-0.25 * 0.5 / COUNTS.min() ** -0.25
    moved = LOGITS.clone()
    moved[torch.arange(9), TARGETS] -= margins[TARGETS]
    expected = F.cross_entropy(moved, TARGETS)
    torch.testing.assert_close(build("ldam", weights=torch.ones(3))(LOGITS, hard()), expected)


def test_smooth_macro_f1_is_macro_f1_where_scores_are_certain() -> None:
    predicted = torch.tensor([0, 1, 1, 0, 2, 1, 2, 2, 0])
    logits = 200.0 * F.one_hot(predicted, 3)
    expected = 1 - f1_score(TARGETS, predicted, average="macro")
    assert float(build("macro_f1")(logits, hard())) == pytest.approx(expected, abs=1e-6)
    absent = LOSSES.build("macro_f1", torch.ones(4), weights=torch.ones(4))
    four = torch.cat([logits, torch.full((9, 1), -200.0)], dim=1)
    assert float(absent(four, soften(TARGETS, classes=4))) == pytest.approx(expected, abs=1e-6)


def test_smoothing_makes_no_absent_class_count_in_smooth_macro_f1() -> None:
    """Two of three classes are in the batch: by hand, the mean of their two F1."""
    targets = soften(torch.tensor([0, 0, 1]), classes=3, smoothing=0.1)
    scores = LOGITS[:3].softmax(dim=1)
    f1 = 2 * (scores * targets).sum(dim=0) / (scores.sum(dim=0) + targets.sum(dim=0))
    torch.testing.assert_close(build("macro_f1")(LOGITS[:3], targets), 1 - f1[:2].mean())


def test_effective_numbers_are_those_of_the_paper() -> None:
    counts = np.array([500, 20, 5])
    numbers = (1 - 0.999**counts) / (1 - 0.999)
    found = weigh_classes(counts, kind="effective").numpy()
    assert found / found[0] == pytest.approx(numbers[0] / numbers, rel=1e-5)
    assert (found * counts).sum() / counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES])
def test_every_loss_learns_what_is_there_and_nothing_else(name: str, embed: Make) -> None:
    """Separable classes are found, also the rare one; shuffled labels score by chance."""
    rng = np.random.default_rng(0)
    labels = np.array(["a"] * 80 + ["b"] * 24)
    points = rng.normal(size=(104, 6)) + 3.0 * (labels == "a")[:, None]
    weights = "none" if name == "logit_adjusted" else "balanced"
    knobs = ("split.folds=2", f"train.transfer.loss={name}", "train.transfer.epochs=20")
    knobs += (f"train.transfer.class_weights={weights}",)
    hits: dict[str, list[float]] = {"true": [], "shuffled": []}
    ways = [("true", labels), *(("shuffled", rng.permutation(labels)) for _ in range(3))]
    for position, (way, given) in enumerate(ways):
        experiment = embed(points, given, *knobs, name=str(position))
        splits = experiment.splits
        train_folds(experiment)
        recall = []
        for split in splits:
            weights = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")["weights"]
            inputs = (torch.tensor(points[split.outer]).float() - weights["head.center"]) / weights["head.scale"]
            logits = inputs @ weights["head.linear.weight"].T + weights["head.linear.bias"]
            predicted = np.array(["a", "b"])[logits.argmax(dim=1).numpy()]
            recall += [(predicted == given[split.outer])[given[split.outer] == c].mean() for c in "ab"]
        hits[way].append(float(np.mean(recall)))
    assert hits["true"][0] > 0.9
    assert np.mean(hits["shuffled"]) == pytest.approx(0.5, abs=0.15)


def test_divergence_is_that_of_scipy_and_nothing_between_equal_views() -> None:
    views = [torch.randn(6, 4, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    scores = np.stack([v.double().softmax(dim=1).numpy() for v in views])
    mixture = scores.mean(axis=0)
    expected = np.mean([[entropy(p, m) for p, m in zip(view, mixture, strict=True)] for view in scores])
    assert float(measure_divergence(views)) == pytest.approx(float(expected), rel=1e-5)
    assert float(measure_divergence(views[:1] * 3)) == pytest.approx(0, abs=1e-6)
    apart = [torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])]
    assert float(measure_divergence(apart)) == pytest.approx(np.log(2))
