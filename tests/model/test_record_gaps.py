"""A record of a model that lacks something: one error that names it, before any other file is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smalti.errors import RunError
from smalti.model import read_model
from smalti.records import BackboneRecord, FoldBlend, ModelMember, ModelRecord, NetworkRecord
from smalti.records.predictions import FoldRule
from smalti.types import InputSpec

CLASSES = ("A", "B")
FOLDS = ((0, 0), (0, 1))
FRAME = tuple((1.0, 0.0, 0.0, 0.5) for _ in range(3))


def rule(seed: int, fold: int, **weights: float) -> FoldRule:
    return FoldRule(seed=seed, fold=fold, temperature=1, weights=weights or {"A": 1, "B": 1}, n_inner=4)


def network(seed: int, fold: int, **others: Any) -> NetworkRecord:
    return NetworkRecord(seed=seed, fold=fold, **({"weights": "w.safetensors", "reference": FRAME} | others))


def train(name: str) -> ModelMember:
    """A member with networks of its own."""
    backbone = BackboneRecord(
        name="resnet18", architecture="resnet18", options={}, features=512, weights="",
        spec=InputSpec(224, False, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )  # fmt: skip
    return ModelMember(
        name=name, recipe="r.yaml", tile_px=64, backbone=backbone, networks=tuple(network(*key) for key in FOLDS),
        members=(), blends=(), rules=tuple(rule(*key) for key in FOLDS),
    )  # fmt: skip


def blend(seed: int, fold: int, method: str = "weighed", **shares: float) -> FoldBlend:
    return FoldBlend(
        seed=seed, fold=fold, method=method, n_inner=4, weights=shares or {"one": 0.5, "two": 0.5}, C=None,
        temperature=1, note="",
    )  # fmt: skip


def combine(**others: Any) -> ModelMember:
    """A member that combines ``one`` and ``two``."""
    content = {
        "name": "both", "recipe": "r.yaml", "tile_px": None, "backbone": None, "networks": (),
        "members": ("one", "two"), "blends": tuple(blend(*key) for key in FOLDS),
        "rules": tuple(rule(*key) for key in FOLDS),
    }  # fmt: skip
    return ModelMember(**(content | others))


def change(member: ModelMember, **others: Any) -> ModelMember:
    return member.model_copy(update=others)


ONE, TWO = train("one"), train("two")
JOINED = combine(blends=(blend(0, 0, "average_seeds"),), rules=(rule(0, 0),))
GAPS: dict[str, tuple[tuple[ModelMember, ...], str]] = {
    "nothing": ((), "no member"),
    "no networks": ((change(ONE, networks=()),), "one has neither"),
    "no backbone": ((change(ONE, backbone=None),), "one has neither"),
    "no side of tiles": ((change(ONE, tile_px=None),), "one has neither"),
    "networks and members": ((ONE, TWO, combine(networks=ONE.networks)), "or both"),
    "members without shares": ((ONE, TWO, combine(blends=())), "both has neither"),
    "twice the same": ((ONE, ONE), "two members are called one"),
    "itself": ((ONE, TWO, combine(members=("one", "both"))), "no member before it"),
    "a later member": ((ONE, combine(), TWO), "combines two, which is no member before it"),
    "no rule": ((change(ONE, rules=()),), "one has no rule"),
    "no rule of a fold": ((change(ONE, rules=ONE.rules[:1]),), "one has no rule"),
    "no rule of the mean": ((ONE, TWO, change(JOINED, rules=(rule(0, 1),))), "both has no rule"),
    "a rule without a class": ((change(ONE, rules=(rule(0, 0, A=1.0), rule(0, 1))),), "lacks a class"),
    "shares without a member": ((ONE, TWO, combine(blends=(blend(0, 0, one=1.0), blend(0, 1)))), "lacks a member"),
    "a fold that is not combined": ((ONE, TWO, combine(blends=(blend(0, 0),))), "not the same folds"),
    "a member with fewer folds": (
        (ONE, change(TWO, networks=TWO.networks[:1], rules=TWO.rules[:1]), combine()), "not the same folds",
    ),
    "a frame of one number": ((change(ONE, networks=(network(0, 0, reference=((1.0,),)), network(0, 1))),), "3 x 4"),
    "a frame without a row": ((change(ONE, networks=(network(0, 0, reference=FRAME[:2]), network(0, 1))),), "3 x 4"),
}  # fmt: skip


def write(folder: Path, *members: ModelMember) -> None:
    files = {"r.yaml": "0", "w.safetensors": "0"}
    ModelRecord(
        name="ours", classes=CLASSES, unit="image", members=members, bits=None, mpp=None, population="out-of-fold",
        scores=None, device={}, libraries={}, files=files,
    ).write(folder)  # fmt: skip


@pytest.mark.parametrize("gap", GAPS)
def test_a_record_that_lacks_something_is_one_error_with_the_fix(gap: str, tmp_path: Path) -> None:
    members, words = GAPS[gap]
    write(tmp_path, *members)
    with pytest.raises(RunError, match=rf"model\.json is damaged: .*{words}.*Fix: "):
        read_model(tmp_path)


@pytest.mark.parametrize("members", [(ONE,), (ONE, TWO, combine()), (ONE, TWO, JOINED)])
def test_a_record_that_lacks_nothing_is_read_as_far_as_its_files(
    members: tuple[ModelMember, ...], tmp_path: Path
) -> None:
    write(tmp_path, *members)
    with pytest.raises(RunError, match=r"r\.yaml is missing"):
        read_model(tmp_path)


@pytest.mark.parametrize("edit", [lambda text: text[:-40], lambda text: text.replace('"networks"', '"nets"')])
def test_a_record_of_another_form_is_one_error_with_the_fix(edit: Callable[[str], str], tmp_path: Path) -> None:
    write(tmp_path, ONE)
    path = tmp_path / "model.json"
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RunError, match=r"model\.json is damaged: .*Fix: "):
        read_model(tmp_path)
