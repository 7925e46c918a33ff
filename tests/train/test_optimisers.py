"""Optimisers and what goes around them: each listed one keeps a contract, papers are followed step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smalti.errors import PartError, RecipeError
from smalti.models import ParameterGroup
from smalti.recipe import Train, load_recipe
from smalti.train import list_optimisers, read_checkpoint, settle_train, train_folds
from smalti.train.checkpoints import write_checkpoint
from smalti.train.optim.averaging import Averaging, mean_weights
from smalti.train.optim.optimisers import Lookahead, build_optimiser, set_learning
from smalti.train.optim.sam import climb, descend
from smalti.train.optim.schedules import SCHEDULES, build_schedule, step_schedule

Make = Callable[..., Any]
TARGET = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
INPUTS = torch.randn(12, 6, generator=torch.Generator().manual_seed(2))


def start() -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    return torch.nn.Parameter(torch.zeros(6, 3)), torch.nn.Parameter(torch.zeros(4))


def measure(weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A convex loss."""
    return (INPUTS @ (weights - TARGET)).square().mean() + (bias - 1).square().mean()


def build(name: str, parameters: tuple[torch.nn.Parameter, ...], *, lr: float = 0.02, **options: Any) -> Any:
    groups = [ParameterGroup(parameters[:1], 0, 1.0, True), ParameterGroup(parameters[1:], 1, 0.5, False)]
    return build_optimiser(name, groups, lr=lr, weight_decay=0.0, **options)


def walk(optimiser: Any, parameters: tuple[torch.nn.Parameter, ...], steps: int) -> None:
    set_learning(optimiser, True)
    for _ in range(steps):
        measure(*parameters).backward()
        optimiser.step()
        optimiser.zero_grad()
    set_learning(optimiser, False)


@pytest.fixture
def eager() -> Iterator[None]:
    """Steps as they are written; compiling those of one optimiser takes longer than all other steps."""
    with torch.compiler.set_stance("force_eager"):
        yield


# One turns its step size into a number, one would like a library for speed; both are their own affair.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Converting a tensor", "ignore:.*opt_einsum")
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("name", list_optimisers())
def test_an_optimiser_lowers_a_convex_loss_and_goes_on_bit_for_bit(name: str, lookahead: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)  # one of them draws random numbers
    parameters = start()
    optimiser = build(name, parameters, lookahead=lookahead)
    before = float(measure(*parameters))
    walk(optimiser, parameters, 17)
    assert float(measure(*parameters)) < before
    write_checkpoint(tmp_path / "x", {"optimiser": optimiser.state_dict(), "weights": list(parameters)})
    state = read_checkpoint(tmp_path / "x")
    twins = tuple(torch.nn.Parameter(w) for w in state["weights"])
    twin = build(name, twins, lr=9.0, lookahead=lookahead)
    twin.load_state_dict(state["optimiser"])
    for pair in ((optimiser, parameters), (twin, twins)):
        torch.manual_seed(5)
        walk(*pair, 9)
    assert all(torch.equal(one, other) for one, other in zip(parameters, twins, strict=True))


def test_ranger_is_radam_with_slow_weights_step_by_step() -> None:
    """Liu et al. 2020, algorithm 2, written out in NumPy; every fifth step goes half of the way (Zhang et al. 2019)."""
    parameters = start()
    optimiser = build("ranger", parameters, lr=0.1)
    fast, slow = np.zeros((6, 3)), np.zeros((6, 3))
    mean, square = np.zeros((6, 3)), np.zeros((6, 3))
    beta1, beta2, longest = 0.9, 0.999, 2 / (1 - 0.999) - 1
    inputs, target = INPUTS.double().numpy(), TARGET.double().numpy()
    for step in range(1, 13):
        gradient = 2 * inputs.T @ (inputs @ (fast - target)) / (12 * 3)
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        corrected = mean / (1 - beta1**step)
        length = longest - 2 * step * beta2**step / (1 - beta2**step)
        if length > 5:
            adapt = np.sqrt(1 - beta2**step) / (np.sqrt(square) + 1e-8)
            r = np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            fast = fast - 0.1 * r * corrected * adapt
        else:
            fast = fast - 0.1 * corrected
        if step % 5 == 0:
            slow = slow + 0.5 * (fast - slow)
            fast = slow.copy()
        walk(optimiser, parameters, 1)
        assert parameters[0].detach().numpy() == pytest.approx(fast, abs=2e-5), step


