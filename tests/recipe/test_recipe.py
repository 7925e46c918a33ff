"""Recipes: every knob described and read, presets that load, refusals that name the way out."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import smalti
from smalti.errors import RecipeError
from smalti.recipe import Recipe, Section, list_documents, list_knobs, load_recipe, overlay_recipe

SOURCE = Path(smalti.__file__).parent


def read_knob(recipe: Recipe, knob: str) -> object:
    value: object = recipe
    for name in knob.split("."):
        value = getattr(value, name)
    return value


def list_sections(root: type[Section] = Recipe) -> dict[str, type[Section]]:
    """Dotted name of every section."""
    found: dict[str, type[Section]] = {}
    for name, info in root.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found[name] = kind
            found |= {f"{name}.{deeper}": section for deeper, section in list_sections(kind).items()}
    return found


@functools.cache
def names_read(file: Path) -> set[str]:
    """Attributes that a module reads, and what ``model_dump(include=...)`` names."""
    read: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            read.add(node.attr)
        if isinstance(node, ast.keyword) and node.arg == "include" and isinstance(node.value, ast.Set):
            read |= {str(e.value) for e in node.value.elts if isinstance(e, ast.Constant)}
    return read


# --- knobs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knob", list_knobs())
def test_every_knob_is_described_and_read(knob: str) -> None:
    assert len(list_knobs()[knob]) > 5
    files = [f for f in SOURCE.rglob("*.py") if f != SOURCE / "recipe.py"]
    assert any(knob.rpartition(".")[2] in names_read(f) for f in files), f"nothing reads {knob}"


def test_listed_knobs_are_those_of_the_resolved_recipe() -> None:
    def walk(values: dict[str, object], prefix: str = "") -> set[str]:
        names: set[str] = set()
        for key, value in values.items():
            names |= walk(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
        return names

    assert walk(yaml.safe_load(load_recipe().to_yaml())) == set(list_knobs())


@pytest.mark.parametrize("section", list_sections())
def test_every_section_is_frozen_and_refuses_unknown_knobs(section: str) -> None:
    one = read_knob(load_recipe(), section)
    assert isinstance(one, Section)
    name = next(iter(type(one).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(one, name, None)
    with pytest.raises(RecipeError, match=rf"{section}\.no_such_thing: there is no such knob"):
        load_recipe(settings=[f"{section}.no_such_thing=1"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("train.finetune.epoch", "train.finetune.epochs"),
        ("tile.overlap", "tile.overlap_frac"),
        ("model.poolr", "model.pooler"),
        ("split.fold", "split.folds"),
        ("evaluate.resample", "evaluate.resamples"),
    ],
)
def test_an_unknown_knob_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(RecipeError, match=rf"Did you mean {right}\?"):
        load_recipe(settings=[f"{wrong}=1"])


def test_every_wrong_knob_is_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(settings=["tile.sise_px=64", "train.lr=1", "split.inner_frac=0.9"])
    assert all(name in str(caught.value) for name in ("tile.sise_px", "train.lr", "split.inner_frac"))


# --- presets and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", list_documents("preset"))
def test_a_preset_loads_under_its_name_and_survives_yaml(preset: str, tmp_path: Path) -> None:
    recipe = load_recipe(preset)
    assert recipe.preset == preset
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(file) == recipe


@pytest.mark.parametrize("preset", ["default", "start", "quick", "demo"])
def test_a_preset_that_the_commands_name_is_listed(preset: str) -> None:
    assert preset in list_documents("preset")


@pytest.mark.parametrize("file", sorted((SOURCE / "presets").glob("*.yaml")), ids=lambda f: f.stem)
def test_a_preset_opens_with_a_comment_and_sets_what_it_says(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# ")
    loaded = yaml.safe_load(load_recipe(file.stem).to_yaml())

    def check(wanted: dict[str, object], found: dict[str, object]) -> None:
        for key, value in wanted.items():
            if isinstance(value, dict):
                inner = found[key]
                assert isinstance(inner, dict)
                check(value, inner)
            else:
                assert found[key] == value

    check(yaml.safe_load(text), loaded)


def test_a_file_lies_over_its_preset_and_settings_over_both(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: start\ntrain:\n  finetune:\n    lr: 0.5\n", encoding="utf-8")
    below, recipe = load_recipe("start"), load_recipe(file, settings=["train.finetune.epochs=3"])
    assert recipe.preset == "start"
    assert (recipe.train.finetune.lr, recipe.train.finetune.epochs) == (0.5, 3)
    changed = {"train.finetune.lr", "train.finetune.epochs"}
    assert {k for k in list_knobs() if read_knob(recipe, k) != read_knob(below, k)} == changed
    assert below.tile.source == recipe.tile.source == "mask_box"


def test_an_overlay_changes_only_what_it_names() -> None:
    recipe = load_recipe("default", settings=["split.folds=3", "train.refit=false"])
    over = overlay_recipe(recipe, "scratch")
    assert over == load_recipe("default", settings=["split.folds=3", "train.refit=false"], overlays=["scratch"])
    assert not over.model.pretrained
    assert (over.split, over.train.refit, over.preset) == (recipe.split, False, "default")


def test_settings_win_over_overlays_and_later_settings_over_earlier() -> None:
    recipe = load_recipe(overlays=["scratch"], settings=["tile.size_px=96", "model.dropout=0.3", "model.dropout=0.5"])
    assert (recipe.tile.size_px, recipe.model.dropout) == (96, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tile: [1, 2", "not valid YAML"),
        ("- a\n- b\n", "holds no mapping"),
        ("preset: nowhere\n", "no preset is called 'nowhere'"),
        ("preset: 3\n", "no preset is called '3'"),
        ("preset: ../start\n", "no preset is called"),
        ("tile: 5\n", "tile"),
        ("tile:\n  size_px: 8\n", "greater than 15"),
        ("train: {transfer: {epochs: 0}, finetune: {epochs: 0}}\n", "nothing would be learned"),
        ("split: {seeds: [1, 1]}\n", "seeds must differ"),
        ("split: {seeds: []}\n", "split.seeds"),
        ("split: {seeds: [-1]}\n", "split.seeds.0"),
        ("split: {folds: 1}\n", "folds must be 2 or more"),
        ("train: {finetune: {lr: .nan}}\n", "train.finetune.lr"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_name(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert words in str(caught.value)
    assert "odd.yaml" in str(caught.value) or "preset" in text


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe file at .*gone\.yaml"):
        load_recipe(tmp_path / "gone.yaml")
    with pytest.raises(RecipeError, match=r"no preset is called 'strat'\. Fix: one of .*start"):
        load_recipe("strat")
    (tmp_path / "latin.yaml").write_bytes(b"tile: {source: \xe4}")
    with pytest.raises(RecipeError, match=r"latin.yaml cannot be read.*UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_recipe(tmp_path / "empty.yaml") == load_recipe()


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "knob", "value"),
    [
        ("train.finetune.lr=1e-4", "train.finetune.lr", 1e-4),
        ("split.folds=auto", "split.folds", "auto"),
        ("split.folds=3", "split.folds", 3),
        ("split.seeds=[0, 7]", "split.seeds", (0, 7)),
        ("tile.max_tiles=null", "tile.max_tiles", None),
        ("tile.max_tiles=", "tile.max_tiles", None),
        ("model.pretrained=false", "model.pretrained", False),
        ("model.weights=a/b=c.safetensors", "model.weights", Path("a/b=c.safetensors")),
        ("data.label= my column ", "data.label", "my column"),
        ("data.label=2024", "data.label", "2024"),
        ("data.label=null", "data.label", None),
        ("data.positive=1.0", "data.positive", "1.0"),
        ("data.positive=yes", "data.positive", "yes"),
        ("data.asked=[0, 01]", "data.asked", ("0", "01")),
        ("data.written=[0=no tumour, 1=yes]", "data.written", ("0=no tumour", "1=yes")),
        ("audit.accept=[blank, near-duplicate]", "audit.accept", ("blank", "near-duplicate")),
    ],
)
def test_a_setting_is_read_as_yaml(setting: str, knob: str, value: object) -> None:
    recipe = load_recipe(settings=[setting])
    assert read_knob(recipe, knob) == value
    assert {k for k in list_knobs() if read_knob(recipe, k) != read_knob(load_recipe(), k)} <= {knob}


@pytest.mark.parametrize("setting", ["split.folds", "=3", "", "split.folds=[3", "split=3", "..=1", "preset=quick"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(settings=[setting])


@given(
    folds=st.one_of(st.just("auto"), st.integers(2, 20)),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True),
    lr=st.floats(1e-9, 1e3),
    label=st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)),
)
@settings(deadline=None, max_examples=60)
def test_any_recipe_survives_yaml(folds: object, seeds: list[int], lr: float, label: str | None) -> None:
    values = {
        "split": {"folds": folds, "seeds": seeds},
        "train": {"finetune": {"lr": lr}},
        "data": {"label": label},
        "model": {"weights": "w/ö x.safetensors"},
    }
    recipe = Recipe.model_validate(values)
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe
