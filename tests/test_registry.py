"""The contract that every registered part keeps, over each registry's own listing."""

from __future__ import annotations

import ast
import inspect
import pickle
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smalti
from smalti.audit.checks.registered import CHECKS, Digest, NotApplicable
from smalti.audit.labels.criteria import CRITERIA
from smalti.audit.labels.evidence import Evidence
from smalti.errors import PartError
from smalti.features.writing import FILE_LAYOUTS, FileLayout
from smalti.metrics import METRICS
from smalti.models import (
    DESCRIPTIONS,
    ENCODERS,
    FUSIONS,
    NORMS,
    POOLERS,
    TRANSFORMS,
    Description,
    EmbeddingTransform,
    Encoder,
    Fusion,
    Norm,
    Pooler,
)
from smalti.predict import CALIBRATIONS, DECISIONS, ENSEMBLES
from smalti.recipe import Phase
from smalti.registry import Registry
from smalti.samples import AUGMENTATIONS, Transform
from smalti.tissue import STAINS
from smalti.train import DRAWERS, HEADS, LOSSES, PRETRAININGS, SEARCHES
from smalti.train.optim.schedules import SCHEDULES
from smalti.types import Cohort


def make_cohort() -> Cohort:
    return Cohort(Path(), "table", (), (), ("a", "b"))


def make_optimiser() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)


def check_metric(value: Any) -> None:
    assert np.isfinite(value)


def check_check(answer: Any) -> None:
    assert answer.reason if isinstance(answer, NotApplicable) else answer == []


def check_augmentation(draw: Any) -> None:
    transform = draw(2, 3, 0.5, np.random.default_rng(0))
    assert isinstance(transform, Transform)
    assert (transform.turns.shape, transform.matrix.shape, transform.offset.shape) == ((2, 3), (2, 3, 3), (2, 3))


def check_stain(estimate: Any) -> None:
    """Of drawn mixtures of two stains: three axes and an origin that can be undone."""
    amounts = np.random.default_rng(0).gamma(2, 0.4, (500, 2))
    frame = estimate(amounts @ np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]) + 0.2)
    assert frame.shape == (3, 4)
    assert np.linalg.cond(frame[:, :3]) < 100


def check_description(description: Any) -> None:
    """What it measures is in tests/models/test_described.py; here that its numbers have names."""
    assert isinstance(description, Description)
    assert len(set(description.names)) == len(description.names) > 10


def check_pooler(pooler: Any) -> None:
    assert isinstance(pooler, Pooler)
    pooled = pooler(torch.zeros(2, 3, 5))
    assert pooled.embedding.shape[-1] == pooler.features
    assert pooled.attention.shape == (2, 3)


def check_transform(transform: Any) -> None:
    assert isinstance(transform, EmbeddingTransform)
    transform.fit(torch.randn(9, 5))
    assert transform(torch.zeros(2, 5)).shape == (2, 5)


def check_norm(norm: Any) -> None:
    assert isinstance(norm, Norm)
    assert norm.live or norm.convert is None


def check_fusion(fusion: Any) -> None:
    assert isinstance(fusion, Fusion)
    arguments = torch.zeros(2, 7), torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    assert fusion(torch.zeros(2, 5), *arguments).shape == (2, fusion.features)
    assert fusion(torch.zeros(2, 4, 5), *arguments).shape == (2, 4, fusion.features)


def check_encoder(encoder: Any) -> None:
    """What it builds is in tests/models/test_encoders.py; here that its record is whole, or says what is missing."""
    assert isinstance(encoder, Encoder)
    assert encoder.terms.licence
    assert encoder.terms.source
    assert encoder.architecture or encoder.built_by
    assert (encoder.features and encoder.size_px) or not encoder.architecture
    assert encoder.files or encoder.unchecked


def check_pretraining(objective: Any) -> None:
    """What it minimises is in tests/train/test_pretraining.py; here that it gives one number for a batch."""
    numbers = torch.arange(4)
    assert objective([torch.randn(4, 5) for _ in range(objective.views)], numbers, numbers).shape == ()


def check_drawer(drawer: Any) -> None:
    """What it draws is in tests/train/test_synthesis.py; here what it asks for."""
    assert list(inspect.signature(drawer).parameters) == ["material", "rng"]


def check_file_layout(layout: Any) -> None:
    """What it writes is in tests/features/test_feature_writing.py."""
    assert isinstance(layout, FileLayout)
    assert layout.dtype in {"float16", "float32"}


def check_schedule(schedule: Any) -> None:
    assert isinstance(schedule, torch.optim.lr_scheduler.LRScheduler)


def check_loss(measure: Any) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0], [0.0, 1.0, -2.0]], requires_grad=True)
    loss = measure(logits, torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def check_fit(fit: Any) -> None:
    """Of three images: a temperature, or weights of the classes."""
    fitted = np.asarray(fit(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array(list("abc"))))
    assert np.isfinite(fitted).all()
    assert (fitted > 0).all()


def check_head(solver: Any) -> None:
    """What it solves is in tests/train/test_heads.py; here that it solves at each of its strengths."""
    x = np.random.default_rng(0).normal(size=(8, 3))
    solve = solver.open_path(x, np.arange(8) % 2, np.ones(8))
    assert list(solver.strengths) == sorted(solver.strengths, reverse=True)
    assert all(np.isfinite(solve(strength)(x)).all() for strength in solver.strengths)


def check_ensemble(combine: Any) -> None:
    """It is tested on tables in test_ensembles.py and test_stacking.py."""
    assert list(inspect.signature(combine).parameters)[:2] == ["members", "classes"]


def check_search(search: Any) -> None:
    """What it finds is in tests/train/test_policies.py; here what it asks for."""
    assert list(inspect.signature(search).parameters) == ["training", "inner", "operations", "seed", "progress"]


def check_criterion(answer: Any) -> None:
    """On two images: how suspicious each is, or why that cannot be said."""
    assert answer.reason if isinstance(answer, NotApplicable) else answer.values.shape == answer.named.shape == (2,)


def make_evidence() -> Evidence:
    scores = np.array([[[0.9, 0.1], [0.6, 0.4]]])
    return Evidence(("i", "j"), np.array(["c", "d"]), ("a", "b"), np.array([0, 1]), scores)


Arguments = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
REGISTRIES: dict[str, tuple[Registry[Any], Arguments, Callable[[Any], None]]] = {
    "CRITERIA": (CRITERIA, lambda: ((make_evidence(),), {}), check_criterion),
    "CHECKS": (CHECKS, lambda: ((make_cohort(), Digest(make_cohort(), [])), {}), check_check),
    "METRICS": (METRICS, lambda: (([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), {}), check_metric),
    "AUGMENTATIONS": (AUGMENTATIONS, lambda: ((), {}), check_augmentation),
    "STAINS": (STAINS, lambda: ((), {}), check_stain),
    "DESCRIPTIONS": (DESCRIPTIONS, lambda: ((), {}), check_description),
    "ENCODERS": (ENCODERS, lambda: ((), {}), check_encoder),
    "FILE_LAYOUTS": (FILE_LAYOUTS, lambda: ((), {}), check_file_layout),
    "POOLERS": (POOLERS, lambda: ((5, 3), {}), check_pooler),
    "PRETRAININGS": (PRETRAININGS, lambda: ((5, 4), {}), check_pretraining),
    "DRAWERS": (DRAWERS, lambda: ((), {}), check_drawer),
    "TRANSFORMS": (TRANSFORMS, lambda: ((5,), {}), check_transform),
    "NORMS": (NORMS, lambda: ((), {}), check_norm),
    "FUSIONS": (FUSIONS, lambda: ((5, 7, 8), {}), check_fusion),
    "LOSSES": (LOSSES, lambda: ((torch.tensor([5.0, 2.0, 0.0]),), {"weights": torch.ones(3)}), check_loss),
    "CALIBRATIONS": (CALIBRATIONS, lambda: ((), {}), check_fit),
    "DECISIONS": (DECISIONS, lambda: ((), {}), check_fit),
    "ENSEMBLES": (ENSEMBLES, lambda: ((), {}), check_ensemble),
    "HEADS": (HEADS, lambda: ((), {}), check_head),
    "SEARCHES": (SEARCHES, lambda: ((), {}), check_search),
    "SCHEDULES": (SCHEDULES, lambda: ((make_optimiser(),), {"epochs": 3, "patience": 3}), check_schedule),
}
# What a part of a kind cannot be built without, though the others can.
NEEDED = {"policy": {"file": str(Path(__file__).parents[1] / "examples" / "policy.yaml")}}
PARTS = [(name, entry.name) for name, (registry, _, _) in REGISTRIES.items() for entry in registry]


def test_every_registry_of_the_package_is_under_test() -> None:
    found = set()
    for file in Path(smalti.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(value, ast.Call) and ast.unparse(value.func) == "Registry":
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target  # type: ignore[union-attr]
                found.add(ast.unparse(target))
    assert found == set(REGISTRIES)


@pytest.mark.parametrize(("where", "name"), PARTS)
def test_a_part_says_what_it_is_and_builds(where: str, name: str) -> None:
    registry, arguments, check = REGISTRIES[where]
    entry = registry.find(name)
    assert entry.name == name
    assert name in registry
    assert 10 < len(entry.summary) <= 110
    assert "\n" not in entry.summary
    # A builder with options explains them; of a ready part the summary is enough.
    assert inspect.getdoc(entry.build) or not inspect.signature(entry.build).parameters
    args, kwargs = arguments()
    kwargs |= NEEDED.get(name, {})
    check(registry.build(name, *args, **kwargs))


@pytest.mark.parametrize(("where", "name"), PARTS)
def test_wrong_arguments_are_refused_with_those_that_exist(where: str, name: str) -> None:
    registry, arguments, _ = REGISTRIES[where]
    args, kwargs = arguments()
    kwargs |= NEEDED.get(name, {})
    with pytest.raises(PartError) as caught:
        registry.build(name, *args, **kwargs, no_such_argument=1)
    assert "no_such_argument" in str(caught.value)
    assert f"{registry.kind} '{name}'" in str(caught.value)
    takes = str(caught.value).partition("It takes: ")[2].split(", ")
    assert takes == (list(inspect.signature(registry.find(name).build).parameters) or ["no arguments"])


@pytest.mark.parametrize(("where", "name"), PARTS)
def test_a_slip_of_the_pen_suggests_the_part(where: str, name: str) -> None:
    registry, _, _ = REGISTRIES[where]
    middle = len(name) // 2  # names of a family differ at their end
    wrong = "x" if name[middle] == "_" else "_"
    slip = f"{name[:middle]}{wrong}{name[middle + 1 :]}" if len(name) > 3 else name + name[-1]
    assert slip not in registry
    with pytest.raises(PartError, match=rf"Did you mean '{name}'\?"):
        registry.find(slip)


@pytest.mark.parametrize("where", REGISTRIES)
def test_an_unknown_name_lists_what_there_is(where: str) -> None:
    registry, _, _ = REGISTRIES[where]
    with pytest.raises(PartError) as caught:
        registry.build("0")
    assert all(entry.name in str(caught.value) for entry in registry)


@pytest.mark.parametrize("where", REGISTRIES)
def test_a_name_can_be_taken_once(where: str) -> None:
    registry, _, _ = REGISTRIES[where]
    before = list(registry)
    with pytest.raises(PartError, match="registered twice"):
        registry.register(before[0].name, summary="again")(lambda: None)
    assert list(registry) == before


def test_a_failure_inside_a_builder_is_not_blamed_on_its_arguments() -> None:
    registry: Registry[int] = Registry("thing")

    @registry.register("broken", summary="raises")
    def build_broken() -> int:
        raise TypeError("from inside")

    with pytest.raises(TypeError, match="from inside"):
        registry.build("broken")


def test_the_schedules_that_a_recipe_admits_are_those_registered() -> None:
    assert set(typing.get_args(Phase.model_fields["schedule"].annotation)) == {entry.name for entry in SCHEDULES}


def test_an_error_holds_its_fix_as_a_field() -> None:
    with pytest.raises(PartError) as caught:
        Registry[int]("spice").find("salt")
    assert caught.value.fix == "see 'smalti parts'"
    assert str(caught.value) == f"{caught.value.message} Fix: see 'smalti parts'"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.message, again.fix) == (str(caught.value), caught.value.message, caught.value.fix)