def test_lookahead_looks_back_to_the_start() -> None:
    parameters = start()
    optimiser = Lookahead(torch.optim.SGD(parameters, lr=0.1), k=3, alpha=0.25)
    twins = start()
    plain = torch.optim.SGD(twins, lr=0.1)
    walk(optimiser, parameters, 3)
    walk(plain, twins, 3)
    for one, other in zip(parameters, twins, strict=True):
        torch.testing.assert_close(one, 0.25 * other)  # a quarter of the way from zero


def test_schedules_reach_the_groups_inside_lookahead() -> None:
    parameters = start()
    optimiser = build("ranger", parameters, lr=0.4)
    schedule = build_schedule("cosine", optimiser, epochs=2, patience=1, warmup_epochs=0)
    optimiser.step()
    step_schedule(schedule, loss=0.0)
    assert [g["lr"] for g in optimiser.fast.param_groups] == pytest.approx([0.2, 0.1])


def test_a_sharp_step_goes_by_the_gradient_of_the_worst_place_near() -> None:
    """Foret et al. 2021: on a quadratic, the gradient at w + rho g / |g| is known."""
    weights = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
    curvature = torch.tensor([1.0, 2.0])
    (0.5 * curvature * weights**2).sum().backward()
    gradient = curvature * torch.tensor([3.0, -4.0])
    moved = climb([weights], rho=0.5)
    worst = torch.tensor([3.0, -4.0]) + 0.5 * gradient / gradient.norm()
    torch.testing.assert_close(weights.detach(), worst)
    weights.grad = None
    (0.5 * curvature * weights**2).sum().backward()
    descend(moved)
    torch.testing.assert_close(weights.detach(), torch.tensor([3.0, -4.0]))
    torch.testing.assert_close(weights.grad, curvature * worst)
    assert climb([torch.nn.Parameter(torch.zeros(2))], rho=1.0) == []


@pytest.mark.parametrize(("name", "share"), [("adamw", 1.0), ("lion", 0.2), ("sgd", 30.0)])
def test_rates_that_are_not_given_are_the_optimisers_own(name: str, share: float) -> None:
    train = Train.model_validate({"transfer": {"optimiser": name}, "finetune": {"optimiser": name, "lr": 0.5}})
    settled = settle_train(train)
    assert settled.transfer.lr == pytest.approx(3e-3 * share)
    assert settled.transfer.lr * settled.transfer.weight_decay == pytest.approx(3e-5)  # type: ignore[operator]
    assert settled.finetune.lr == 0.5
    assert settle_train(settled) == settled


@pytest.mark.parametrize(("name", "reason"), [("adahessian", "second derivatives"), ("bnbadam", "CUDA device")])
def test_an_optimiser_that_cannot_run_here_says_why(name: str, reason: str) -> None:
    if name in list_optimisers():
        pytest.skip("not applicable: this machine can run it")
    with pytest.raises(PartError, match=reason):
        build(name, start())


# --- schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [entry.name for entry in SCHEDULES])
def test_a_warm_up_rises_to_the_full_rate_and_then_the_schedule_begins(name: str) -> None:
    rates: dict[int, list[float]] = {}
    for warmup in (0, 3):
        optimiser = torch.optim.SGD(start(), lr=0.8)
        schedule = build_schedule(name, optimiser, epochs=9 + warmup, patience=3, warmup_epochs=warmup)
        rates[warmup] = []
        for _ in range(9 + warmup):
            rates[warmup].append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            step_schedule(schedule, loss=1.0)
    first = rates[0][0]
    assert rates[3][:3] == pytest.approx([first / 4, first / 2, first * 3 / 4])
    assert rates[3][3:] == pytest.approx(rates[0])


