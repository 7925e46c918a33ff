"""The model folder: what is in it, the same bytes again, and one clear error for whatever is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from handed import RECIPES, Handed
from smalti.errors import RunError, SmaltiError
from smalti.model import export_model, find_obstacle, load_model, read_model
from smalti.recipe import load_recipe
from smalti.records import ModelRecord

Damage = Callable[[Path], object]


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change ``model.json`` by hand."""
    path = folder / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def find_weights(folder: Path) -> Path:
    """A weights file of a model."""
    return sorted(folder.rglob("*.safetensors"))[0]


def cut(path: Path) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[:-50])


DAMAGES: dict[str, Damage] = {
    "no model": lambda folder: (folder / "model.json").unlink(),
    "cut record": lambda folder: cut(folder / "model.json"),
    "older": lambda folder: edit(folder, lambda content: content.update(version=0)),
    "newer": lambda folder: edit(folder, lambda content: content.update(version=2)),
    "a key too many": lambda folder: edit(folder, lambda content: content.update(more=1)),
    "leaves the folder": lambda folder: edit(folder, lambda content: content["files"].update({"../../x": "0"})),
    "no rules": lambda folder: edit(folder, lambda content: content["members"][0].update(rules=[])),
    "no networks": lambda folder: edit(folder, lambda content: content["members"][0].update(networks=[])),
    "no members": lambda folder: edit(folder, lambda content: content.update(members=[])),
    "twice the same": lambda folder: edit(folder, lambda content: content.update(members=content["members"] * 2)),
    "a frame of one number": lambda folder: edit(
        folder, lambda content: content["members"][0]["networks"][0].update(reference=[[1.0]])
    ),
    "no backbone": lambda folder: edit(folder, lambda content: content["members"][0].update(backbone=None)),
    "a member from nowhere": lambda folder: edit(
        folder, lambda content: content["members"].append(content["members"][0] | {"name": "x", "members": ["y"]})
    ),
    "no hash": lambda folder: edit(folder, lambda content: content["files"].popitem()),
    "cut weights": lambda folder: cut(find_weights(folder)),
    "no weights": lambda folder: find_weights(folder).unlink(),
    "no recipe": lambda folder: shutil.rmtree(folder / "recipes"),
    "another recipe": lambda folder: next((folder / "recipes").glob("*.yaml")).write_text("{}", encoding="utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_a_model_is_one_error_with_the_fix(damage: str, handed: Handed, tmp_path: Path) -> None:
    folder = shutil.copytree(handed.models / "colour", tmp_path / "copy")
    load_model(folder)
    DAMAGES[damage](folder)
    with pytest.raises(RunError, match=r"Fix: ") as told:
        load_model(folder)
    assert str(folder) in str(told.value)


def test_an_architecture_that_is_no_network_here_is_not_looked_for_elsewhere(handed: Handed, tmp_path: Path) -> None:
    folder = shutil.copytree(handed.models / "steps", tmp_path / "copy")
    for name in ("hf-hub:timm/test_resnet.r160_in1k", "test_resnet_of_tomorrow"):
        edit(folder, lambda content, name=name: content["members"][0]["backbone"].update(architecture=name))
        with pytest.raises(SmaltiError, match=r"has no network.*Fix: "):
            load_model(folder)


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_holds_plain_files_that_are_all_named(name: str, handed: Handed) -> None:
    folder = handed.models / name
    record = read_model(folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {*record.files, "model.json"} | (files & {"README.md"})
    assert {Path(file).suffix for file in files} <= {".safetensors", ".yaml", ".json", ".md", ".npz", ".csv"}
    assert record.name == name
    assert record.scores is not None
    assert record.scores.interval.reason
    assert (record.population, record.unit) == ("out-of-fold", "image")
    assert "torch" in record.libraries
    last = record.members[-1]
    assert bool(last.blends) == bool(last.members) == (name in ("pair", "both", "joined"))
    text = (folder / "model.json").read_text(encoding="utf-8")
    assert "runs-of-models" not in text  # nor does it say where it was made


def test_a_frozen_backbone_is_kept_once(handed: Handed) -> None:
    for name, count in (("attention", 1), ("both", 1), ("pair", 1), ("finetuned", 0), ("colour", 0)):
        assert len(list((handed.models / name).rglob("backbone-*.safetensors"))) == count, name
    record = read_model(handed.models / "both")
    assert [member.name for member in record.members] == [
        "both/attention", "both/pair/colour", "both/pair/network", "both/pair", "both",
    ]  # fmt: skip
    assert record.members[-1].members == ("both/attention", "both/pair")
    for member in record.members:
        for blend in member.blends:
            assert set(blend.weights or {}) == set(member.members)
    frozen = safetensors.torch.load_file(next((handed.models / "attention").rglob("backbone-*")))
    assert not any(name.startswith("head.") for name in frozen)


def test_the_same_run_makes_the_same_bytes(handed: Handed) -> None:
    assert (handed.models / "colour" / "model.json").read_bytes() == handed.again


def test_a_model_is_exported_whole_and_over_nothing(handed: Handed, tmp_path: Path) -> None:
    source = handed.models / "pair"
    copy = export_model(source, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}
    for path in source.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(source)).read_bytes() == path.read_bytes()
    with pytest.raises(RunError, match=r"holds something.*Fix: "):
        export_model(source, copy)
    (tmp_path / "empty").mkdir()
    assert read_model(export_model(source, tmp_path / "empty")) == ModelRecord.read(source)
    cut(find_weights(copy))
    with pytest.raises(RunError, match="Fix: "):
        export_model(copy, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_run_folder_that_cannot_be_handed_on_says_why(tmp_path: Path) -> None:
    recipe = load_recipe(settings=["ensemble.members=[a,b]", "ensemble.method=stack_ovr"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    with pytest.raises(RunError, match=r"stack_ovr keeps no coefficients.*Fix: weighed"):
        export_model(tmp_path, tmp_path / "model")
    with pytest.raises(RunError, match=r"is no run folder and holds no model"):
        export_model(tmp_path / "nothing", tmp_path / "model")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("ensemble.members=[a]", "ensemble.method=stack_xgboost"), "stack_xgboost"),
        (("portfolio.members=standard", "ensemble.method=stack_multinomial"), "stack_multinomial"),
        (("tile.other_masks=true",), "tile.other_masks"),
        (("ensemble.method=stack_ovr",), ""),
        (("ensemble.members=[a]", "ensemble.method=weighed"), ""),
    ],
)
def test_what_cannot_be_handed_on_is_named(settings: tuple[str, ...], why: str) -> None:
    found = find_obstacle(load_recipe(settings=settings))
    assert (found is not None) == bool(why)
    assert found is None or why in found.message
