"""YAML that people wrote: whatever stands in it, a recipe is read or refused by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from smalti.errors import RecipeError, SmaltiError
from smalti.ladder.definition import load_ladder
from smalti.notation import parse_yaml
from smalti.recipe import load_recipe
from smalti.registry import read_options
from smalti.tune.space import load_space

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "number": "split: {folds: " + "9" * 5000 + "}",
    "date": "split: {folds: 2024-13-45}",
    "real date": "split: {folds: 2024-01-31}",
    "tagged": "split: {folds: !!int abc}",
    "tagged truth": "model: {pretrained: !!bool perhaps}",
    "tagged time": "split: {folds: !!timestamp yesterday}",
    "bytes": "model: {backbone: !!binary '###'}",
    "python": "model: {backbone: !!python/object/apply:os.system ['true']}",
    "deep list": "split: {seeds: " + "[" * 3000 + "]" * 3000 + "}",
    "deep mapping": "".join(" " * i + "a:\n" for i in range(2000)),
    "laughs": LAUGHS,
    "ring": "a: &a [*a]",
    "ring of mappings": "a: &a {b: *a}",
    "twice": "split: {folds: 2}\nmodel: {}\nsplit: {folds: 3}",
    "twice deeper": "split:\n  folds: 2\n  folds: 3\n",
    "no number": "split: {inner_frac: .nan}",
    "endless": "model: {hub_timeout_s: .inf}",
    "tab": "split:\n\tfolds: 2",
    "zero byte": "split: {folds: 2}\0",
    "list": "[1, 2]",
    "text": "some words",
    "number for a key": "1: 2",
    "list for a key": "? [a]\n: b",
    "nothing for a key": "? \n: b",
    "no section": "split: 3",
    "half a surrogate": 'model: {backbone: "\\ud800"}',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("read", [load_recipe, load_ladder, load_space])
def test_a_hostile_file_is_refused_by_name(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(RecipeError, match=r"(?s)mine\.yaml") as caught:
        read(path)
    assert len(str(caught.value)) < 20_000
    assert "Traceback" not in str(caught.value)


VALUES = ("9" * 5000, "2024-13-45", "2024-01-31", "!!int abc", "!!python/none x", "[" * 3000, "{a: 1, a: 2}", "&a [*a]")


@pytest.mark.parametrize("value", VALUES)
def test_a_hostile_setting_is_refused_by_name(value: str) -> None:
    with pytest.raises(RecipeError, match=r"split\.folds") as caught:
        load_recipe(settings=[f"split.folds={value}"])
    assert len(str(caught.value)) < 2000


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that would keep one waiting, bytes, nothing, too much."""
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "latin.yaml").write_bytes("preset: kräftig".encode("latin-1"))
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "much.yaml").write_text("# much\n" * 200_000, encoding="utf-8")
    for name in ("folder", "pipe", "latin", "empty", "much", "absent"):
        for read in (load_recipe, load_ladder, load_space):
            with pytest.raises(RecipeError, match=rf"{name}\.yaml.*|ladder|space") as caught:
                read(tmp_path / f"{name}.yaml")
            assert "Fix:" in str(caught.value)


def test_a_twice_given_key_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)'folds' is there twice.*line 3"):
        parse_yaml("split:\n  folds: 2\n  folds: 3\n", "mine")


def test_dates_stay_text_and_anchors_stand() -> None:
    assert parse_yaml("a: 2024-01-31", "x") == {"a": "2024-01-31"}
    assert parse_yaml("a: &s {b: 1}\nc: {<<: *s, d: 2}", "x") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_options_of_parts_are_read_the_same_way() -> None:
    with pytest.raises(RecipeError, match="option hidden"):
        read_options(("hidden=" + "9" * 5000,))


PLAIN = st.none() | st.booleans() | st.integers() | st.text("ab: {}[]&*!'\"\\#\n-", max_size=20)


@given(st.recursive(PLAIN, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("ab", max_size=3), part)))
@settings(max_examples=100, deadline=None)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value), "x") == value


@given(st.text("abc019.:-_[]{}&*!|>'\"%@`#?,\n\t \\~<=", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SmaltiError):
        load_recipe(settings=[f"split.folds={text}"])