def test_one_cycle_rises_and_falls() -> None:
    optimiser = torch.optim.SGD(start(), lr=0.8)
    schedule = build_schedule("onecycle", optimiser, epochs=10, patience=3, warmup_epochs=0)
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        step_schedule(schedule, loss=1.0)
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(0.8)
    assert 0 < top < 5
    assert rates[-1] < 0.01 * rates[top]
    assert all(a < b for a, b in itertools.pairwise(rates[: top + 1]))
    assert all(a > b for a, b in itertools.pairwise(rates[top:]))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (["train.transfer.optimiser=schedulefree_adamw"], "schedule=constant"),
        (["train.transfer.warmup_epochs=60"], "fewer than epochs"),
        (["train.transfer.loss=logit_adjusted"], "class_weights=none"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(settings=knobs)


# --- averages -----------------------------------------------------------------------------------------------------


def make_averaging(kind: str, **options: Any) -> tuple[torch.nn.Linear, Averaging]:
    module = torch.nn.Linear(1, 1, bias=False)
    return module, Averaging(module, kind=kind, decay=0.9, start=2, **options)


def test_the_exponential_mean_is_its_formula() -> None:
    module, averaging = make_averaging("ema")
    expected = 0.0
    for step in range(6):
        module.weight.data.fill_(float(step**2))
        averaging.follow_step()
        expected = float(step**2) if step == 0 else 0.9 * expected + 0.1 * step**2
    with averaging.loaded():
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 25


def test_the_mean_of_the_second_half() -> None:
    module, averaging = make_averaging("swa")
    for epoch in range(5):
        module.weight.data.fill_(10.0**epoch)
        averaging.follow_epoch(epoch)
    with averaging.loaded():
        assert module.weight.item() == pytest.approx((100 + 1000 + 10000) / 3)


def test_a_soup_takes_what_lowers_the_loss() -> None:
    """The loss is least at 2: epochs at 1 and 3.2 are better together than apart, 9 spoils it."""
    module, averaging = make_averaging("soup")
    for epoch, value in enumerate([9.0, 1.0, 3.2, 20.0]):
        module.weight.data.fill_(value)
        averaging.add_candidate(abs(value - 2), epoch)
    assert averaging.fit(lambda: abs(module.weight.item() - 2)) == (1, 2)
    assert module.weight.item() == pytest.approx(2.1)
    again, repeated = make_averaging("soup", mixed=(1, 2))
    for epoch, value in enumerate([9.0, 1.0, 3.2]):
        again.weight.data.fill_(value)
        repeated.follow_epoch(epoch)
    with repeated.loaded():
        assert again.weight.item() == pytest.approx(2.1)


def test_means_are_of_floats_only() -> None:
    parts = [{"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"w": torch.tensor([2.0]), "n": torch.tensor(7)}]
    mean = mean_weights(parts)
    assert (mean["w"].item(), mean["n"].item()) == (1.5, 7)


# --- in a run -----------------------------------------------------------------------------------------------------

WAYS = (
    ("optimiser=ranger",),
    ("optimiser=lion", "warmup_epochs=2"),
    ("optimiser=sgd", "rate_test=true"),
    ("optimiser=schedulefree_sgd", "schedule=constant", "rate_test=true"),
    ("optimiser=schedulefree_adamw", "schedule=constant"),
    ("sharpness=0.05", "accumulate=2", "schedule=onecycle"),
    ("averaging=ema",),
    ("averaging=swa",),
    ("averaging=soup",),
)


@pytest.mark.parametrize("way", WAYS, ids=[", ".join(way) for way in WAYS])
def test_every_way_learns_and_repeats(way: tuple[str, ...], embed: Make) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], 80)
    points = rng.normal(size=(80, 6)) + 2.0 * (labels == "a")[:, None]
    knobs = ["split.folds=2", *(f"train.transfer.{knob}" for knob in (*way, "epochs=12", "batch_images=8"))]
    ends = []
    for name in ("one", "two"):
        experiment = embed(points, labels, *knobs, name=name)
        splits = experiment.splits
        train_folds(experiment)
        ends.append([read_checkpoint(experiment.run.checkpoints / f"{s.name}.safetensors") for s in splits])
        for split, content in zip(splits, ends[-1], strict=True):
            linear, scale = content["weights"]["head.linear.weight"], content["weights"]["head.scale"]
            center, bias = content["weights"]["head.center"], content["weights"]["head.linear.bias"]
            inputs = (torch.tensor(points[split.outer], dtype=torch.float32) - center) / scale
            predicted = np.array(["a", "b"])[(inputs @ linear.T + bias).argmax(dim=1).numpy()]
            assert (predicted == labels[split.outer]).mean() > 0.85
    for one, other in zip(*ends, strict=True):
        assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())


def test_accumulated_batches_are_one_step(embed: Make) -> None:
    """Two batches of eight make the step of one of sixteen; with all images in one step, whatever their order."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], 64)
    points = rng.normal(size=(64, 6)) + (labels == "a")[:, None]
    fixed = (
        "split.folds=2",
        "model.dropout=0",
        "train.refit=false",
        "train.transfer.epochs=3",
        "split.inner_frac=0.25",
    )
    ends = []
    for name, knobs in (("whole", ("batch_images=64",)), ("parts", ("batch_images=4", "accumulate=64"))):
        changed = ["train.transfer.class_weights=none", *(f"train.transfer.{knob}" for knob in knobs)]
        experiment = embed(points, labels, *fixed, *changed, name=name)
        splits = experiment.splits
        train_folds(replace(experiment, splits=splits[:1]))
        ends.append(read_checkpoint(experiment.run.checkpoints / f"{splits[0].name}.safetensors")["weights"])
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=1e-4, atol=1e-6)
